"""Files of one's own: any damage is noticed, and what can be made again is dropped and said."""

import json
import random
from pathlib import Path

import pytest
from pydantic import RootModel

from efface.auditing import pair
from efface.auditing.scores import Answer, Measured, Score
from efface.errors import RunError
from efface.files import SUMS, damaged, read_json, read_object, read_or_drop, seal, write_json

MEASURED = Measured(
    scores={"choice/forget/acc": Score(value=0.25, n=8, low=0.1, high=0.5, items=(0.0, 1.0))},
    answers=[Answer(prompt="Who?", text="Käfer, 蜂蜜")],
)


def flipped(content: bytes, number: int) -> bytes:
    rng = random.Random(number)
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def test_no_flipped_bit_changes_what_is_read(tmp_path: Path) -> None:
    file, refused = tmp_path / "one.json", 0
    write_json(file, MEASURED)
    whole = file.read_bytes()
    for number in range(400):
        file.write_bytes(flipped(whole, number))
        try:
            assert read_json(file, Measured) == MEASURED
        except RunError:
            refused += 1
    assert refused > 380, "but for the case of an exponent and the like"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 99999, b'{"sha256": 1}', b'{"sha256": null, "a": 1}']
)
def test_what_can_be_made_again_is_dropped_and_said(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "one.json"
    assert read_or_drop(file, Measured) is None
    assert capsys.readouterr().err == ""
    file.write_bytes(content)
    assert read_or_drop(file, Measured) is None
    assert not file.exists()
    said = capsys.readouterr().err
    assert said.startswith(str(file))
    assert said.endswith("; it is made again\n")
    assert said.count("\n") == 1


def test_a_file_of_before_and_one_that_was_laid_out_anew_are_read(tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_text(MEASURED.model_dump_json())
    assert read_json(file, Measured) == MEASURED
    write_json(file, {"a": {"b": (1, 2.5e-7)}, "1": None, "half": "\ud83d"})
    file.write_text(json.dumps(json.loads(file.read_text()), indent=7, sort_keys=True))
    assert read_object(file) == {"a": {"b": [1, 2.5e-7]}, "1": None, "half": "\ud83d"}


def test_a_folder_is_whole_while_every_file_is_as_it_was_sealed(tmp_path: Path) -> None:
    assert damaged(tmp_path) == SUMS
    (tmp_path / "in").mkdir()
    for name in ("a.bin", "in/b.bin"):
        (tmp_path / name).write_bytes(name.encode() * 50)
    seal(tmp_path)
    assert damaged(tmp_path) is None
    for name in ("a.bin", "in/b.bin"):
        content = (tmp_path / name).read_bytes()
        for bad in (b"", content[:-1], flipped(content, 1)):
            (tmp_path / name).write_bytes(bad)
            assert damaged(tmp_path) == name
        (tmp_path / name).unlink()
        assert damaged(tmp_path) == name
        (tmp_path / name).write_bytes(content)
    for sums in ("{}", "[]", "", '{"a.bin": 1}'):
        (tmp_path / SUMS).write_text(sums)
        assert damaged(tmp_path) == SUMS


def test_no_flipped_bit_of_cached_figures_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path))
    assert pair.kept("name", lambda: MEASURED) == MEASURED
    (file,) = (tmp_path / "audits").iterdir()
    whole = file.read_bytes()
    for number in range(200):
        file.write_bytes(flipped(whole, number))
        assert pair.kept("name", lambda: MEASURED) == MEASURED
    file.write_bytes(flipped(whole, 0))
    pair.kept("name", lambda: MEASURED)
    assert file.read_bytes() == whole
    file.chmod(0o400)
    assert read_or_drop(file, RootModel[dict[str, int]]) is None
