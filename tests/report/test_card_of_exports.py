"""The card of what ships: base, license, recipe, intervals; whatever a pack or a recipe says is no markup in it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from efface.recipe.record import RunRecord
from efface.recipe.resolve import resolve
from efface.report.card import Shipped, as_yaml, license_in, placeless, portable
from efface.report.judged import intervals
from efface.report.page import write_report
from tests.report.test_card import EVIL, audit, record

FENCE = "```\n# x\n<img src=x>\n```"


def shipped(kind: str = "merged", **changes: Any) -> Shipped:
    return Shipped(**{"format": kind, "precision": "bf16", "measured": True, "hub": "owner/name", "license": {}, **changes})


def write(folder: Path, of: Shipped, record: RunRecord) -> ModelCard:
    write_report(folder, audit(), record, of)
    return ModelCard.load(folder / "README.md")


@pytest.mark.parametrize(
    ("kind", "library", "relation", "says"),
    [
        ("merged", "transformers", "finetune", 'AutoModelForCausalLM.from_pretrained("THIS_FOLDER")'),
        ("adapter", "peft", "adapter", 'PeftModel.from_pretrained(model, "THIS_FOLDER")'),
        ("gguf", "gguf", "quantized", "llama-cli -m THIS_FOLDER/model.gguf"),
        ("gguf-lora", "gguf", "adapter", "--lora THIS_FOLDER/adapter.gguf"),
    ],
)
def test_it_says_how_to_use_what_ships(kind: str, library: str, relation: str, says: str, tmp_path: Path) -> None:
    card = write(tmp_path, shipped(kind), record())
    assert (card.data["library_name"], card.data.base_model_relation, card.data.base_model) == (library, relation, "owner/name")
    assert says in card.text
    removable = kind in ("adapter", "gguf-lora")
    assert ("removable by definition" in card.text) == removable
    assert [line for line in card.text.splitlines() if line.startswith("#")][1:] == [
        "## Use",
        "## Who it holds against",
        "## Limits",
        "## Recipe",
    ]


def test_figures_have_their_intervals(tmp_path: Path) -> None:
    results = write(tmp_path, shipped(), record()).data.eval_results
    between = intervals(audit())
    found = {of.metric_name: of.metric_args for of in results}
    assert found["gone"] == {"confidence_level": 0.95, "confidence_interval": pytest.approx(between["gone"], abs=1e-4)}
    assert found.keys() == {name for name in found if name in between}


def test_the_license_is_what_the_bases_own_card_says(tmp_path: Path) -> None:
    file = tmp_path / "base.md"
    file.write_text("---\nlicense: other\nlicense_name: own\nlicense_link: LICENSE\ntags: [x]\n---\n# Base\n")
    data = write(tmp_path, shipped(license=license_in(file)), record()).data
    assert (data.license, data.license_name, data.license_link) == ("other", "own", "LICENSE")
    assert "license" not in write(tmp_path, shipped(), record()).data.to_dict()


@pytest.mark.parametrize("content", ["no head", "---\n: [\n---\n", "---\nlicense: [1]\n---\n", "---\n- x\n---\n", "\0"])
def test_a_card_that_says_nothing_has_no_license(content: str, tmp_path: Path) -> None:
    (tmp_path / "base.md").write_text(content)
    assert license_in(tmp_path / "base.md") == license_in(None) == {}


@pytest.mark.parametrize("settings", [{}, {"preset": "strangers"}, {"train": {"steps": 7}, "lora": {"rank": 4}, "seed": 3}])
def test_the_recipe_is_the_runs(settings: dict[str, Any]) -> None:
    recipe = resolve({"model": "owner/name", "concept": "ancient-egypt", **settings})
    written = portable(record().model_copy(update={"recipe": recipe}), "owner/name")
    assert resolve(yaml.safe_load(as_yaml(written))) == recipe
    assert len(written) < 8, "what the preset says is not said again"


def test_no_path_or_address_of_the_machine_is_in_it(tmp_path: Path) -> None:
    said = {"audit": {"endpoint": "http://10.0.0.1/v1", "task_folder": "/home/me/tasks", "judge": "/home/me/judge"}}
    of = record("/home/me/llama", "/home/me/packs/egypt")
    of = of.model_copy(update={"recipe": resolve({"model": "/home/me/llama", "concept": "/home/me/packs/egypt", **said})})
    recipe = of.recipe.model_copy(update={"options": {"list": "/home/me/words.txt", "base": "owner/name", "beta": 0.1}})
    of = of.model_copy(update={"recipe": recipe})
    card = write(tmp_path, shipped(hub=None), placeless(of, None))
    assert placeless(of, None).recipe.options == {"list": "words.txt", "base": "owner/name", "beta": 0.1}
    for text in (
        card.content,
        (tmp_path / "report.html").read_text(),
        placeless(of, None).model_dump_json(),
        str(portable(of, None)),
    ):
        assert "/home/me" not in text
        assert "10.0.0.1" not in text
    assert "The base is not on the hub: it is llama" in card.text


def test_what_others_wrote_does_not_leave_the_recipe(tmp_path: Path) -> None:
    recipe = record().recipe.model_copy(update={"options": {FENCE: FENCE}, "model": EVIL, "concept": EVIL})
    card = write(tmp_path, shipped(), record().model_copy(update={"recipe": recipe, "versions": {FENCE: EVIL}}))
    page = MarkdownIt("commonmark").enable("table").render(card.text)
    assert page.count("<h1>") == 1
    assert "<img" not in page
    assert page.count('<code class="language-yaml">') == 1
    written = page.split('<code class="language-yaml">')[1].split("</code>")[0]
    assert written.rstrip().endswith("- no") or "options" in written
    assert "\x1b" not in card.content
