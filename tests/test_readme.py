"""What the README and the pages say to type is what the program takes."""

import re
from pathlib import Path
from typing import Any

import pytest

from efface.author.name import is_name
from efface.cli import VERBS
from efface.cli.audit import Arguments as AuditArguments
from efface.cli.chat import Arguments as ChatArguments
from efface.cli.compare import Arguments as CompareArguments
from efface.cli.erase import EraseArguments
from efface.cli.export import Arguments as ExportArguments
from efface.cli.gate import Arguments as GateArguments
from efface.cli.generate import Arguments as GenerateArguments
from efface.cli.parse import parse
from efface.cli.play import Arguments as PlayArguments
from efface.cli.prepare import PrepareArguments
from efface.cli.push import Arguments as PushArguments
from efface.cli.reproduce import Arguments as ReproduceArguments
from efface.cli.tune import TuneArguments
from efface.concept.find import builtin_packs, find_packs
from efface.concept.pack import Concept
from efface.lm.bundled import ALIASES
from efface.lm.load import load
from efface.recipe.recipe import read_recipe
from efface.recipe.resolve import resolve
from efface.runs.run import Run
from tests.runs.conftest import SMALL
from tests.runs.conftest import run as run
from tests.tiny import write_tiny

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
NAMES = (
    "architecture",
    "attacks",
    "audit",
    "methods",
    "names",
    "recipe",
    "scale",
    "concepts",
    "install",
    "performance",
    "release",
    "results",
    "talk",
)
PAGES = "\n".join(
    [README, *((ROOT / "docs" / f"{name}.md").read_text() for name in NAMES), (ROOT / "examples/README.md").read_text()]
)
LAUNCHED = r"(?:(?:accelerate launch|torchrun) [^#\n]*-m )?"
#: those on lines of their own, and those in the text that have arguments
COMMANDS = [
    command.replace("…", "").strip()
    for pattern in (rf"^    {LAUNCHED}(efface [^#\n]*)", r"`(efface \w+ [^`\n…]* [^`\n…]*)`")
    for command in re.findall(pattern, PAGES, re.MULTILINE)
]
PARSED = {
    "erase": EraseArguments,
    "prepare": PrepareArguments,
    "audit": AuditArguments,
    "compare": CompareArguments,
    "export": ExportArguments,
    "gate": GateArguments,
    "chat": ChatArguments,
    "play": PlayArguments,
    "push": PushArguments,
    "reproduce": ReproduceArguments,
    "tune": TuneArguments,
}


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    there = {target for rule in re.findall(r"^([a-z ]+):", makefile, re.MULTILINE) for target in rule.split()}
    assert {"demo", "test", *re.findall(r"`make (\w+)`", PAGES)} <= there


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command: str) -> None:
    words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', command)][1:]
    verb = next(verb for verb in VERBS if " ".join(words).startswith(verb))
    rest = words[len(verb.split()) :]
    if verb in PARSED:
        parsed = parse(PARSED[verb], rest, verb)
        if verb in ("erase", "prepare"):
            known = parsed.model in (*ALIASES, "MODEL", "RUN") or parsed.model.startswith(("runs/", "./"))
            assert known or parsed.model.endswith(".yaml")
            packs = (*builtin_packs(), "CONCEPT")
            there = (re.split("[:@]", name)[0] in packs or name.startswith("./") or is_name(name) for name in parsed.concepts)
            assert all(there)
    elif verb == "generate":
        assert len(parse(GenerateArguments, rest, verb).words) in (2, 3, 4)


def test_the_lines_of_python_work(
    run: Run, model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"BASE": str(model_folders["llama"])}
    peft, own, *others = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in peft.splitlines() if line]) <= 6
    erase = own.replace('"smollm2-135m"', "BASE").replace("train={", "**SMALL | dict(train={").replace("})", "}))", 1)
    for lines in (peft, erase, *others):
        names |= {"SMALL": SMALL}
        lines = lines.replace("runs/egypt/adapter", str(run.folder / "adapter")).replace('"ancient-egypt"', f'"{pack_folder}"')
        exec(lines.replace('"steps": 60', '"steps": 2'), names)  # noqa: S102
    assert names["run"].folder == Path("runs/egypt")
    assert (tmp_path / "erased" / "model.safetensors").is_file()


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda file: file.name)
def test_example_recipes_are_recipes(file: Path) -> None:
    recipe = resolve(read_recipe(file))
    assert all(folder.name in builtin_packs() for folder, *_ in find_packs(recipe.concept))


def anchors(page: Path) -> set[str]:
    """What a link can name in a page, as GitHub makes it of the headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "README.md"])
def test_links_lead_somewhere(page: Path) -> None:
    for link, _, anchor in re.findall(r"\]\(([^)#:]*)(#([^)]+))?\)", page.read_text()):
        there = page.parent / link if link else page
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), f"{link}#{anchor}"


def test_there_is_a_tiny_model_and_pack_to_try_things_on(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    assert load(str(tmp_path / "model")).tokenizer.chat_template
    assert Concept.load(str(tmp_path / "pack")).ask("forget", "test")
    write_tiny(tmp_path)  # once more


def test_the_tree_names_files_that_exist() -> None:
    tree = (ROOT / "docs" / "architecture.md").read_text().split("## The way")[0]
    for name in re.findall(r"^      (\S+)  ", tree, re.MULTILINE):
        assert (ROOT / "src" / "efface" / name).exists(), name
