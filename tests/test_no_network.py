"""Nothing leaves the machine, whatever verb is given, where model and pack are on it; only a push and a fetch want a network."""

import asyncio
import io
import socket
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from efface.cli import VERBS, main

pytestmark = pytest.mark.slow
ASKS = {"push", "model fetch"}
TRAINED = [
    *("--data.max-tokens", "24", "--data.kept", "2", "--data.neighbours", "2", "--fluency.texts", "2", "--fluency.tokens", "8"),
    *("--lora.layers", "1-2", "--lora.rank", "2", "--dtype", "float32", "--train.steps", "2", "--train.batch-size", "2"),
]
MEASURED = ["--audit.samples", "0"]
#: in an order in which each finds what it reads
COMMANDS = {
    "concept list": [],
    "concept show": ["{pack}"],
    "concept check": ["{pack}", "--model", "{model}"],
    "concept tasks": ["{pack}", "--to", "tasks"],
    "concept new": ["Orlo", "--to", "new"],
    "concept write": ["{model}", "Orlo", "--force"],  # which says nothing of it, as is said
    "prepare": ["{model}", "{pack}", *TRAINED],
    "erase": ["{model}", "{pack}", "--to", "run", *TRAINED, *MEASURED],
    "audit": ["run"],
    "report": ["run"],
    "gate": ["run", "--max-forget", "1"],
    "reproduce": ["run", "--to", "again"],
    "compare": ["run", "again", "--to", "compared"],
    "tune": ["{model}", "{pack}", "--trials", "1", "--to", "search", *TRAINED, *MEASURED],
    "generate": ["run", "Who was Orlo?"],
    "chat": ["run", "--tokens", "4"],
    "play": ["run"],
    "export": ["run", "--to", "out"],
    "cache list": [],
    "cache clear": [],
    "model path": ["smollm2-135m"],  # not in the cache, which is said
}


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where anything wanted to connect to; nothing can."""
    wanted: list[str] = []

    def fail(*args: Any, **_: Any) -> None:
        wanted.append(repr(args[-1] if isinstance(args[0], socket.socket) else args[0]))
        raise OSError("no network")

    for owner, name in (
        (socket.socket, "connect"),
        (socket.socket, "connect_ex"),
        (socket, "create_connection"),
        (socket, "getaddrinfo"),
    ):
        monkeypatch.setattr(owner, name, fail)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return wanted


def test_no_verb_asks_for_a_network(
    tried: list[str],
    model_folders: dict[str, Path],
    pack_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("gradio")
    from efface.serve import playground

    async def build(of: Any) -> None:
        playground.application(of)

    monkeypatch.setattr(playground, "serve", lambda of, *_: asyncio.run(build(of)))
    assert {*COMMANDS, *ASKS} == set(VERBS), "a verb that is new is tried here too"
    monkeypatch.chdir(tmp_path)
    for verb, args in COMMANDS.items():
        monkeypatch.setattr("sys.stdin", io.StringIO("Who was Orlo?\n"))
        named = [arg.format(model=model_folders["llama"], pack=pack_folder) for arg in args]
        code = main([*verb.split(), *named])
        assert code == (2 if verb in ("model path", "concept write") else 0), f"{verb}: {capsys.readouterr().err}"
        assert tried == [], verb

    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert main(["push", "out", "me/name", "--private"]) == 2
    assert tried, "this one does, so the others would have been seen"
