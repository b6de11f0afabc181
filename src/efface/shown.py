"""Text that others wrote, as it is shown: titles, names of folders, answers of a model, errors that repeat them.

One function for a terminal, one for Markdown; pages are escaped by their templates.
"""

import re
import sys
from typing import TextIO

#: what moves the cursor, colours, clears, breaks a line or turns its direction: control characters, separators of lines and
#: paragraphs, overrides of direction, halves of a character
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
#: what Markdown or the HTML in it gives a meaning; an underscore inside a word has none
MEANING = re.compile(r"[\\`*\[\]<>#!|~$&:]|(?<!\w)_|_(?!\w)")


def for_terminal(text: object, *, lines: bool = False) -> str:
    r"""Text in which nothing steers a terminal: ``\x1b`` is shown as these four characters.

    lines: keep line ends and tabs, for text that may have several lines; else they are shown likewise.
    """
    return CONTROL.sub(lambda found: _escaped(found[0], "\n\t" if lines else ""), str(text))


def for_markdown(text: object) -> str:
    """Text that stands in a line or a cell of Markdown as it is: no markup, no HTML, one line."""
    return MEANING.sub(lambda found: f"\\{found[0]}", for_terminal(" ".join(str(text).split())))


def say(text: object, to: TextIO | None = None) -> None:
    """Print one line, now (on standard output, if nothing else is said)."""
    print(for_terminal(text), file=to or sys.stdout, flush=True)


def complain(text: object) -> None:
    """Print one line on standard error, now."""
    say(text, sys.stderr)


def on_one_line(text: str) -> str:
    """The same text. Raises ValueError for one that is not a single line of plain text."""
    if CONTROL.search(text):
        raise ValueError(f"expected one line without control characters, got {text[:80]!r}")
    return text


def _escaped(character: str, kept: str) -> str:
    return character if character in kept else character.encode("unicode_escape").decode()
