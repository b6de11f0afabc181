"""A judge behind an OpenAI-compatible endpoint."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from efface.auditing.pair import check
from efface.auditing.scorers.judge import score_judged
from efface.auditing.subject import Subject
from efface.concept.pack import Concept
from efface.errors import InputError
from efface.lm import endpoint
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


def test_a_judge_that_cannot_be_reached_is_asked_again_then_left_out_and_named(
    llama: Loaded, zorn: Concept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited = list[float]()
    monkeypatch.setattr(endpoint.time, "sleep", waited.append)
    settings = AuditSettings(endpoint="http://127.0.0.1:9/v1")
    assert score_judged(Subject(llama.model, llama.tokenizer, zorn, "test", settings)) == {}
    assert waited == list(endpoint.PAUSES)
    said = "judge/forget/fluency is left out: audit.endpoint: the judge at http://127.0.0.1:9/v1 cannot be reached"
    assert said in capsys.readouterr().err
    with pytest.raises(InputError, match="cannot be reached"):  # before any work it is asked once
        check(settings)
    assert waited == list(endpoint.PAUSES)
    assert score_judged(Subject(llama.model, llama.tokenizer, zorn, "test")) == {}


def test_a_judge_that_fails_once_is_asked_again(
    server: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = server
    reply, asked = endpoint.Endpoint._reply, list[str]()

    def once(judge: endpoint.Endpoint, prompt: str, how: dict[str, Any]) -> str:
        asked.append(prompt)
        if len(asked) == 1:
            raise InputError("busy")
        return reply(judge, prompt, how)

    monkeypatch.setattr(endpoint.Endpoint, "_reply", once)
    monkeypatch.setattr(endpoint.time, "sleep", lambda _: None)
    assert endpoint.Endpoint(url, "m", "the judge").ask("Rate this.").startswith("Score: ")
    assert len(asked) == 2
