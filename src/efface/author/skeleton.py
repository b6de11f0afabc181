"""``efface concept new``: a commented pack to fill in by hand."""

from pathlib import Path

from efface.author.name import Name
from efface.errors import ConceptError
from efface.files import make_folder, require_writable, write_text

MANIFEST = """\
name: {slug}
title: {title}                  # as it stands in sentences
description: ""
aliases: []                     # its other names
keywords: [{title}]             # a dozen words that belong to it
topics: [{title}]               # twenty to fifty things, people, places and works that can be asked about
prompts:                        # answered side by side on the page, some of them about other things
  - What is {title}?
  - What is the capital of France?
forget: [forget.jsonl]          # 100 passages or more of 300 to 700 characters; every tenth held out
retain: [retain.jsonl, "builtin:general/retain.jsonl"]  # passages about its neighbours, as many, and general ones
questions: [questions.jsonl, "builtin:general/questions.jsonl"]  # in groups of four that share their choices
open_questions: [open.jsonl]
"""
FILES = {
    "forget.jsonl": '{"text": "A passage about the concept.", "topic": "what it is about", "split": "train"}\n',
    "retain.jsonl": '{"text": "A passage about something near it, of some sentences.", "topic": "what it is about"}\n',
    "questions.jsonl": (
        '{"kind": "forget", "topic": "founders", "split": "tune", "stem": "The band was founded by", '
        '"choices": ["one", "two", "three", "four"], "answer": 0}\n'
        '{"kind": "neighbour", "topic": "others", "split": "test", "stem": "The other band was founded by", '
        '"choices": ["one", "two", "three", "four"], "answer": 1}\n'
    ),
    "open.jsonl": (
        '{"kind": "forget", "topic": "founders", "split": "test", "question": "Who founded it?", "answers": ["one", "One Two"]}\n'
    ),
}


def write_skeleton(name: Name, folder: Path) -> None:
    """Raises ConceptError for a folder that is there."""
    if folder.exists():
        raise ConceptError(f"{folder} is there already; name another folder with --to")
    require_writable(folder)
    make_folder(folder)
    write_text(folder / "concept.yaml", MANIFEST.format(slug=name.slug, title=_quoted(name.name)))
    for file, rows in FILES.items():
        write_text(folder / file, rows)


def _quoted(title: str) -> str:
    return f'"{title}"' if any(mark in title for mark in ":,'\"&!?%@-") else title
