"""``python -m tests.tiny FOLDER``: the random model and the pack of the tests, to try one's own code on in seconds."""

import sys
from pathlib import Path

from tests.conftest import tiny_model, write_pack, write_tokenizer


def write_tiny(folder: Path) -> None:
    """``model`` and ``pack`` in a folder."""
    for name in ("model", "pack"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    tiny_model("llama").save_pretrained(folder / "model")
    write_tokenizer(folder / "model")
    write_pack(folder / "pack")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.tiny FOLDER")
    write_tiny(Path(sys.argv[1]))
