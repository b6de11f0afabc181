"""What is printed of an error: a line that says something."""

import pytest

from efface.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no such file"), "no such file"),
        (ValueError("\n  no such file\nand more"), "no such file"),
        (
            ValueError("Error(s) in loading:\n\tsize mismatch for a: 2\n\tsize mismatch for b: 3"),
            "Error(s) in loading: size mismatch for a: 2",
        ),
        (ValueError("could not read:\n\nbecause of:\n  the disk\nsee there"), "could not read: because of: the disk"),
        (ValueError("one of: \n(1) a file, \n(2) a folder"), "one of: (1) a file"),
        (ValueError("nothing follows:"), "nothing follows"),
        (ValueError(), "ValueError"),
        (ValueError(" \n"), "ValueError"),
        (KeyError("layers"), "KeyError 'layers'"),
        (KeyError(), "KeyError"),
    ],
)
def test_the_first_line_that_says_something(error: Exception, line: str) -> None:
    assert first_line(error) == line
