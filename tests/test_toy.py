"""Everything that is not the package itself, at toy size: the timings, the tables, the examples, the targets of make."""

import importlib.util
import io
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmarks import bench, names, records, tables

from efface.cli.erase import EraseArguments
from efface.cli.recipe import parse_recipe
from efface.files import write_json
from efface.methods import complete_recipe
from efface.recipe.recipe import Recipe, merge, read_recipe
from efface.runs.pipeline import run_recipe
from efface.runs.run import Run
from tests.conftest import write_pack
from tests.runs.conftest import SMALL

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
TARGETS = re.findall(r"\w[\w-]*", (ROOT / "Makefile").read_text().split(".PHONY:")[1].splitlines()[0])
TOY: dict[str, Any] = {
    "dtype": "float32",
    "fluency": {"texts": 2, "tokens": 8},
    "data": {"max_tokens": 24},
    "train": {"steps": 1, "batch_size": 2},
    "audit": {"samples": 0, "depth": False},
}


@pytest.fixture(scope="module")
def other_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packs") / "borg"
    folder.mkdir()
    write_pack(folder, name="borg")
    return folder


@pytest.mark.slow
def test_every_part_of_the_benchmark_is_measured(
    deep_folder: Path, pack_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: list[str], **_: Any) -> SimpleNamespace:
        """The measurement, in this process: a new one would read all libraries again."""
        assert command[:2] == [sys.executable, "-m"]
        monkeypatch.setattr(sys, "argv", command[2:])
        with redirect_stdout(io.StringIO()) as out:
            runpy.run_module(command[2], run_name="__main__")
        result = json.loads(out.getvalue().splitlines()[-1])
        return SimpleNamespace(returncode=0, stdout=json.dumps({**result, "peak_mib": result["peak_mib"] + 1}))

    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(bench, "fetch", lambda _: deep_folder)
    monkeypatch.setattr(bench, "CONCEPT", str(pack_folder))
    monkeypatch.setattr(bench, "OUT", tmp_path / "out")
    monkeypatch.setattr(bench, "WAYS", {"texts": (2,), "length": (16,), "vocabulary": (400,)})
    monkeypatch.setattr(bench.subprocess, "run", run)
    bench.main(["--quick"])
    result = json.loads((tmp_path / "out" / "quick" / "bench.json").read_text())
    assert set(result["measured"]) == set(bench.PARTS) - {"growth"}
    assert set(result["ratios"]) == {*bench.UNITS, "second_run", "memory", "default_job", "default_second_run", "of_limit"}
    for of in (of for ratios in result["ratios"].values() for of in ratios.values()):
        assert (of["mean"] if isinstance(of, dict) else of) > 0
    assert set(result["growth"]) == set(bench.WAYS)
    assert (tmp_path / "out" / "quick" / "growth.svg").read_text().count("<svg") == 1
    assert not (tmp_path / "out" / "bench.json").exists(), "a trial replaces no figure"
    shown = capsys.readouterr().out
    assert "| training step, its targets stored |" in shown
    assert "The default's proportions: efface" in shown


@pytest.fixture(scope="module")
def made(deep_folder: Path, pack_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    audit = {"attacks": ["relearn"], "relearn_texts": 2, "relearn_steps": 1}
    return run_recipe(
        complete_recipe(merge({"model": str(deep_folder), "concept": str(pack_folder), "audit": audit}, SMALL)),
        tmp_path_factory.mktemp("made") / "run",
    )


@pytest.mark.parametrize("name", tables.TABLES)
def test_a_table_is_made_kept_and_printed_again(
    name: str,
    made: Run,
    pack_folder: Path,
    other_pack: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of runs as the table asks for; the figures in them are those of one tiny run."""
    recipes = list[Recipe]()

    def copy(recipe: Recipe, folder: Path) -> None:
        recipes.append(recipe)
        shutil.copytree(made.folder, folder)
        write_json(folder / "run.json", made.record.model_copy(update={"recipe": recipe}))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(records, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(tables, "run_recipe", copy)
    for setting, value in (("SEEDS", 1), ("PACKS", (str(pack_folder),)), ("FOREIGN", str(other_pack))):
        monkeypatch.setattr(tables, setting, value)
    assert tables.main([name, "--print"]) == 0
    assert capsys.readouterr().out == "no runs yet\n"
    assert tables.main([name, "--keep"]) == 0
    first = capsys.readouterr().out
    assert recipes
    shutil.rmtree(tmp_path / "runs")
    assert tables.main([name, "--print"]) == 0
    assert capsys.readouterr().out == first, "from what was kept"


def test_the_tables_of_names_are_made_kept_and_printed_again(
    made: Run, pack_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of packs by hand in the place of those that a model writes; their figures are those of one tiny run."""

    def copy(recipe: Recipe, folder: Path) -> None:
        assert Path(recipe.concept).is_dir()
        shutil.copytree(made.folder, folder)
        write_json(folder / "run.json", made.record.model_copy(update={"recipe": recipe}))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(records, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(names, "run_recipe", copy)
    monkeypatch.setattr(names, "write_pack", lambda *given: shutil.copytree(pack_folder, given[-1]))
    for setting, value in (("SEEDS", 1), ("CALIBRATED", {"Zorn": str(pack_folder)}), ("OTHERS", ("Mirta",))):
        monkeypatch.setattr(names, setting, value)
    monkeypatch.setattr(names, "MODEL", made.record.recipe.model)
    monkeypatch.setattr(names, "complete_recipe", lambda said: complete_recipe(merge(said, {"audit": TOY["audit"]})))
    assert names.main(["--print"]) == 0
    assert capsys.readouterr().out == "no runs yet\n"
    assert names.main(["--keep"]) == 0
    first = capsys.readouterr().out
    assert first.count("| Zorn | 1 |") == 1
    assert "| Mirta | " in first
    assert "Who was Orlo?" in first
    shutil.rmtree(tmp_path / "runs")
    assert names.main(["--print"]) == 0
    assert capsys.readouterr().out == first, "from what was kept"
    assert names.main(["--prnt"]) == 2


def test_a_table_that_there_is_not_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["pack"], ["packs", "methods"], ["packs", "--prnt"]):
        assert tables.main(arguments) == 2
        assert capsys.readouterr().err.startswith("tables: expected one of packs, strangers, methods, ablation, recovery")


def test_the_recipes_of_one_table_differ_in_their_model_alone() -> None:
    """So that it is enough to run one of them."""
    recipes = [read_recipe(file) for file in EXAMPLES.glob("*wmdp.yaml")]
    assert len({recipe.pop("model") for recipe in recipes}) == len(recipes) == 4
    assert all(recipe == recipes[0] for recipe in recipes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zephyr-7b-wmdp.yaml", "llama-2-7b-chat-harry-potter.yaml"])
def test_an_example_recipe_runs(name: str, deep_folder: Path, pack_folder: Path, other_pack: Path, tmp_path: Path) -> None:
    said = read_recipe(EXAMPLES / name)
    weights = re.findall(r":\d+", said["concept"]) or [""]
    concept = " ".join(f"{pack}{weight}" for pack, weight in zip((pack_folder, other_pack), weights, strict=False))
    toy = merge(TOY, {"model": str(deep_folder), "concept": concept, "audit": {"judge": str(deep_folder)}})
    run = run_recipe(complete_recipe(merge(said, toy)), tmp_path / "run")
    assert run.record.recipe.erase.eta == said["erase"]["eta"]
    assert set(run.record.tokens) == {"erase", "retain", "fluency"}


def test_the_method_and_the_scorer_of_the_examples_run(deep_folder: Path, pack_folder: Path, tmp_path: Path) -> None:
    said = {
        "model": str(deep_folder),
        "concept": str(pack_folder),
        "method": str(EXAMPLES / "my_method.py"),
        "options": {"floor": 6},
    }
    toy = {"data": {"max_tokens": 24}, "train": TOY["train"], "dtype": "float32"}
    audit = {**TOY["audit"], "scorers": (str(EXAMPLES / "my_scorer.py"),)}
    run = run_recipe(complete_recipe({**said, **toy, "audit": audit}), tmp_path / "run")
    assert "hedges/forget/rate" in run.audit.erased.scores


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_target_of_make_runs_is_there(target: str) -> None:
    if shutil.which("make") is None:
        pytest.skip("no make")
    command = ["make", "--dry-run", "--assume-old=.venv/.ready", "--no-print-directory", target]
    # these tests may have been started by make themselves: its flags and variables are no affair of this one
    surroundings = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "VENV", "PYTHON"))
    }
    lines = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines
    for program, *words in map(shlex.split, lines):
        match Path(program).name, words:
            case "python", ["-m", module, *rest]:
                assert importlib.util.find_spec(module) is not None
                assert module != "benchmarks.tables" or (len(rest) == 1 and rest[0] in tables.TABLES)
                assert module not in ("benchmarks.bench", "benchmarks.names") or rest == []
            case "efface", ["erase", *rest]:
                parse_recipe(EraseArguments, rest, "erase")
            case ("ruff" | "mypy" | "lint-imports") as tool, _:
                assert shutil.which(tool, path=str(Path(sys.executable).parent)) is not None
            case _:
                assert program in ("rm", "echo")


def test_whatever_is_python_is_checked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert {"src", *(path.parent.name for name in ("benchmarks", "examples") for path in (ROOT / name).glob("*.py"))} <= set(
        settings["mypy"]["files"]
    )
    assert not {"exclude", "extend-exclude", "include"} & settings["ruff"].keys()
