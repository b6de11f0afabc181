"""A model that somebody else erased is loaded as one says, attacked like a run, or refused in one line."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from efface.auditing.scores import Audit
from efface.cli import main
from efface.files import read_json
from efface.lm import adapters
from efface.lm.load import Loaded, load
from efface.recipe.settings import AuditSettings
from efface.runs.audit import audit
from efface.runs.run import Run
from tests.runs.test_audit import merged
from tests.runs.test_audit import run as run

QUICK = ["--samples", "0", "--no-depth"]


def test_adapter_and_merged_weights_are_attacked_like_the_run(
    run: Run, model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path
) -> None:
    attacked = [*QUICK, "--attacks", "relearn", "quantise", "--relearn-texts", "2", "--relearn-steps", "2"]
    common = ["--base", str(model_folders["llama"]), "--concept", str(pack_folder), "--dtype", "float32", "--device-map", "auto"]
    assert main(["audit", str(run.folder), *attacked, "--to", str(tmp_path / "run")]) == 0
    of_run = read_json(tmp_path / "run" / "audit.json", Audit)
    for what in (run.folder / "adapter", merged(run, model_folders["llama"], tmp_path / "merged")):
        to = tmp_path / f"audit of {what.name}"
        assert main(["audit", str(what), *common, *attacked, "--to", str(to)]) == 0
        found = read_json(to / "audit.json", Audit)
        assert found.erased.scores.keys() == of_run.erased.scores.keys()
        for key, score in of_run.erased.scores.items():
            if key.startswith("attack/") and not key.endswith("seconds"):
                assert found.erased.scores[key].value == pytest.approx(score.value), key


def test_each_model_is_loaded_as_one_says(
    model_folders: dict[str, Path], pack_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen = str(model_folders["llama"]), dict[str, Any]()

    def spy(name: str, **options: Any) -> Loaded:
        seen[name] = options
        return load(folder, dtype="float32")

    monkeypatch.setattr("efface.runs.audit.load", spy)
    monkeypatch.setattr("efface.runs.audit.is_adapter", lambda *at: seen.update(adapter=at) or False)
    quick, loading = AuditSettings(samples=0, depth=False), {"dtype": "bfloat16", "device_map": "auto", "load_in_4bit": True}
    options: dict[str, Any] = {**loading, "revision": "v2", "base_revision": "main"}
    found = audit("someone/erased", str(pack_folder), base="someone/base", settings=quick, **options)
    assert seen["someone/base"] == {**loading, "revision": "main"}
    assert seen["someone/erased"] == {**loading, "revision": "v2"}
    assert seen["adapter"] == ("someone/erased", "v2")
    assert (found.models["base"], found.models["erased"]) == ("someone/base@main in 4 bits", "someone/erased@v2 in 4 bits")


def test_a_revision_of_an_adapter_reaches_the_hub(run: Run, llama: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetched(name: str, file: str, revision: str | None) -> str:
        asked.append((name, file, revision))
        return str(run.folder / "adapter" / file)

    monkeypatch.setattr(adapters, "hf_hub_download", fetched)
    adapters.read_adapter(llama, "someone/adapter", "v2")
    assert asked == [("someone/adapter", file, "v2") for file in ("adapter_config.json", "adapter_model.safetensors")]


def test_what_cannot_be_obeyed_is_one_line(
    run: Run,
    model_folders: dict[str, Path],
    pack_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *at: None if name == "bitsandbytes" else find(name, *at))
    folder, remembers = str(model_folders["llama"]), "is a run and remembers how its model is loaded; drop --"
    adapter, own = str(run.folder / "adapter"), ["--base", folder, "--concept", str(pack_folder)]
    for args, says in (
        ([str(run.folder), "--device-map", "auto"], f"{remembers}device-map"),
        ([str(run.folder), "--load-in-4bit"], f"{remembers}load-in-4bit"),
        ([str(run.folder), "--revision", "main"], f"{remembers}revision"),
        ([str(run.folder), "--dtype", "bfloat16"], f"{remembers}dtype"),
        ([folder, *own, "--revision", "main"], f"revision main: {folder!r} is no model on the hub; drop it"),
        ([adapter, *own, "--revision", "main"], f"revision main: {adapter!r} is no model on the hub; drop it"),
        ([adapter, *own, "--base-revision", "v1"], f"revision v1: {folder!r} is no model on the hub; drop it"),
        ([folder, *own, "--load-in-4bit"], "load_in_4bit needs bitsandbytes"),
        ([folder, *own, "--device-map", "nowhere"], "cannot load model"),
    ):
        assert main(["audit", *args]) == 2, says
        said = capsys.readouterr().err
        assert says in said
        assert said.count("\n") == 1
