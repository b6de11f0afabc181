"""A conversation, as it is typed or comes through a pipe."""

import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from efface.cli import main
from efface.lm.layers import text_config
from efface.serve import chat as room
from efface.serve.chat import Chat, talk, typed
from efface.serve.voices import Sampling, Voice, Weights

Pair = tuple[Voice, Voice]


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Who was asked what, in the model's chat format; everybody answers with a word and an escape sequence."""
    asked = []

    def stream(voice: Voice, ids: list[int], how: Sampling) -> Iterator[str]:
        asked.append((voice.name, voice.weights.loaded.tokenizer.decode(ids)))
        yield " so"
        yield f" so\x1b[2J {how.temperature:g}"

    monkeypatch.setattr(room, "stream", stream)
    return asked


def test_base_and_erased_answer_what_comes_through_a_pipe(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Who was Orlo?\n\n\xff\n")))
    assert talk(Chat(pair, Sampling(tokens=8))) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    asked = [line for line in lines if line.startswith("> ")]
    assert asked == ["> Who was Orlo?", "> \ufffd"]
    assert [out.count(f"\n{name}: ") for name in ("base", "erased")] == [2, 2]
    assert "\x1b" not in out
    assert err == ""


def test_nothing_that_a_model_says_steers_the_terminal(
    pair: Pair, prompts: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    Chat(pair).run(["hello"])
    assert capsys.readouterr().out == "base: so\\x1b[2J 0\nerased: so\\x1b[2J 0\n"


def test_each_has_a_history_of_its_own(pair: Pair, prompts: list[tuple[str, str]]) -> None:
    Chat(pair).run(["1", "/base", "2", "/erased", "3", "/both", "/system Be brief.", "4", "/reset", "/system", "5"])
    said = "<|assistant|> so\x1b[2J 0<|end|>"

    def turns(*asked: str, system: str = "") -> str:
        return system + said.join(f"<|user|>{of}<|end|>" for of in asked) + "<|assistant|>"

    brief = "<|system|>Be brief.<|end|>"
    assert prompts == [
        ("base", turns("1")),
        ("erased", turns("1")),
        ("base", turns("1", "2")),
        ("erased", turns("1", "3")),
        ("base", turns("1", "2", "4", system=brief)),
        ("erased", turns("1", "3", "4", system=brief)),
        ("base", turns("5")),
        ("erased", turns("5")),
    ]


def test_what_was_said_is_saved_once(pair: Pair, prompts: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "said.json"
    lines = ["/erased", "/temperature 0.5", "hello", f"/save {file}"]
    assert Chat(pair, system="Be brief.").run(lines) == 0
    said = json.loads(file.read_text())
    assert said["temperature"] == 0.5
    assert said["said"]["base"] == [{"role": "system", "content": "Be brief."}]
    assert [turn["content"] for turn in said["said"]["erased"]] == ["Be brief.", "hello", " so\x1b[2J 0.5"]
    before = file.read_bytes()
    assert Chat(pair).run([f"/save {file}", f"/save {tmp_path}/no/where"]) == 2
    err = capsys.readouterr().err
    assert "is there already; name another file" in err
    assert len(err.splitlines()) == 2
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/bose", "no command /bose; there are: /base, /erased, /both"),
        ("/temperature warm", "/temperature: expected a number from 0 on, got 'warm'"),
        ("/temperature nan", "/temperature: expected a number from 0 on, got 'nan'"),
        ("/temperature -1", "/temperature: expected a number from 0 on, got '-1'"),
        ("/save", "/save: expected the name of a file"),
        ("why? " * 300, "has 256 positions; ask a shorter one"),
    ],
)
def test_a_line_that_is_wrong_is_told_and_the_talk_goes_on(
    pair: Pair, prompts: list[Any], capsys: pytest.CaptureFixture[str], line: str, says: str
) -> None:
    assert Chat(pair).run([line, "hello"]) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert err.count("\n") == 1
    assert len(prompts) == 2, "only what was right was asked"
    assert out.count("so") == 2


def test_the_oldest_turns_go_where_there_is_no_room(
    pair: Pair, prompts: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    Chat(pair, Sampling(tokens=64), "Be brief.").run([f"question {i}, of the blue dragon of Zorn in its tower" for i in range(9)])
    shown = [text for name, text in prompts if name == "base"]
    tokenizer, room = pair[0].weights.loaded.tokenizer, text_config(pair[0].weights.loaded.model).max_position_embeddings
    assert all(len(tokenizer(text, add_special_tokens=False)["input_ids"]) + 64 <= room for text in shown)
    assert all(text.startswith("<|system|>Be brief.<|end|><|user|>question") for text in shown)
    assert "question 8" in shown[-1]
    assert "question 7" in shown[-1]
    assert "question 0" not in shown[-1]
    assert "base: no room for the whole conversation; its 2 oldest turns are dropped" in capsys.readouterr().err


def test_a_model_without_a_chat_format_goes_on_with_a_text(
    pair: Pair, prompts: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = pair[0].weights.loaded
    loaded.tokenizer.chat_template = None
    assert Chat([Voice("model", Weights.of(loaded))]).run(["The dragon", "and then", "/system Be brief.", "/both"]) == 2
    assert [text for _, text in prompts] == ["The dragon", "The dragon so\x1b[2J 0\nand then"]
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 3
    assert "it has no chat format: your text is gone on with" in err[0]
    assert "nothing can stand before a conversation" in err[1]
    assert "there is one model here" in err[2]


def test_control_c_stops_the_answer_not_the_program(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stream(voice: Voice, ids: list[int], how: Sampling) -> Iterator[str]:
        yield "once"
        os.kill(os.getpid(), signal.SIGINT)
        yield "once upon"
        yield "once upon a time"

    monkeypatch.setattr(room, "stream", stream)
    before, chat = signal.getsignal(signal.SIGINT), Chat(pair)
    assert chat.run(["hello", "/erased", "hello"]) == 0
    assert capsys.readouterr().out == "base: once upon\nerased: once upon\n"
    assert chat.history == {name: [("user", "hello"), ("assistant", "once upon")] for name in ("base", "erased")}
    assert signal.getsignal(signal.SIGINT) is before


def test_at_the_prompt_control_c_drops_the_line_and_control_d_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = iter(["one", KeyboardInterrupt, "two", EOFError, "three"])

    def typing(_: str) -> str:
        key = next(keys)
        if isinstance(key, str):
            return key
        raise key

    monkeypatch.setattr("builtins.input", typing)
    assert list(typed()) == ["one", "two"]


def test_quit_ends(pair: Pair, prompts: list[Any]) -> None:
    Chat(pair).run(["/quit", "hello"])
    assert prompts == []


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "chat: "),
        (["runs/none"], "chat: no run 'runs/none', and no model"),
        (["m", "--eta", "3"], "chat: --eta and --guide-min-p go with MODEL --concept PACK"),
        (["m", "--temperature", "inf"], "chat: --temperature: expected a number from 0 on, got inf"),
        (["m", "--tokens", "0"], "chat: --tokens: expected a number from 1 on, got 0"),
        (["m", "--concept", "atlantis"], "no concept pack 'atlantis'"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(
    args: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["chat", *args]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_a_concept_is_erased_while_a_model_talks(
    model_folders: dict[str, Path], pack_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Who was Orlo?\n"))
    args = ["--concept", str(pack_folder), "--eta", "30", "--tokens", "12"]
    assert main(["chat", str(model_folders["llama"]), *args]) == 0
    _, base, erased = (line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert (base[0], erased[0]) == ("base", "erased at decoding time, eta 30")
    assert base[1] != erased[1]
