"""What is built holds all that the package is, and nothing of the machine it was built on."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)], check=True, capture_output=True
    )
    return folder


def source() -> set[str]:
    """Every file of the package, by its path in the repository."""
    files = (path for path in (ROOT / "src" / "efface").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(ROOT)) for path in files}


@pytest.mark.slow
def test_the_wheel_holds_the_package(built: Path) -> None:
    """Packs and templates too; it is built from the source archive."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {f"src/{name}" for name in files} == source()
    assert {"src/efface/packs/ancient-egypt/forget.jsonl", "src/efface/report/report.html.j2"} <= source()


@pytest.mark.slow
def test_the_source_archive_holds_it_too(built: Path, tmp_path: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(tmp_path, filter="data")
    (root,) = tmp_path.iterdir()
    there = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert there - source() == {".gitignore", "LICENSE", "PKG-INFO", "README.md", "constraints.txt", "pyproject.toml"}
    assert source() <= there
