"""What others wrote, as it is shown: it steers no terminal and makes no markup; and what goes in has to be plain lines."""

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from pydantic import ValidationError

from efface.auditing.scores import Audit, Figure, Measured, Score
from efface.cli import generate, main
from efface.cli.compare import markdown
from efface.concept.pack import Concept
from efface.errors import ConceptError
from efface.recipe.settings import AuditSettings, LoraSettings
from efface.report.table import Spread
from efface.report.terminal import print_audit
from efface.shown import CONTROL, for_markdown, for_terminal, in_table, on_one_line
from tests.conftest import write_pack

ESCAPES = {
    "\x1b[2J\x1b[31mred": r"\x1b[2J\x1b[31mred",
    "title\x1b]0;owned\x07": r"title\x1b]0;owned\x07",
    "a\nefface: all is well": r"a\nefface: all is well",
    "over\rwritten": r"over\rwritten",
    "\x9b1m": r"\x9b1m",
    "a\u2028b": r"a\u2028b",
    "\u202egnp.exe": r"\u202egnp.exe",
    "\x00": r"\x00",
    "half \udce9": r"half \udce9",
    "plain: 蜂蜜 – Ägypten, a\u200db, a\u00a0b": "plain: 蜂蜜 – Ägypten, a\u200db, a\u00a0b",
}
MARKUP = [
    "<img src=x onerror=alert(1)>",
    "a | b || c",
    "[here](https://elsewhere.example) ![x](y)",
    "`code` *a* **b** _c_ __d__ ~~e~~ $x$ snake_case",
    "&lt; &amp; \\ \\| # head #",
    "<https://elsewhere.example> https://elsewhere.example",
    "<!-- --> </td></table>",
    "a\n\n# head\n\n- item\tb",
]
SPREAD = Spread(0.7, 0.6, 0.75)


@pytest.mark.parametrize("text", ESCAPES)
def test_nothing_steers_a_terminal(text: str) -> None:
    assert for_terminal(text) == ESCAPES[text]
    assert for_terminal(for_terminal(text)) == for_terminal(text)
    assert in_table(f"[bold]{text}[/]").startswith(r"\[bold]")


def test_an_answer_keeps_its_lines() -> None:
    assert for_terminal("a\n\tb\r\x1b[1A", lines=True) == "a\n\tb\\r\\x1b[1A"


@pytest.mark.parametrize("text", [*MARKUP, *ESCAPES])
def test_markdown_shows_the_text_itself(text: str) -> None:
    """Rendered in a heading and in a table, with links made of bare addresses, it reads as it was written."""
    render = MarkdownIt("js-default", {"linkify": False}).render
    expected = for_terminal(" ".join(text.split()))
    for source, tag in ((f"# {for_markdown(text)}\n", "h1"), (f"| a |\n|---|\n| {for_markdown(text)} |\n", "td")):
        page = render(source)
        shown = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert [html.unescape(cell) for cell in shown] == [expected], page
        assert not re.search("<(img|a|em|strong|code|s|ul)\\b", page)
    assert not re.search(r"(?<!\\):", for_markdown(text)), "no reader makes a link of it"


@pytest.mark.parametrize("text", [text for text in ESCAPES if CONTROL.search(text)])
@pytest.mark.parametrize("field", ["title", "aliases", "keywords", "topics", "forget", "tasks"])
def test_one_line_fields_of_a_pack_are_one_line(field: str, text: str, tmp_path: Path) -> None:
    value: Any = {"title": text, "forget": [text], "tasks": {"forget": [text]}}.get(field, [text])
    write_pack(tmp_path, **{field: value})
    manifest = yaml.safe_load((tmp_path / "concept.yaml").read_text())
    assert (manifest[field] or manifest["title"]) == value
    with pytest.raises(ConceptError, match=f"{field}.*(expected one line without control characters)") as said:
        Concept.load(str(tmp_path))
    assert not CONTROL.search(for_terminal(said.value))


def test_a_topic_of_a_question_is_one_line(tmp_path: Path) -> None:
    write_pack(tmp_path)
    for file in ("questions.jsonl", "open.jsonl", "retain.jsonl"):
        whole = (tmp_path / file).read_text()
        (tmp_path / file).write_text(whole.replace('"topic": "it"', '"topic": "a\\u001b[2Jb"', 1))
        with pytest.raises(ConceptError, match=f"{file}:1: topic: expected one line without control characters"):
            Concept.load(str(tmp_path))
        (tmp_path / file).write_text(whole)
    Concept.load(str(tmp_path))


@pytest.mark.parametrize("line", ['model: "m\\e[2J"', 'method: "npo\\n"', 'audit: {tasks: ["a\\nb"]}', 'options: {"a\\e": 1}'])
def test_a_recipe_holds_lines(line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.yaml").write_text("\n".join(["model: m"] * (not line.startswith("model")) + ["concept: ancient-egypt", line]))
    assert main(["erase", str(tmp_path / "r.yaml")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert not CONTROL.search(said.rstrip("\n"))


def test_every_setting_is_a_line() -> None:
    with pytest.raises(ValidationError, match="one line"):
        LoraSettings(layers="0\n1")
    with pytest.raises(ValidationError, match="one line"):
        AuditSettings(scorers=("a.py", "b\x1b.py"))
    assert on_one_line(("a", {"b": 1}, None)) == ("a", {"b": 1}, None)


def test_a_foreign_audit_steers_neither_the_terminal_nor_the_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    evil = "\x1b[2J[/b] <img src=x> | a\nb"
    figure = Figure(key="own/forget/x", goal=evil, label=evil, wanted="up")
    scores = {"own/forget/x": Score(value=0.5, n=9), "choice/forget/acc": Score(value=0.5, n=9, low=0.4, high=0.6, chance=0.2)}
    measured = Measured(scores=scores, answers=[])
    audit = Audit(concept=evil, title=evil, split="test", base=measured, erased=measured, figures=(figure,))
    print_audit(audit, evil)
    folder = tmp_path / "evil\x1b[31m | <b>\n"
    folder.mkdir()
    (folder / "audit.json").write_text(audit.model_dump_json())
    shutil.copytree(folder, tmp_path / "other")
    assert main(["compare", str(folder), str(tmp_path / "other"), "--to", str(tmp_path / "to")]) == 0
    assert main(["gate", str(folder), "--max", evil, "0.6"]) == 1
    assert main(["gate", str(tmp_path / evil.replace("/", "")), "--max-forget", "1"]) == 2
    shown = capsys.readouterr()
    for line in (shown.out + shown.err).split("\n"):
        assert not CONTROL.search(line), repr(line)
    table = (tmp_path / "to" / "compare.md").read_text()
    assert table.splitlines()[2].startswith(r"| evil\\x1b\[31m \| \<b\>\\n (bare stem only) | 1 |")
    assert set(json.loads((tmp_path / "to" / "compare.json").read_text())) == {
        f"{name} (bare stem only)" for name in (r"evil\x1b[31m | <b>\n", "other")
    }


def test_an_answer_of_a_model_steers_no_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "is_run", lambda _: True)
    monkeypatch.setattr(generate, "_with_runs", lambda *_: {"base": "\x1b[2J\x1b]0;owned\x07one\n[red]two[/]"})
    assert main(["generate", "run", "Who?"]) == 0
    assert capsys.readouterr().out == "base: \\x1b[2J\\x1b]0;owned\\x07one\n[red]two[/]\n"


def test_names_in_the_table_of_a_comparison_stay_in_their_cell() -> None:
    rows = markdown({name: {"gone": SPREAD} for name in MARKUP}, dict.fromkeys(MARKUP, 1)).splitlines()
    page = MarkdownIt("js-default", {"linkify": False}).render("\n".join(rows))
    assert [html.unescape(cell) for cell in re.findall("<td>(.*?)</td>", page)][::3] == [" ".join(of.split()) for of in MARKUP]
    assert page.count("<tr>") == len(MARKUP) + 1
