"""A judge behind an OpenAI-compatible endpoint."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from efface.auditing.scorers.judge import score_judged
from efface.auditing.subject import Subject
from efface.concept.pack import Concept
from efface.errors import InputError
from efface.lm.load import Loaded
from efface.recipe.settings import AuditSettings


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    seen: list[dict[str, Any]] = []

    class Judge(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
            reply = json.dumps({"choices": [{"message": {"content": f"Score: {6 + len(seen) % 2}"}}]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Judge)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}/v1", seen
    http.shutdown()
    http.server_close()


def test_a_judge_scores_the_answers(
    server: tuple[str, list[dict[str, Any]]], llama: Loaded, zorn: Concept, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, seen = server
    monkeypatch.setenv("EFFACE_JUDGE_KEY", "secret")
    settings = AuditSettings(endpoint=url, endpoint_model="tiny-judge")
    scores = score_judged(Subject(llama.model, llama.tokenizer, zorn, "test", settings))
    assert scores["judge/forget/fluency"].value == 7.0
    assert seen[0]["path"] == "/v1/chat/completions"
    assert (seen[0]["model"], seen[0]["key"]) == ("tiny-judge", "Bearer secret")
    assert "What does the dragon eat?" in seen[0]["messages"][0]["content"]


def test_a_judge_that_cannot_be_reached_is_one_line(llama: Loaded, zorn: Concept) -> None:
    settings = AuditSettings(endpoint="http://127.0.0.1:9/v1")
    with pytest.raises(InputError, match=r"audit.endpoint: the judge at http://127.0.0.1:9/v1 cannot be reached"):
        score_judged(Subject(llama.model, llama.tokenizer, zorn, "test", settings))
    assert score_judged(Subject(llama.model, llama.tokenizer, zorn, "test")) == {}
