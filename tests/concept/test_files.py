"""What a pack may name: regular files in it, or named by the user; anything else is one line, at once."""

import os
from pathlib import Path

import pytest

from efface.cli import main
from efface.concept import files
from efface.concept.files import open_file, read_lines, read_text, within
from efface.concept.pack import Concept
from efface.concept.sources import Source, read_source
from efface.errors import ConceptError
from tests.conftest import write_pack

FIELDS = ["forget", "retain", "questions", "open_questions"]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/dev/zero", "outside the pack; expected a file in "),
        ("../other.jsonl", "outside the pack; expected a file in "),
        ("sub/../../other.jsonl", "outside the pack"),
        ("builtin:../pack.py", "outside the pack"),
        ("builtin:/etc/passwd", "outside the pack"),
        ("away.jsonl", "outside the pack"),
        ("zero.jsonl", "outside the pack"),
        ("pipe.jsonl", "a device or pipe; expected a regular file"),
        ("sub", "a folder; expected a file"),
        (".", "a folder; expected a file"),
        ("circle.jsonl", "cannot be read (Too many levels of symbolic links)"),
        ("a" * 5000, "cannot be read (File name too long)"),
        ("nothing.jsonl", "cannot be read (No such file or directory)"),
        ("\0x", "expected one line without control characters"),
        ("a\nb", "without control characters"),
        (" ", "expected the name of a file or data set"),
    ],
)
def test_a_pack_names_regular_files_of_its_own(
    field: str, name: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = tmp_path / "zorn"
    (pack / "sub").mkdir(parents=True)
    write_pack(pack, **{field: [name]})
    (tmp_path / "other.jsonl").write_text("")
    os.mkfifo(pack / "pipe.jsonl")
    (pack / "away.jsonl").symlink_to(tmp_path / "other.jsonl")
    (pack / "zero.jsonl").symlink_to("/dev/zero")
    (pack / "circle.jsonl").symlink_to("circle.jsonl")
    assert main(["concept", "check", str(pack)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"file": "/dev/zero"}, "a device or pipe; expected a regular file"),
        ({"file": "pipe.jsonl"}, "a device or pipe"),
        ({"file": "."}, "a folder; expected a file"),
        ({"file": "circle.jsonl"}, "Too many levels of symbolic links"),
        ({"file": "\0x"}, "without control characters"),
        ({"hub": "owner/\0"}, "without control characters"),
        ({"file": "a" * 5000}, "no file aaaa"),
        ({"file": "a", "feild": "b"}, "concept.yaml: forget.0.source.feild: no such setting"),
        (7, "concept.yaml: forget.0.source: Input should be a valid dictionary"),
    ],
)
def test_so_does_a_source(source: object, says: str, tmp_path: Path) -> None:
    write_pack(tmp_path, forget=[source])
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "circle.jsonl").symlink_to("circle.jsonl")
    with pytest.raises(ConceptError) as caught:
        Concept.load(str(tmp_path))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_links_within_a_pack_and_folders_below_it_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write_pack(tmp_path, forget=["sub/forget.jsonl"], retain=["link.jsonl"])
    (tmp_path / "forget.jsonl").rename(tmp_path / "sub" / "forget.jsonl")
    (tmp_path / "link.jsonl").symlink_to("retain.jsonl")
    assert len(Concept.load(str(tmp_path)).forget) == 4
    linked = tmp_path.with_name("linked")
    linked.symlink_to(tmp_path)
    assert Concept.load(str(linked)).digest
    assert within(Path("pack"), "builtin:general/retain.jsonl").is_file()


def test_a_pack_in_the_cache_of_the_hub_is_links(tmp_path: Path) -> None:
    blobs, pack = tmp_path / "datasets--a--b" / "blobs", tmp_path / "datasets--a--b" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    pack.mkdir(parents=True)
    write_pack(pack)
    for number, file in enumerate(sorted(pack.iterdir())):
        file.rename(blobs / str(number))
        file.symlink_to(Path("../../blobs") / str(number))
    assert len(Concept.load(str(pack)).forget) == 4
    (pack / "retain.jsonl").unlink()
    (pack / "retain.jsonl").symlink_to("/etc/passwd")
    with pytest.raises(ConceptError, match="outside the pack"):
        Concept.load(str(pack))


def test_a_file_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"x" * 100)
    assert read_text(file, 100) == "x" * 100
    with pytest.raises(ConceptError, match="100 bytes; expected at most 99"):
        read_text(file, 99)
    monkeypatch.setattr(files, "_require_regular", lambda *_: None)  # a file that tells no size
    with pytest.raises(ConceptError, match="larger than expected"):
        list(read_lines(file, 99))
    with pytest.raises(ConceptError, match="larger than expected"):
        list(read_lines(Path("/dev/zero"), 10**6))


def test_the_manifest_too(tmp_path: Path) -> None:
    write_pack(tmp_path)
    manifest = tmp_path / "concept.yaml"
    text = manifest.read_text()
    manifest.write_bytes(("\ufeff" + text).encode("utf-16-le"))
    assert Concept.load(str(tmp_path)).name == "zorn"
    manifest.write_bytes(text.encode() + b" " * files.MOST_OF_MANIFEST)
    with pytest.raises(ConceptError, match="expected at most 16,777,216"):
        Concept.load(str(tmp_path))
    manifest.unlink()
    for target in ("/dev/zero", "/etc/hostname"):
        manifest.symlink_to(target)
        with pytest.raises(ConceptError, match=r"holds no concept.yaml|outside the pack"):
            Concept.load(str(tmp_path))
        manifest.unlink()
    with pytest.raises(ConceptError, match="no concept pack"):
        Concept.load("\0" + "a" * 5000)


def test_nothing_stays_open(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "one"}\n' * 3)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    for _ in range(3):
        read_source(Source(file=str(file), most=1))
        with pytest.raises(ConceptError):
            open_file(tmp_path)
    assert not before or len(os.listdir("/proc/self/fd")) <= before + 1
