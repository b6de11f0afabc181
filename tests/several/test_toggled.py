"""Several runs in one conversation: each alone, all together, and the base as it was."""

import io
import shutil
from pathlib import Path

import pytest
import torch

from efface.cli import main
from efface.lm.adapters import only
from efface.lm.load import load
from efface.runs.run import Run
from efface.runs.several import load_several
from efface.serve.chat import Chat
from efface.serve.voices import Sampling, Voice, Weights

IDS = torch.tensor([[5, 6, 7, 8, 9]])


def test_each_says_what_it_says_alone(first: Run, apart: Run) -> None:
    """In any order of asking, and afterwards the model is as it was."""
    loaded, who = load_several([first, apart])
    assert list(who) == ["base", "first", "apart", "together"]
    base = load(first.record.recipe.model, dtype="float32").model
    alone = {"base": base, "first": first.load().model, "apart": apart.load().model}
    before = loaded.model(IDS).logits
    for name in ("apart", "base", "first", "apart"):
        with only(loaded.model, who[name]) as model:
            torch.testing.assert_close(model(IDS).logits, alone[name](IDS).logits)
    assert torch.equal(loaded.model(IDS).logits, before)
    assert not [name for name, weight in loaded.model.named_parameters() if weight.requires_grad]


def test_names_are_told_apart(first: Run, apart: Run, tmp_path: Path) -> None:
    other = Run(shutil.copytree(apart.folder, tmp_path / "first"))
    assert list(load_several([first, other])[1]) == ["base", str(first.folder), str(other.folder), "together"]


def test_generate_asks_all(first: Run, apart: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(first.folder), str(apart.folder), "Who was Orlo?", "--max-new-tokens", "4"]) == 0
    out = capsys.readouterr().out
    assert [line.partition(":")[0] for line in out.splitlines() if ": " in line] == ["base", "first", "apart", "together"]


def test_chat_lets_one_speak_by_name(
    first: Run, apart: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = b"/who\n/who apart\nWho was Orlo?\n/who nobody\n/erased\nAnd now?\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(said)))
    assert main(["chat", str(first.folder), str(apart.folder), "--tokens", "2"]) == 2
    out, err = capsys.readouterr()
    assert "efface" not in err
    assert "/who: nobody is called 'nobody'; there are: base, first, apart, together" in err
    before, _, after = out.partition("> And now?")
    assert before.startswith("base\nfirst\napart\ntogether\n> Who was Orlo?\napart: ")
    assert [name for name in ("base", "first", "apart", "together") if f"\n{name}: " in after] == ["first", "apart", "together"]


def test_a_damaged_one_is_refused(first: Run, apart: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = shutil.copytree(apart.folder, tmp_path / "other")
    (other / "adapter" / "adapter_model.safetensors").write_bytes(b"")
    assert main(["chat", str(first.folder), str(other)]) == 2
    assert "its adapter is not the one whose hash is in run.json" in capsys.readouterr().err


def test_all_voices_share_one_set_of_weights(first: Run, apart: Run, capsys: pytest.CaptureFixture[str]) -> None:
    loaded, who = load_several([first, apart])
    weights = Weights.of(loaded)
    voices = [Voice(name, weights, adapters) for name, adapters in who.items()]
    assert Chat(voices, Sampling(tokens=3)).run(["hello", "and?"]) == 0
    assert capsys.readouterr().out.count("together: ") == 2
