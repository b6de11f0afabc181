"""A push: whole, without places of this machine, asked for before it is public, and public last of all."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from efface.auditing.scores import Audit
from efface.cli import main
from efface.files import read_json, write_json
from efface.recipe.record import RunRecord
from efface.release.export import export
from efface.release.push import MESSAGE
from efface.runs.run import Run
from tests.release.hub import GOOD, READER, Hub, Repo, serve

OF_A_RUN = {
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "audit.json",
    "report.html",
    "run.json",
    "README.md",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, and a token for it; large files go the way that needs nothing but HTTP."""
    with serve(Hub()) as made:
        monkeypatch.setattr(constants, "ENDPOINT", made.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", GOOD)
        close_session()
        yield made
        close_session()


@pytest.fixture(scope="module")
def exported(light_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(light_run.folder, tmp_path_factory.mktemp("export") / "out", check=False)


def push(*args: object) -> int:
    return main(["push", *map(str, args)])


def test_a_run_without_places_of_this_machine(hub: Hub, light_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert push(light_run.folder, "me/new", "--yes") == 0
    said = capsys.readouterr()
    files = hub.repos["me/new"].branches["main"]
    assert set(files) - {".gitattributes"} == OF_A_RUN
    weights = "adapter/adapter_model.safetensors"
    assert files[weights] == (light_run.folder / weights).read_bytes()
    recipe = light_run.record.recipe
    places = [
        str(path) for path in (Path(recipe.model).parent, Path(recipe.concept).parent, light_run.folder.parent, Path.home())
    ]
    for name, content in files.items():
        assert not [place for place in places if place in content.decode(errors="replace")], name
    record = RunRecord.model_validate_json(files["run.json"])
    assert (record.hashes, record.recipe.model) == (light_run.record.hashes, Path(recipe.model).name)
    assert Audit.model_validate_json(files["audit.json"]).erased == light_run.audit.erased
    size = sum(map(len, files.values()))
    assert f"6 files, {size / 1e6:.1f} MB, to me/new (new, public when all is there)\n{hub.url}/me/new\n" in said.out
    assert said.err.startswith("the base is not on the hub")


def test_a_pushed_run_is_a_run(hub: Hub, light_run: Run, tmp_path: Path) -> None:
    """Its checksums are those of what was sent."""
    assert push(light_run.folder, "me/new", "--private") == 0
    for name, content in hub.repos["me/new"].branches["main"].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert Run(tmp_path).damaged() is None
    assert read_json(tmp_path / "run.json", RunRecord).losses == light_run.record.losses


@pytest.mark.parametrize("streamed", [False, True])
def test_an_export_is_public_when_all_is_there(streamed: bool, hub: Hub, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By both ways that the library has."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", not streamed)
    hub.large = "nothing" if streamed else hub.large
    assert push(exported, "lab/new", "--yes") == 0
    repo = hub.repos["lab/new"]
    assert {name: (exported / name).read_bytes() for name in repo.branches["main"] if name != ".gitattributes"} == {
        path.name: path.read_bytes() for path in exported.iterdir()
    }
    assert not repo.private
    assert all(public == set() for _, public in hub.seen), "until the last call nobody sees it"
    assert hub.seen[-1][0] == "PUT /api/models/lab/new/settings"


def test_private_stays_private(hub: Hub, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert push(exported, "me/new", "--private") == 0, "nothing to ask"
    assert hub.repos["me/new"].private
    assert "to me/new (new, private)" in capsys.readouterr().out
    assert not [call for call, _ in hub.seen if "settings" in call]
    assert push(exported, "me/new") == 0, "nothing to ask either: what is whole and private is meant to be"
    assert hub.repos["me/new"].private


def test_what_is_whole_and_could_not_be_shown_says_so(hub: Hub, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.refused["/settings"] = (403, {"error": "not yours"})
    assert push(exported, "me/new", "--yes") == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("me/new is whole and still private: make it public on the hub")


def test_what_broke_off_is_private_and_goes_on(hub: Hub, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.refused["/commit/"] = (400, {"error": "too busy"})
    assert push(exported, "me/new", "--yes") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith("too busy; me/new is private and not whole: the same command goes on")
    assert hub.repos["me/new"].private
    sent = hub.sent
    assert sent > 0
    hub.refused.clear()
    assert push(exported, "me/new", "--yes") == 0
    assert hub.sent == sent, "the large files are there already"
    assert not hub.repos["me/new"].private
    commits = len(hub.repos["me/new"].titles["main"])
    assert push(exported, "me/new", "--yes") == 0
    assert len(hub.repos["me/new"].titles["main"]) == commits, "nothing is new"


def test_a_private_repository_of_others_stays_so(hub: Hub, exported: Path) -> None:
    hub.repos["me/mine"] = Repo(True, titles={"main": ["initial commit", "secret", MESSAGE]})
    assert push(exported, "me/mine") == 0
    assert hub.repos["me/mine"].private


@pytest.mark.parametrize("streamed", [False, True])
def test_branches_and_pull_requests_leave_the_rest_alone(
    streamed: bool, hub: Hub, exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", not streamed)
    hub.large = "nothing"
    hub.repos["you/other"] = Repo(False, {"main": {"model.bin": b"1"}})
    assert push(exported, "you/other", "--revision", "erased", "--yes") == 0
    assert f"{hub.url}/you/other/tree/erased\n" in capsys.readouterr().out
    repo = hub.repos["you/other"]
    assert repo.branches["main"] == {"model.bin": b"1"}
    assert set(repo.branches["erased"]) > {"model.bin", "model.safetensors"}
    if streamed:  # else the hub makes the pull request of the commit
        assert push(exported, "you/other", "--create-pr", "--yes") == 0
        assert f"{hub.url}/you/other/discussions/1\n" in capsys.readouterr().out
        assert "model.safetensors" in repo.branches["refs/pr/1"]
    assert repo.branches["main"] == {"model.bin": b"1"}


@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("\n", 1), ("", 1), ("no\n", 1)])
def test_a_terminal_is_asked(typed: str, code: int, hub: Hub, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO(typed)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    assert push(exported, "me/new") == code
    assert bool(hub.repos) == (code == 0)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["{out}", "me/new"], "me/new will be public, and nobody is there to ask; say --yes, or --private"),
        (["{out}", "new"], "expected a repository as user/name (letters, digits, '-', '_', '.'), got 'new'"),
        (["{out}", "me/a b"], "expected a repository as user/name (letters, digits, '-', '_', '.'), got 'me/a b'"),
        (["{out}", "a/b/c"], "expected a repository as user/name"),
        (["{out}"], "user/name"),
        (["nowhere", "me/new"], "nowhere is no finished run or export; expected a folder with a run.json or export.json"),
        (["begun", "me/new"], "begun.partial is unfinished: give its command again"),
        (["begun.partial", "me/new"], "begun.partial is no finished run or export"),
        (["{out}", "you/new", "--yes"], "your token is of me, which cannot make you/new; expected me/new"),
        (["{out}", "me/new", "--create-pr"], "there is no repository me/new to ask a pull request of"),
        (
            ["{out}", "me/other", "--yes"],
            "me/other is taken, it holds something else (model.bin); name another, or put it on a br",
        ),
        (["{out}", "me/other", "--revision", "main", "--yes"], "me/other is taken"),
        (["{out}", "me/other", "--private"], "me/other is there and public; drop --private"),
        (["{out}", "me/other", "--create-pr", "--revision", "x"], "--create-pr asks for a pull request on the main branch; drop"),
    ],
)
def test_bad_input_is_one_line_and_sends_nothing(
    args: list[str],
    says: str,
    hub: Hub,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "begun.partial").mkdir()
    hub.repos["me/other"] = Repo(False, {"main": {"model.bin": b"1"}})
    assert push(*(arg.format(out=exported) for arg in args)) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in line
    assert set(hub.repos) == {"me/other"}
    assert all(call.startswith("GET") for call, _ in hub.seen)


@pytest.mark.parametrize(
    ("token", "refused", "says"),
    [
        (None, {}, "no token for the hub; log in with 'hf auth login', or set HF_TOKEN"),
        ("hf_wrong", {}, "the hub does not know this token; log in with 'hf auth login', or set HF_TOKEN"),
        (READER, {}, "this token may not write to me/new: you must have write access"),
        ("hf_€", {}, "the token has a character that none has; log in with 'hf auth login', or set HF_TOKEN"),
        (GOOD, {"create": (403, {"error": f"{GOOD} is too old"})}, "this token may not write to me/new: [token] is too old"),
        (GOOD, {"create": (403, {"error": "the name is reserved"})}, "this token may not write to me/new: the name is reserved"),
        (GOOD, {"create": (409, {"error": "You already created it"})}, "me/new is taken: You already created it"),
        (GOOD, {"whoami": (200, b"<html>log in to the wireless network</html>")}, "http://127.0.0.1"),
        (GOOD, {"whoami": (429, {})}, "the hub wants a pause; try again later"),
    ],
)
def test_what_the_hub_refuses_is_one_line_without_the_token(
    token: str | None,
    refused: dict[str, Any],
    says: str,
    hub: Hub,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN")
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    hub.refused = refused
    assert push(exported, "me/new", "--yes") == 2
    said = capsys.readouterr()
    line = said.err.strip().splitlines()[-1]
    assert line.startswith("efface: push: ")
    assert says in line
    assert token is None or token not in said.out + said.err
    assert hub.repos == {}


def test_without_a_network(exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_TOKEN", GOOD)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert push(exported, "me/new", "--yes") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == "efface: push: cannot reach http://127.0.0.1:9: [Errno 111] Connection refused"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    assert push(exported, "me/new", "--yes") == 2
    assert "HF_HUB_OFFLINE is set; unset it to upload" in capsys.readouterr().err
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    close_session()


@pytest.mark.parametrize("name", ["README.md", "model.safetensors"])
def test_an_export_that_is_not_what_was_exported_is_refused(
    name: str, hub: Hub, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(exported, tmp_path / "out")
    (folder / "notes.txt").write_text("of mine")
    assert push(folder, "me/new", "--yes") == 0
    assert "notes.txt" not in hub.repos.pop("me/new").branches["main"]
    hub.seen.clear()
    (folder / name).write_bytes(b"another")
    assert push(folder, "me/new", "--yes") == 2
    assert f"{name} is missing or not what was exported; export it again" in capsys.readouterr().err
    assert hub.seen == []


def test_what_a_run_would_reach_for_stays_here(hub: Hub, light_run: Run, tmp_path: Path) -> None:
    """Nor its own files, nor an address."""
    folder = shutil.copytree(light_run.folder, tmp_path / "run")
    for file, keys in (("run.json", ("recipe", "audit")), ("audit.json", ("settings",))):
        content = settings = json.loads((folder / file).read_text())
        for key in keys:
            settings = settings[key]
        settings |= {"endpoint": "http://secret:1", "scorers": ["/secret/s.py"], "attacks": ["/secret/a.py"]}
        write_json(folder / file, content)
    assert push(folder, "me/new", "--private") == 0
    assert not [name for name, content in hub.repos["me/new"].branches["main"].items() if b"secret" in content]
    (folder / "adapter" / "adapter_model.safetensors").unlink()
    assert push(folder, "me/new", "--private") == 2
