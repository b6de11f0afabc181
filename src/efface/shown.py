"""Text that others wrote, as it is shown: titles, names of folders, answers of a model, errors that repeat them.

One function for a terminal, one for Markdown; pages are escaped by their templates.
"""

import re
import sys
from collections.abc import Mapping
from typing import Annotated, Any, TextIO

from pydantic import AfterValidator
from rich.markup import escape

#: what moves the cursor, colours, clears, breaks a line or turns its direction: control characters, separators of lines and
#: paragraphs, overrides of direction, halves of a character
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
#: what Markdown or the HTML in it gives a meaning; an underscore inside a word has none
MEANING = re.compile(r"[\\`*\[\]<>#!|~$&:]|(?<![^\W_])_|_(?![^\W_])")


def for_terminal(text: object, *, lines: bool = False) -> str:
    r"""Text in which nothing steers a terminal: ``\x1b`` is shown as these four characters.

    lines: keep line ends and tabs, for text that may have several lines; else they are shown likewise.
    """
    return CONTROL.sub(lambda found: _escaped(found[0], "\n\t" if lines else ""), str(text))


def in_table(text: object) -> str:
    """Text for a cell or a title that rich lays out: for a terminal, and without rich's own markup."""
    return escape(for_terminal(text))


def for_markdown(text: object) -> str:
    """Text that stands in a line or a cell of Markdown as it is: no markup, no HTML, one line."""
    return MEANING.sub(lambda found: f"\\{found[0]}", for_terminal(" ".join(str(text).split())))


def say(text: object, to: TextIO | None = None, *, lines: bool = False) -> None:
    """Print one line, or with ``lines`` several, at once; on standard output, if nothing else is said."""
    print(for_terminal(text, lines=lines), file=to or sys.stdout, flush=True)


def complain(text: object) -> None:
    """Print one line on standard error, at once."""
    say(text, sys.stderr)


def on_one_line(value: Any) -> Any:
    """The same value. Raises ValueError for a text, alone or in a collection, that is not one line without control characters."""
    if isinstance(value, str) and CONTROL.search(value):
        raise ValueError(f"expected one line without control characters, got {value[:80]!r}")
    if isinstance(value, Mapping):
        on_one_line([*value.keys(), *value.values()])
    elif isinstance(value, list | tuple):
        for of in value:
            on_one_line(of)
    return value


#: a text that is shown within a line
Line = Annotated[str, AfterValidator(on_one_line)]


def _escaped(character: str, kept: str) -> str:
    return character if character in kept else character.encode("unicode_escape").decode()
