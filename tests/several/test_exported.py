"""Several erasures in one export: those that stand on each other, and those that were made apart."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM

from efface.auditing.scores import Audit
from efface.cli import main
from efface.files import read_json
from efface.lm.adapters import only
from efface.release.export import Export, export
from efface.runs.pipeline import erase
from efface.runs.run import Run
from efface.runs.several import load_several
from tests.several.conftest import LIGHT

IDS = torch.tensor([[5, 6, 7, 8, 9]])


def logits(folder: Path) -> torch.Tensor:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(IDS).logits


@pytest.fixture(scope="session")
def joined(first: Run, apart: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export([first.folder, apart.folder], tmp_path_factory.mktemp("joined") / "both", dtype="fp32")


@pytest.fixture(scope="session")
def chain(second: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(second.folder, tmp_path_factory.mktemp("chain") / "both", dtype="fp32")


def test_what_stands_on_another_is_merged_with_it(chain: Path, second: Run) -> None:
    torch.testing.assert_close(logits(chain), second.load().model(IDS).logits)


def test_updates_made_apart_are_added(joined: Path, first: Run, apart: Run) -> None:
    """To the weights, in whatever order, and that is what both adapters together say."""
    base, both = (AutoModelForCausalLM.from_pretrained(of, dtype=torch.float32) for of in (first.record.recipe.model, joined))
    alone = [run.load().model.merge_and_unload() for run in (first, apart)]
    for name, weight in both.named_parameters():
        before = base.get_parameter(name)
        expected = before + sum(model.get_parameter(name) - before for model in alone)
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-5)
    loaded, who = load_several([apart, first])
    with only(loaded.model, who["together"]) as model:
        torch.testing.assert_close(both(IDS).logits, model(IDS).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["chain", "joined"])
def test_it_is_measured_on_both_packs_beside_the_base_below(
    kind: str, first: Run, second: Run, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    there = read_json(folder / "audit.json", Audit)
    assert there.concept == "snakes+zorn"
    assert there.base.scores["choice/forget/acc_norm"].n == first.audit.base.scores["choice/forget/acc_norm"].n
    assert there.models["model"] == first.record.hashes["model"]
    record = read_json(folder / "export.json", Export)
    assert record.base == Path(first.record.recipe.model).name
    assert record.parts[0]["hashes"] == first.record.hashes
    assert [part["recipe"]["model"] for part in record.parts] == [record.base, {"chain": "first", "joined": record.base}[kind]]
    text = ModelCard.load(folder / "README.md").text
    assert text.count("```yaml") == 2
    assert ("each made from the one before" in text) == (kind == "chain")
    assert ("efface export RUN RUN --to DIR" in text) == (kind == "joined")
    assert str(first.folder.parent) not in text


def test_a_gguf_says_the_same(second: Run, chain: Path, tmp_path: Path) -> None:
    folder = export(second.folder, tmp_path / "gguf", format="gguf", dtype="fp32", check=False)
    there = AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32)
    torch.testing.assert_close(there(IDS).logits, logits(chain), rtol=1e-3, atol=1e-3)


def test_both_ways_are_compared(chain: Path, joined: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whichever pack came first, the questions are the same."""
    assert main(["compare", str(chain), str(joined), "--to", str(tmp_path / "out")]) == 0
    assert "left out" not in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["export", "generate", "chat"])
def test_what_does_not_go_together_is_one_line(
    verb: str, first: Run, second: Run, pack_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = {"export": ["--to", str(tmp_path / "out")], "generate": ["hello"], "chat": []}[verb]
    whole = erase(first.record.recipe.model, str(pack_folder), to=tmp_path / "whole", **{**LIGHT, "lora": {"rank": 0}})
    for runs, says in (
        ([first.folder, second.folder], "was made from another base than"),
        ([first.folder, first.folder], "expected different runs, got one twice"),
        ([first.folder, whole.folder], "trained modules as a whole, which cannot be added"),
        ([first.folder, tmp_path / "nowhere"], "is no finished run folder"),
    ):
        capsys.readouterr()
        assert main([verb, *map(str, runs), *rest]) == 2, says
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert says in line
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


@pytest.mark.parametrize("name", ["adapter", "gguf-lora"])
def test_two_are_no_adapter(
    name: str, first: Run, second: Run, apart: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for runs in ([second.folder], [first.folder, apart.folder]):
        assert main(["export", *map(str, runs), "--to", str(tmp_path / "out"), "--format", name]) == 2
        assert "is one adapter on its base; several erasures go into merged, gguf" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
