"""An export: whole, measured as it ships, or not there."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from efface.auditing.scores import Audit
from efface.cli import main
from efface.errors import EffaceError, InputError, RunError, WriteError
from efface.files import changed, read_json, write_json
from efface.release import export as exporting
from efface.release.export import Export, Wanted, export
from efface.report.table import show
from efface.runs.run import Run
from tests.conftest import tiny_model

FILES = {
    "merged": {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"},
    "adapter": {"adapter_model.safetensors", "adapter_config.json"},
    "gguf": {"model.gguf"},
    "gguf-lora": {"adapter.gguf"},
}
ABOUT = {"README.md", "report.html", "export.json", "audit.json"}


@pytest.fixture(scope="module")
def exports(light_run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run in every format, measured."""
    folder = tmp_path_factory.mktemp("exports")
    return {name: export(light_run.folder, folder / name, format=name) for name in FILES}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FILES)
def test_it_is_whole_and_knows_no_path_of_this_machine(name: str, exports: dict[str, Path], light_run: Run) -> None:
    folder = exports[name]
    assert {path.name for path in folder.iterdir()} - {"chat_template.jinja"} == FILES[name] | ABOUT
    assert [path.name for path in folder.parent.iterdir() if path.name not in FILES] == []
    record, recipe = read_json(folder / "export.json", Export), light_run.record.recipe
    assert changed(folder, record.files) is None
    assert record.hashes == light_run.record.hashes
    places = {str(Path(recipe.model).parent), str(Path(recipe.concept).parent), str(light_run.folder.parent), str(folder.parent)}
    for path in folder.iterdir():
        content = path.read_bytes().decode(errors="replace")
        assert not [place for place in places if place in content], path.name


@pytest.mark.parametrize("name", FILES)
def test_what_ships_is_measured(name: str, exports: dict[str, Path], light_run: Run) -> None:
    """Rounding moves the figures of whole weights, an adapter's are the run's; the base's are the same always."""
    there, before = read_json(exports[name] / "audit.json", Audit), light_run.audit
    attacked = {key.split("/")[2] for key in there.erased.scores if key.startswith("attack/quantise/")}
    assert attacked == {"int8", "int4"} | ({"bf16"} if name in ("merged", "gguf") else set())
    own = {key: score for key, score in there.base.scores.items() if not key.startswith("attack/")}
    assert own == before.base.scores
    perplexity = "perplexity/forget/held_out"
    assert there.erased.scores[perplexity].value == pytest.approx(before.erased.scores[perplexity].value, rel=0.02)
    if name == "gguf-lora":
        assert {key: there.erased.scores[key] for key in before.erased.scores} == before.erased.scores


def test_a_gate_and_an_audit_take_an_export(
    exports: dict[str, Path], light_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gate", str(exports["merged"]), "--max-forget", "1"]) == 0
    assert main(["gate", str(exports["gguf"]), "--max-forget", "-1"]) == 1
    recipe = light_run.record.recipe
    args = ["audit", str(exports["merged"]), "--base", recipe.model, "--concept", recipe.concept, "--to", str(tmp_path / "a")]
    assert main([*args, "--samples", "0", "--no-depth", "--dtype", "float32"]) == 0
    again, there = (read_json(folder / "audit.json", Audit) for folder in (tmp_path / "a", exports["merged"]))
    assert again.erased.scores.items() <= there.erased.scores.items()


def test_an_adapter_says_where_its_base_would_be(exports: dict[str, Path], light_run: Run) -> None:
    config = json.loads((exports["adapter"] / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "BASE"
    assert "BASE stands for its place" in (exports["adapter"] / "README.md").read_text()
    assert (exports["adapter"] / "adapter_model.safetensors").read_bytes() == (
        light_run.folder / "adapter" / "adapter_model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(("name", "reader"), [("merged", "transformers"), ("adapter", "peft"), ("gguf", "gguf")])
def test_the_card_is_of_what_ships(name: str, reader: str, exports: dict[str, Path]) -> None:
    card = ModelCard.load(exports[name] / "README.md")
    assert card.data.to_dict()["library_name"] == reader
    there = read_json(exports[name] / "audit.json", Audit).erased.scores["perplexity/retain/held_out"]
    assert card.data.eval_results
    assert show(there, False) in card.text
    assert "was not measured" not in card.text.split("## Limits")[0]


def test_what_was_not_measured_has_no_figures_of_its_own(light_run: Run, tmp_path: Path) -> None:
    folder = export(light_run.folder, tmp_path / "out", dtype="fp16", check=False)
    assert not (folder / "audit.json").exists()
    assert "what ships here was not measured" in (folder / "README.md").read_text()
    assert read_json(folder / "export.json", Export).dtype == "fp16"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float16


def test_few_bits_are_measured_as_they_are(light_run: Run, tmp_path: Path) -> None:
    folder = export(light_run.folder, tmp_path / "out", format="gguf", quantise="q8_0")
    there = read_json(folder / "audit.json", Audit)
    assert not [key for key in there.erased.scores if key.startswith("attack/")]
    assert read_json(folder / "export.json", Export).quantise == "q8_0"


def test_whole_modules_are_exported_too(whole_run: Run, tmp_path: Path) -> None:
    folder = export(whole_run.folder, tmp_path / "out", dtype="fp32", check=False)
    there, ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), whole_run.load().model
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(there(ids).logits, ours(ids).logits)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nowhere", "--to", "out"], "nowhere is no finished run folder; expected one with a run.json"),
        (["{run}"], "Missing from efface export: --to"),
        (["{run}", "--to", "out", "--format", "zip"], "invalid choice 'zip'"),
        (["{run}", "--to", "out", "--quantise", "q8_0"], "--quantise goes with --format gguf, not with merged"),
        (["{run}", "--to", "out", "--format", "gguf", "--quantise", "q9"], "invalid choice 'q9'"),
        (
            ["{run}", "--to", "out", "--format", "gguf", "--quantise", "q8_0", "--dtype", "bf16"],
            "--dtype does nothing with --quan",
        ),
        (["{run}", "--to", "out", "--format", "adapter", "--dtype", "bf16"], "--dtype does nothing with --format adapter, which"),
        (["{run}", "--to", "full"], "full is there and is no export; name another folder with --to"),
        (["{run}", "--to", "full", "--overwrite"], "full is there and is no export; name another folder with --to"),
        (["{run}", "--to", "full/file/out"], "cannot write full/file: File exists"),
        (["{run}", "--to", ".."], "--to ..: expected the name of a new folder"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    args: list[str],
    says: str,
    light_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    assert main(["export", *(arg.format(run=light_run.folder) for arg in args)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["full", "full/file"]


def test_only_an_export_is_replaced_and_only_when_asked(light_run: Run, tmp_path: Path) -> None:
    to = tmp_path / "out"
    to.mkdir()
    export(light_run.folder, to, format="adapter", check=False)
    with pytest.raises(RunError, match="out already holds an export; name another folder with --to, or replace it with --over"):
        export(light_run.folder, to, check=False)
    export(light_run.folder, to, check=False, overwrite=True)
    assert (to / "model.safetensors").is_file()
    assert not (to / "adapter_config.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), WriteError("the disk is full"), ValueError("a bug")])
def test_what_fails_leaves_nothing_and_loses_nothing(
    error: BaseException, light_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = export(light_run.folder, tmp_path / "out", format="adapter", check=False)
    (tmp_path / "out.exporting").mkdir()
    (tmp_path / "out.exporting" / "model.safetensors").write_text("of an export that was killed")
    seen = []

    def fails(*_: Any) -> None:
        seen.extend(path.name for path in (tmp_path / "out.exporting").iterdir())
        raise error

    monkeypatch.setattr(exporting, "write_merged", fails)
    with pytest.raises(type(error)):
        export(light_run.folder, to, check=False, overwrite=True)
    assert seen == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert changed(to, read_json(to / "export.json", Export).files) is None


def test_a_disk_without_room_is_told_before(light_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10**6}))
    with pytest.raises(RunError, match=r"the disk of .* has 0.0 GB free; expected 0.0 GB"):
        export(light_run.folder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_the_runs_is_refused(light_run: Run, tokenizer_folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tokenizer_folder, tmp_path / "other")
    tiny_model("llama", seed=1).save_pretrained(other)
    run = shutil.copytree(light_run.folder, tmp_path / "run")
    content = json.loads((run / "run.json").read_text())
    content["recipe"]["model"] = str(other)
    write_json(run / "run.json", content)
    with pytest.raises(EffaceError, match="are not those that the run was made from"):
        export(run, tmp_path / "out", check=False)
    save_file({"x": torch.zeros(1)}, run / "adapter" / "adapter_model.safetensors")
    with pytest.raises(RunError, match=r"its adapter is not the one whose hash is in run.json \(adapter/adapter_model"):
        export(run, tmp_path / "out", check=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "run"]


def test_python_is_told_the_same() -> None:
    with pytest.raises(InputError, match="export: format: expected one of merged, adapter, gguf, gguf-lora, got 'zip'"):
        Wanted("zip")  # type: ignore[arg-type]
