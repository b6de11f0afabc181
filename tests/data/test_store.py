import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from efface.data import store as module
from efface.data.store import Store, Tensors, catalogue, folder, shrink
from efface.data.targets import retain_targets
from efface.data.text import Text
from efface.data.tilted_targets import Tilt, erase_targets
from efface.errors import InputError
from efface.lm.load import Loaded
from efface.recipe.settings import EraseSettings
from efface.runs.pipeline import prepare

TEXTS = [Text([5, 6, 7, 8, 9, 10], 1), Text([40, 41, 42], 2), Text(list(range(60, 80)), 4)]
PERSONAS = [[([20, 21, 22], [30, 31])], [([23, 24], [31, 32, 33, 34])], [([24, 25], [35, 36])]]


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path / "cache"))


class Builder:
    """Makes an entry of two tensors and counts how often it was asked."""

    def __init__(self) -> None:
        self.built: list[int] = []

    def __call__(self, i: int) -> Tensors:
        self.built.append(i)
        return {"ids": torch.arange(4) + i, "value": torch.full((2, 3), float(i))}


def ask(build: Builder, parts: list[object], **changes: object) -> list[Tensors]:
    return Store({"model": "a", **changes}).entries("erase", parts, build)  # type: ignore[dict-item]


def test_an_entry_is_built_once_and_everything_that_enters_counts() -> None:
    build = Builder()
    first = ask(build, ["x", "y"])
    again = ask(build, ["y", "x"])
    assert build.built == [0, 1]
    assert torch.equal(first[0]["value"], again[1]["value"])
    ask(build, ["x"], model="b")
    ask(build, [["x", 1]])
    assert build.built == [0, 1, 0, 0]
    assert {entry.kind for entry in catalogue()} == {"erase"}
    assert not [path for path in folder().iterdir() if path.suffix != ".safetensors"]


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "another's"])
def test_a_damaged_entry_is_built_again(damage: str) -> None:
    build = Builder()
    (expected,) = ask(build, ["x"])
    (path,) = folder().iterdir()
    whole = path.read_bytes()
    path.unlink()  # what was read is still mapped
    if damage == "another's":
        Store({"model": "a"}).entries("erase", ["other"], lambda _: build(7))
        (other,) = folder().iterdir()
        path.write_bytes(other.read_bytes())  # whole, under a name that is not its own
    else:
        path.write_bytes({"flipped": whole[:-1] + bytes([whole[-1] ^ 1]), "cut": whole[:-9], "empty": b""}[damage])
    build.built.clear()
    (got,) = ask(build, ["x"])
    assert build.built == [0]
    assert torch.equal(got["value"], expected["value"])
    assert len(path.read_bytes()) == len(whole)
    ask(build, ["x"])
    assert build.built == [0]


def test_the_least_recently_used_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    build = Builder()
    ask(build, ["x", "y"])
    for i, entry in enumerate(catalogue()):
        os.utime(entry.path, (i, i))
    oldest, newest = (entry.path for entry in catalogue())
    size = newest.stat().st_size
    monkeypatch.setenv("EFFACE_STORE_GB", str(2.5 * size / 1e9))
    ask(build, ["z"])
    assert not oldest.exists()
    assert newest.exists()
    assert shrink(0) == 2 * size
    assert catalogue() == []


def test_a_store_that_cannot_be_written_costs_only_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    build = Builder()
    assert ask(build, ["x"])[0]["ids"].tolist() == [0, 1, 2, 3]
    assert "cannot keep erase-" in capsys.readouterr().err
    assert list(folder().iterdir()) == []


@pytest.mark.parametrize("limit", ["inf", "nan", "-1", "10GB", "1e300"])
def test_a_wrong_limit_is_one_line(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFACE_STORE_GB", limit)
    with pytest.raises(InputError, match="EFFACE_STORE_GB: expected a number of gigabytes"):
        module.limit()


def test_what_a_kill_left_half_written_goes() -> None:
    ask(Builder(), ["x"])
    old, new = folder() / ".erase-1.part", folder() / ".erase-2.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    shrink(10**9)
    assert not old.exists()
    assert new.exists()
    assert len(catalogue()) == 1


def test_two_processes_share_the_work_and_may_meet() -> None:
    script = (
        "import sys, time, torch; from efface.data.store import Store; built = []\n"
        "def build(i):\n    built.append(i); time.sleep(0.2)\n    return {'x': torch.full((1000,), i)}\n"
        "got = Store({'model': 'a'}, (int(sys.argv[1]), 2)).entries('erase', list(range(8)), build)\n"
        "print(len(built), [int(entry['x'][0]) for entry in got])"
    )

    def both() -> list[tuple[int, str]]:
        running = [subprocess.Popen([sys.executable, "-c", script, rank], stdout=subprocess.PIPE, text=True) for rank in "01"]
        said = [process.communicate()[0].strip().split(" ", 1) for process in running]
        return [(int(count), rest) for count, rest in said]

    everything = str(list(range(8)))
    first = both()
    assert [rest for _, rest in first] == [everything] * 2
    assert 8 <= sum(count for count, _ in first) < 16
    assert both() == [(0, everything)] * 2


def test_targets_come_from_the_store(llama: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    store, tilt = Store({"model": "llama"}), Tilt(EraseSettings(top_k=5), 1, 9)
    erased = erase_targets(llama.model, store, TEXTS, PERSONAS, tilt)
    said = retain_targets(llama.model, store, TEXTS, 1, k=5)
    monkeypatch.setattr(type(llama.model), "forward", None)  # no forward pass from here on
    again, said_again = (
        erase_targets(llama.model, store, TEXTS, PERSONAS, tilt),
        retain_targets(llama.model, store, TEXTS, 1, k=5),
    )
    for one, other in zip([*erased, *said.targets], [*again, *said_again.targets], strict=True):
        assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("ids", "logprobs", "tail"))
    assert torch.equal(said.mean, said_again.mean)
    for settings in (EraseSettings(temperature=5.0), EraseSettings(eta=2000.0), EraseSettings(top_k=None)):
        with pytest.raises(TypeError):
            erase_targets(llama.model, store, TEXTS, PERSONAS, Tilt(settings, 1, 9))


def test_filling_a_store_that_is_too_small_is_an_error(
    model_folders: dict[str, Path], pack_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFACE_STORE_GB", "0.000001")
    with pytest.raises(InputError, match=r"entries could not be kept; expected room .* EFFACE_STORE_GB \(1e-06\)"):
        prepare(str(model_folders["llama"]), str(pack_folder), data={"max_tokens": 16}, fluency={"texts": 2, "tokens": 8})


def test_filling_a_store_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="cannot be written .*EFFACE_CACHE"):
        prepare("any-model", "ancient-egypt")
