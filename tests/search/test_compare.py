"""compare --methods, tune, --from-trial, and a method in a file of one's own, on the tiny model."""

import json
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest

from efface.cli import main
from efface.errors import InputError, TrainingError
from efface.methods import NAMES
from efface.recipe.resolve import resolve
from efface.report.judged import Judged
from efface.report.table import spread
from efface.runs.run import Run
from efface.search.compare import contenders, contest
from tests.runs.test_audit import SMALL

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_method.py"
#: of any method, and what only ELM has
FEW = ["--dtype", "float32", "--data.max-tokens", "24", "--lora.layers", "1-2", "--train.steps", "3", "--train.batch-size", "2"]
FLAGS = [*FEW, "--fluency.texts", "2", "--fluency.tokens", "8"]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes as small as the model, whatever the verb: only names, seeds and budgets come from the command line."""
    from efface.search import compare as comparing

    complete = comparing.complete_recipe
    monkeypatch.setattr(comparing, "complete_recipe", lambda settings, **how: complete(comparing.merge(SMALL, settings), **how))


@pytest.mark.slow
def test_every_method_is_run_with_the_same_tokens_and_only_once(
    tiny: None,
    model_folders: dict[str, Path],
    pack_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    args = ["compare", "--methods", f"elm,npo,paper,{EXAMPLE}", "--to", str(tmp_path)]
    small = ["--audit.samples", "0", "--audit.no-depth"]
    command = [*args, str(model_folders["llama"]), str(pack_folder), *small, "--seeds"]
    assert main([*command, "1"]) == 0
    shown = capsys.readouterr()
    assert "…" not in shown.out
    assert "my_method" in shown.out
    runs = {path.parent.name: Run(path.parent) for path in tmp_path.glob("*/run.json")}
    assert set(runs) == {"elm-0", "npo-0", "paper-0", "my_method-0"}
    budget = sum(runs["elm-0"].record.tokens.values())
    for name, run in runs.items():
        total, steps = sum(run.record.tokens.values()), max(entry["step"] for entry in run.record.losses if "step" in entry)
        assert abs(total - budget) <= total / steps, f"{name}: not more than a step's tokens off"
        assert run.record.recipe.audit.samples == 0
        assert run.audit.erased.depth == []
    assert runs["paper-0"].record.recipe.preset == "paper"
    assert main([*command, "1", "--budget", str(2 * budget)]) == 2
    assert "was made with another recipe, budget, model, concept or method file" in capsys.readouterr().err
    command[2] = "npo"
    command[command.index("--to") + 1] = str(tmp_path / "two")
    assert main([*command, "2", "--budget", str(budget)]) == 0
    runs = {path.parent.name: Run(path.parent) for path in (tmp_path / "two").glob("*/run.json")}
    assert runs["npo-1"].record.recipe.seed == 1
    found = json.loads((tmp_path / "two" / "compare.json").read_text())
    general = [run.audit.erased.scores["choice/general/acc_norm"].value for run in runs.values()]
    base = runs["npo-0"].audit.base.scores["choice/general/acc_norm"].value
    assert found["npo"]["general"]["mean"] == pytest.approx(sum(general) / 2 / base)
    assert "| npo | 2 |" in (tmp_path / "two" / "compare.md").read_text()
    assert "<td>my_method</td>" in (tmp_path / "compare.html").read_text()
    monkeypatch.setattr("efface.search.compare.run_recipe", lambda *_: pytest.fail("made again"))
    assert main([*command, "2", "--budget", str(budget)]) == 0


def test_settings_that_all_runs_share(
    model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = tmp_path / "shared.yaml"
    settings = {name: value for name, value in SMALL.items() if name not in ("audit", "dtype")}
    shared.write_text(json.dumps({**settings, "lora": {"layers": "1-2", "rank": 0}}))
    command = ["compare", str(model_folders["llama"]), str(pack_folder), "--methods", "npo", "--recipe", str(shared)]
    command += ["--dtype", "float32", "--audit.samples", "0", "--audit.no-depth"]
    assert main([*command, "--to", str(tmp_path / "runs")]) == 0
    used = Run(tmp_path / "runs" / "npo-0").record.recipe
    assert (used.lora.rank, used.lora.layers, used.data.max_tokens) == (0, "1-2", SMALL["data"]["max_tokens"])
    shared.write_text("seed: 3\ndtype: float32\n")
    assert main([*command, "--to", str(tmp_path / "other")]) == 2
    assert "expected settings that all runs share and that no flag sets, got seed, dtype" in capsys.readouterr().err


def test_who_takes_part() -> None:
    assert contenders(["all"])[:4] == ["elm", "strangers", "paper", "reference"]
    assert set(contenders(["all"])) == {*NAMES, "strangers", "paper", "reference"}
    assert contenders(["npo", "all", str(EXAMPLE)]) == ["npo", *(n for n in contenders(["all"]) if n != "npo"), str(EXAMPLE)]
    with pytest.raises(InputError, match="no method 'unlearn'"):
        contenders(["unlearn"])
    with pytest.raises(InputError, match="named twice"):
        contenders(["npo", "npo"])


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["compare", "m", "--methods", "all"], "expected MODEL and CONCEPT"),
        (["compare", "m", "ancient-egypt", "--methods", "all", "--seeds", "0"], "--seeds and --budget from 1 on"),
        (["compare", "m", "atlantis", "--methods", "all"], "no concept pack 'atlantis'"),
        (["compare", "m", "ancient-egypt", "--methods", "all", "--recipe", "no.yaml"], "no recipe file no.yaml"),
        (["tune", "m", "ancient-egypt", "--trials", "0"], "--trials: expected a number from 1 on, got 0"),
        (["tune", "m", "ancient-egypt", "--method", "npo", "--options", "betta", "1"], "options of npo: betta: no such setting"),
        (["erase", "m", "ancient-egypt", "--method", "npo", "--options", "beta", "-1"], "options of npo: beta: Input should be"),
        (["erase", "m", "ancient-egypt", "--study", "there"], "--study goes with --from-trial"),
        (["tune", "m", "ancient-egypt", "--vary", "luck"], "--vary luck: expected some of erase.weight"),
        (["erase", "m", "ancient-egypt", "--from-trial", "3"], "no search in runs/tune-ancient-egypt-m"),
        (["erase", "m", "ancient-egypt", "--published.train-deflection"], "train_deflection needs fluency.target hard"),
        (["erase", "m", "ancient-egypt", "--method", "magic"], "no method 'magic'; there are: adaptive_rmu"),
    ],
)
def test_wrong_input_is_one_line(
    args: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(args) == 2
    said = capsys.readouterr().err
    assert said.startswith("efface: ")
    assert says in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_method_of_ones_own_is_one_file(model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path) -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 80
    command = ["erase", str(model_folders["llama"]), str(pack_folder), "--method", str(EXAMPLE), "--options", "floor", "6.5"]
    assert main([*command, "--to", str(tmp_path / "run"), *FEW]) == 0
    record = Run(tmp_path / "run").record
    assert record.recipe.options == {"floor": 6.5}
    assert record.recipe.erase.weight == 1.0
    assert set(record.losses[-1]) >= {"erase", "retain"}


def search(model: Path, pack: Path, to: Path, trials: int, *more: str) -> list[str]:
    few = FEW if "--method" in more else FLAGS
    return ["tune", str(model), str(pack), "--to", str(to), "--trials", str(trials), *few, *more]


def test_tune_goes_on_and_its_trials_can_be_run(
    model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    model, to = model_folders["llama"], tmp_path / "study"
    assert main(search(model, pack_folder, to, 2)) == 0
    first = json.loads((to / "tune.json").read_text())["trials"]
    assert "Pareto front" in capsys.readouterr().out
    own = resolve({"model": "m", "concept": "c"})
    weights = {f"{term}.weight": getattr(own, term).weight for term in ("erase", "retain", "fluency")}
    assert first[0]["settings"] == {**weights, "train.lr": own.train.lr}, "its own"
    from efface.search import tune as tuning

    train, calls = tuning.train, []

    def stop(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*args, **options)

    monkeypatch.setattr(tuning, "train", stop)
    assert main(search(model, pack_folder, to, 4)) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    monkeypatch.setattr(tuning, "train", train)
    assert main(search(model, pack_folder, to, 4)) == 0
    found = json.loads((to / "tune.json").read_text())
    assert found["trials"][: len(first)] != []
    assert [trial["settings"] for trial in found["trials"][: len(first)]] == [trial["settings"] for trial in first]
    kept = optuna.load_study(study_name="efface", storage=f"sqlite:///{to / 'study.db'}")
    (stopped,) = (trial for trial in kept.trials if trial.state.name == "FAIL")
    (again,) = (trial for trial in kept.trials if trial.user_attrs.get("again") == stopped.number)
    assert again.params == stopped.params
    assert again.state.name in ("COMPLETE", "PRUNED")
    (to / "tune.json").unlink()
    assert main(search(model, pack_folder, to, 4)) == 0
    assert json.loads((to / "tune.json").read_text()) == found, "nothing is left to do but to write it"
    assert len(found["trials"]) + found["given_up"] == 4
    drawn = [tuple(trial["settings"].values()) for trial in found["trials"]]
    assert len(set(drawn)) == len(drawn)
    assert any(trial["best"] for trial in found["trials"])
    assert all(0 <= value <= 1 for trial in found["trials"] for value in trial["goals"].values())
    chosen = found["trials"][-1]
    command = ["erase", str(model), str(pack_folder), "--from-trial", str(chosen["number"]), "--study", str(to)]
    assert main([*command, "--to", str(tmp_path / "run"), "--seed", "3"]) == 0
    used = Run(tmp_path / "run").record.recipe
    assert used.erase.weight == chosen["settings"]["erase.weight"]
    assert used.train.lr == chosen["settings"]["train.lr"]
    assert (used.fluency.target, used.fluency.brief, used.erase.target) == ("soft", 24, "marginal"), "what was not said stays"
    assert (used.train.steps, used.seed) == (3, 3)
    assert main(["erase", str(model), str(pack_folder), "--from-trial", "99", "--study", str(to)]) == 2
    assert "has no such finished trial" in capsys.readouterr().err
    assert main(search(model, pack_folder, to, 4, "--seed", "5")) == 2
    assert "holds a search with other settings" in capsys.readouterr().err
    other = shutil.copytree(pack_folder, tmp_path / "pack")
    (to / "study.db").rename(tmp_path / "study.db")
    calls[:] = [1]
    monkeypatch.setattr(tuning, "train", stop)
    assert main(search(model, other, to, 1)) == 130
    with (other / "questions.jsonl").open("a") as questions:
        questions.write((other / "questions.jsonl").read_text().splitlines()[0].replace('"stem": "', '"stem": "Zorn: ') + "\n")
    assert main(search(model, other, to, 1)) == 2
    assert "holds a search with other settings, or from another model, concept or method file" in capsys.readouterr().err


def test_a_hopeless_trial_is_given_up(
    model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("efface.search.tune.HOPELESS", 0.0)
    monkeypatch.setattr("efface.search.tune.score_choices", lambda subject: {})
    assert main(search(model_folders["llama"], pack_folder, tmp_path / "study", 1, "--method", "npo")) == 0
    found = json.loads((tmp_path / "study" / "tune.json").read_text())
    assert (found["trials"], found["given_up"]) == ([], 1)


def test_a_method_that_diverges_is_left_out(
    tiny: None,
    model_folders: dict[str, Path],
    pack_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: Any,
) -> None:
    from efface.search import compare as comparing

    def run_recipe(recipe: Any, folder: Path) -> None:
        if recipe.method == "npo":
            raise TrainingError("the loss is nan at step 3")
        run(recipe, folder)

    run = comparing.run_recipe
    monkeypatch.setattr(comparing, "run_recipe", run_recipe)
    settings = {"audit": {"samples": 0, "depth": False}}
    names = (str(model_folders["llama"]), str(pack_folder))
    first = list(contest(*names, ["retain_only", "idk"], tmp_path / "later", settings=settings))
    seen: list[int] = []

    def second_seed(recipe: Any, folder: Path) -> None:
        seen.append(recipe.train.tokens)
        raise TrainingError("the loss is nan at step 3")

    monkeypatch.setattr(comparing, "run_recipe", second_seed)
    found = list(contest(*names, ["retain_only", "idk"], tmp_path / "later", seeds=2, settings=settings))
    assert [type(run) for _, run in found] == [Run, Run, TrainingError, TrainingError]
    assert seen == [None, sum(first[0][1].record.tokens.values())], "the first seed says how long to train"  # type: ignore[union-attr]
    monkeypatch.setattr(comparing, "run_recipe", run_recipe)
    with pytest.raises(InputError, match="npo was left out, so that nothing says how long to train; give a --budget"):
        list(contest(*names, ["npo", "retain_only"], tmp_path / "without", settings=settings))
    capsys.readouterr()
    found = list(contest(*names, ["npo", "retain_only"], tmp_path, budget=400, settings=settings))
    assert [(name, type(run)) for name, run in found] == [("npo", TrainingError), ("retain_only", Run)]
    assert "npo, seed 0, is left out: the loss is nan at step 3" in capsys.readouterr().err
    command = ["compare", *names, "--to", str(tmp_path), "--dtype", "float32", "--audit.samples", "0", "--audit.no-depth"]
    command += ["--budget", "400"]
    assert main([*command, "--methods", "npo,retain_only"]) == 0
    shown = capsys.readouterr()
    assert "retain_only" in shown.out
    assert "== npo" not in shown.err, "not tried again"
    for said in (shown.out, *((tmp_path / f"compare.{ending}").read_text() for ending in ("md", "html"))):
        assert "a run of npo (the loss is nan at step 3; to try again remove " in said
    assert main([*command, "--methods", "npo"]) == 2
    assert "no run is left" in capsys.readouterr().err
    assert spread([found[1][1].audit] * 3)["general"] is not None


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="compare --methods runs in one process"):
        list(contest("m", "ancient-egypt", ["elm"], tmp_path))


@pytest.mark.parametrize("values", [[0.1] * 3, [0.7, 0.7, 0.7], [0.2, 0.5]])
def test_a_mean_is_never_outside_of_its_range(values: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    stubs = {"summary": lambda value: {"gone": value}, "judged": lambda _: {}, "resampled_mean": lambda *_: None}
    for name, stub in stubs.items():
        monkeypatch.setattr(f"efface.report.table.{name}", stub)
    monkeypatch.setattr("efface.report.table.JUDGED", {"gone": Judged(None)})
    found = spread(values)["gone"]  # type: ignore[arg-type]
    assert found is not None
    assert found.low <= found.mean <= found.high
    assert found.mean == pytest.approx(sum(values) / len(values))
