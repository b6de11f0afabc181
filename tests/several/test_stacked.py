"""A run stands on another: merged into its base, in memory as on the disk, and never taken for another one."""

import shutil
from pathlib import Path

import pytest
import torch

from efface.auditing.scores import Audit
from efface.cli import main
from efface.errors import RunError
from efface.files import read_json, write_json
from efface.lm.layers import teacher
from efface.lm.load import load, weights_hash
from efface.recipe.recipe import Recipe
from efface.release.export import export
from efface.runs.inputs import load_model
from efface.runs.pipeline import erase
from efface.runs.run import Run
from tests.several.conftest import LIGHT


def test_its_base_is_what_the_other_says(first: Run, second: Run) -> None:
    ids = torch.tensor([[5, 6, 7, 8]])
    there, below = second.load().model, first.load().model
    with teacher(there) as base:
        torch.testing.assert_close(base(ids).logits, below(ids).logits)
        before = base(ids).logits
    assert (before - there(ids).logits).abs().max() > 1e-3
    (layer,) = second.record.stands_on
    assert (layer.run, layer.hashes) == (str(first.folder), first.record.hashes)
    assert second.record.hashes["model"] != first.record.hashes["model"]
    assert first.record.stands_on == ()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_and_its_export_are_the_same_base(dtype: str, first: Run, tmp_path: Path) -> None:
    """Merged in float32 and cast once, in memory as on the disk."""
    folder = export(first.folder, tmp_path / "out", dtype="fp32" if dtype == "float32" else "bf16", check=False)
    ours = load_model(Recipe(model=str(first.folder), concept="-", dtype=dtype))  # type: ignore[arg-type]
    theirs = load(str(folder), dtype=dtype)
    assert weights_hash(ours.model) == weights_hash(theirs.model)
    assert ours.model.config.dtype == theirs.model.config.dtype
    buffers = [{name: of.dtype for name, of in each.model.named_buffers()} for each in (ours, theirs)]
    assert buffers[0] == buffers[1]


def test_whole_modules_and_three_erasures(second: Run, pack_folder: Path, tmp_path: Path) -> None:
    third = erase(str(second.folder), str(pack_folder), to=tmp_path / "third", **{**LIGHT, "lora": {"layers": "1-2", "rank": 0}})
    assert [Path(layer.run).name for layer in third.record.stands_on] == ["first", "second"]
    merged = load_model(Recipe(model=str(third.folder), concept="-", dtype="float32")).model
    ids = torch.tensor([[5, 6, 7, 8]])
    torch.testing.assert_close(merged(ids).logits, third.load().model(ids).logits)


def test_whether_the_first_erasure_holds_is_measured(
    first: Run, second: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second run on the first one's questions: its base says what the first run's erased model said."""
    monkeypatch.chdir(tmp_path)
    before, concept = (second.folder / "audit.json").read_bytes(), first.record.recipe.concept
    assert main(["audit", str(second.folder), "--concept", concept]) == 0
    there = read_json(tmp_path / "audits" / "second-zorn" / "audit.json", Audit)
    assert (there.concept, there.models["base"], there.models["erased"]) == ("zorn", str(first.folder), str(second.folder))
    alone = ("choice/", "open/", "perplexity/")  # what is no figure beside the base
    said = {key: score for key, score in first.audit.erased.scores.items() if key.startswith(alone)}
    assert len(said) > 10
    for key, score in said.items():
        assert there.base.scores[key].value == pytest.approx(score.value, rel=1e-4, abs=1e-6), key
    assert there.erased.scores["perplexity/forget/held_out"] != there.base.scores["perplexity/forget/held_out"]
    assert not (tmp_path / "audits" / "second-zorn" / "README.md").exists()
    capsys.readouterr()
    assert main(["audit", str(second.folder), "--concept", concept, "--to", str(second.folder)]) == 2
    assert "holds another audit; name another folder with --to" in capsys.readouterr().err
    assert (second.folder / "audit.json").read_bytes() == before


def test_another_run_in_its_place_is_refused(first: Run, second: Run, model_folders: dict[str, Path], tmp_path: Path) -> None:
    moved = shutil.copytree(second.folder, tmp_path / "second")
    below = shutil.copytree(first.folder, tmp_path / "first")
    record = second.record
    write_json(moved / "run.json", record.model_copy(update={"recipe": record.recipe.model_copy(update={"model": str(below)})}))
    Run(moved).load()
    other = {**LIGHT, "lora": {"layers": "0-1", "rank": 4}, "seed": 1}
    erase(str(model_folders["llama"]), first.record.recipe.concept, to=below, overwrite=True, **other)
    with pytest.raises(RunError, match=r"the weights of .*first are not those that the run was made from"):
        Run(moved).load()
    (below / "adapter" / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"first: its adapter is not the one whose hash is in run.json \(adapter/adapter_model"):
        Run(moved).load()


@pytest.mark.parametrize("verb", ["export", "audit", "erase", "generate"])
def test_a_run_below_that_is_gone_is_told(
    verb: str, second: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    moved, record = shutil.copytree(second.folder, tmp_path / "second"), second.record
    recipe = record.recipe.model_copy(update={"model": "runs/gone"})
    write_json(moved / "run.json", record.model_copy(update={"recipe": recipe}))
    rest = {"export": ["--to", "out"], "audit": [], "erase": [record.recipe.concept], "generate": ["hello"]}[verb]
    assert main([verb, str(moved), *rest]) == 2
    assert "second stands on the run runs/gone, which is not there; put it back" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["second"]


def test_sums_in_another_order_are_no_other_base(second: Run, tmp_path: Path) -> None:
    """As on another processor: the hash of the merged weights may differ, those of what was merged do not."""
    moved = shutil.copytree(second.folder, tmp_path / "second")
    record = second.record
    write_json(moved / "run.json", record.model_copy(update={"hashes": {**record.hashes, "model": "0" * 16}}))
    loaded, hashes = Run(moved).load_hashed()
    assert hashes["model"] == record.hashes["model"]
    assert loaded.source == record.recipe.model


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--to", "{first}", "--overwrite"], "is what the run stands on"),
        (["--load-in-4bit"], "load_in_4bit takes a whole model from the disk, and "),
        (["--device-map", "auto"], "write it with: efface export "),
        (["--revision", "main"], "revision"),
    ],
)
def test_what_a_run_cannot_be_is_one_line(
    args: list[str], says: str, first: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    erasing = ["erase", str(first.folder), first.record.recipe.concept]
    assert main([*erasing, *(arg.format(first=first.folder) for arg in args)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line
    assert list(tmp_path.iterdir()) == []
