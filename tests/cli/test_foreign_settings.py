"""Settings that came with a folder run nothing and send nothing; and nothing is run before it is known what is asked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from efface.cli import main
from efface.cli.erase import EraseArguments
from efface.cli.recipe import parse_recipe
from efface.files import write_json
from efface.recipe.foreign import harmless
from efface.recipe.recipe import Recipe

BOMB = "from pathlib import Path\nPath({mark!r}).touch()\nfrom efface.methods.elm import ELM\nclass Mine(ELM): ...\n"
ENDPOINT = "https://elsewhere.example/v1"


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "was run"


@pytest.fixture
def method(tmp_path: Path, mark: Path) -> str:
    file = tmp_path / "mine.py"
    file.write_text(BOMB.format(mark=str(mark)))
    return str(file)


@pytest.fixture
def search(tmp_path: Path) -> Callable[..., str]:
    def write(trial: dict[str, Any] | None = None, **said: Any) -> str:
        about = {"said": said, "trials": [{"number": 0, "settings": trial or {"train.lr": 1e-3}}]}
        write_json(tmp_path / "tune.json", about)
        return str(tmp_path)

    return write


def recipe(*args: str) -> Recipe:
    return parse_recipe(EraseArguments, ["m", "ancient-egypt", *args], "erase")[1]


def test_a_search_that_names_a_method_file_runs_it_only_if_the_user_names_one(
    search: Callable[..., str], method: str, mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from_trial = ["--from-trial", "0", "--study", search(method=method)]
    assert main(["erase", "m", "ancient-egypt", *from_trial]) == 2
    said = capsys.readouterr().err
    assert f"names a method that is a file and would be run, {method}; if you trust it, say so with --method" in said
    assert said.count("\n") == 1
    assert recipe(*from_trial, "--method", "npo").method == "npo"
    assert not mark.exists()
    assert recipe(*from_trial, "--method", method).method == method
    assert mark.exists()


@pytest.mark.parametrize("where", ["said", "trial"])
def test_what_runs_code_or_sends_something_is_not_taken_over(
    where: str, search: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    audit = {"task_folder": "tasks", "scorers": ["s.py"], "endpoint": ENDPOINT, "endpoint_model": "x", "samples": 3}
    if where == "said":
        folder = search(trust_remote_code=True, audit=audit)
    else:
        folder = search({f"audit.{name}": value for name, value in audit.items()} | {"train.lr": 1e-3}, trust_remote_code=True)
    from_trial = ["--from-trial", "0", "--study", folder]
    taken = recipe(*from_trial)
    assert not taken.trust_remote_code
    assert (taken.audit.task_folder, taken.audit.scorers, taken.audit.endpoint) == (None, (), None)
    assert (taken.audit.endpoint_model, taken.audit.samples, taken.train.lr) == ("default", 3, 1e-3)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 5
    assert (
        f"audit.endpoint {ENDPOINT} is left out, for it runs code or sends something; to take it over say --audit.endp" in told[3]
    )
    given = recipe(*from_trial, "--trust-remote-code", "--audit.scorers", "mine.py")
    assert given.trust_remote_code
    assert given.audit.scorers == ("mine.py",)
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_every_setting_that_reaches_out_is_known_to_the_rule() -> None:
    """A setting is named here once it says of itself that it runs or sends something."""
    kept, left_out = harmless({"method": "x.py", "trust_remote_code": True, "audit": {"scorers": ("s.py",), "judge": "m"}})
    assert kept == {"audit": {"judge": "m"}}
    assert left_out == {"method": "x.py", "trust_remote_code": True, "audit.scorers": ("s.py",)}
    kept, left_out = harmless({"audit": {"attacks": ("fast", "mine.py")}})
    assert (kept, left_out) == ({"audit": {"attacks": ("fast",)}}, {"audit.attacks": ("mine.py",)})
    for nonsense in ({"attacks": 5}, {"attacks": "mine.py"}, {"attacks": [5]}, 5, None):
        assert harmless({"audit": nonsense}) == ({"audit": nonsense}, {}), "told when the settings are checked"
    assert harmless({"method": "npo", "audit": "nonsense"}) == ({"method": "npo", "audit": "nonsense"}, {})


@pytest.mark.parametrize(
    "content",
    ['{"said": 5, "trials": [{"number": 0, "settings": {}}]}', '{"said": "ab", "trials": [{"number": 0, "settings": {}}]}'],
)
def test_a_search_that_says_nonsense_is_damaged(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(tmp_path / "tune.json", json.loads(content))
    assert main(["erase", "m", "ancient-egypt", "--from-trial", "0", "--study", str(tmp_path)]) == 2
    assert "tune.json is damaged; give the same 'efface tune' command again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "settings", "says"),
    [
        (["--help"], "", None),
        (["-h", "--train.lr", "1"], "", None),
        (["--train.lr", "-1"], "", "train.lr: Input should be greater than 0"),
        (["--train.lrr", "1"], "", "Unrecognized options: --train.lrr"),
        ([], "train: {steps: 0}", "train.steps: Input should be greater than 0"),
        ([], "concept: atlantis", "no concept pack 'atlantis'"),
        ([], "concept: [a]", "concept: Input should be a valid string"),
        (["--from-trial", "0", "--study", "nowhere"], "", "no search in nowhere"),
    ],
)
@pytest.mark.parametrize("verb", ["erase", "prepare", "tune"])
def test_a_recipe_runs_its_method_file_only_when_all_else_is_good(
    args: list[str],
    settings: str,
    says: str | None,
    verb: str,
    tmp_path: Path,
    method: str,
    mark: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "--from-trial" in args and verb != "erase":
        pytest.skip("erase alone has it")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "recipe.yaml"
    concept = "" if settings.startswith("concept") else "concept: ancient-egypt\n"
    file.write_text(f"model: m\n{concept}method: {method}\nlora: {{rank: 7}}\n{settings}\n")
    if says is None:
        with pytest.raises(SystemExit) as stopped:
            main([verb, str(file), *args])
        assert stopped.value.code == 0
        assert "(default: 7)" in capsys.readouterr().out, "the rest of the file is shown"
    else:
        assert main([verb, str(file), *args]) == 2
        assert says in capsys.readouterr().err
    assert not mark.exists()


@pytest.mark.parametrize("args", [["--recipe", "none.yaml"], ["--audit.samples", "-1"], ["--help"], ["--recipe", "wrong.yaml"]])
def test_a_comparison_runs_its_method_files_only_when_all_else_is_good(
    args: list[str], tmp_path: Path, method: str, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.yaml").write_text("train: {steps: 0}")
    command = ["compare", "--methods", method, "m", "ancient-egypt", *args]
    if args == ["--help"]:
        with pytest.raises(SystemExit):
            main(command)
    else:
        assert main(command) == 2
    assert not mark.exists()
