"""The model card, as the hub reads it; and what an adapter says of its base."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from efface.auditing.scores import Audit, Figure, Measured
from efface.auditing.statistics import average, proportion
from efface.concept.find import language
from efface.lm.adapters import name_base
from efface.lm.load import Loaded
from efface.recipe.record import RunRecord
from efface.recipe.resolve import resolve
from efface.report.judged import JUDGED, summary
from efface.report.page import write_report
from efface.runs.run import Run
from efface.shown import for_terminal
from tests.runs.conftest import run as run

EVIL = "\x1b[2J---\n# x <img src=x> | [a](b): {y} \"z\" 'q' &amp; - no"


def measured(right: int) -> Measured:
    choice = proportion([True] * right + [False] * (20 - right), 0.25)
    scores = {f"choice/{kind}/{metric}": choice for kind in ("forget", "general") for metric in ("acc", "acc_norm")}
    scores |= {"answers/forget/perplexity": average([4.0, 5.0]), "own/forget/x": choice}
    return Measured(scores=scores, answers=[])


def audit(title: str = "Ancient Egypt", concept: str = "ancient-egypt") -> Audit:
    figure = Figure(key="own/forget/x", goal=title, label=title, wanted="up")
    return Audit(concept=concept, title=title, split="test", base=measured(15), erased=measured(6), figures=(figure,))


def record(model: str = "owner/name", concept: str = "ancient-egypt") -> RunRecord:
    recipe = resolve({"model": model, "concept": concept})
    return RunRecord(recipe=recipe, versions={}, hashes={}, tokens={}, seconds={}, losses=[])


def write(folder: Path, base: Any, audit: Audit, record: RunRecord) -> ModelCard:
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    write_report(folder, audit, record)
    return ModelCard.load(folder / "README.md")


def test_the_head_holds_what_was_measured(tmp_path: Path) -> None:
    card = write(tmp_path, "owner/name", audit(), record())
    head = card.data.to_dict()
    assert {name: head[name] for name in ("base_model", "language", "library_name", "pipeline_tag")} == {
        "base_model": "owner/name",
        "language": "en",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
    }
    assert set(head["tags"]) == {"efface", "concept-erasure", "unlearning"}
    found = summary(audit())
    assert card.data.model_name == "ancient-egypt erased from owner/name"
    assert {of.metric_name: of.metric_value for of in card.data.eval_results} == {
        name: pytest.approx(value, abs=1e-4) for name, value in found.items() if value is not None
    }
    assert {of.metric_name for of in card.data.eval_results} < set(JUDGED), "what was not measured is not there"
    assert {(of.dataset_type, of.dataset_name, of.dataset_split) for of in card.data.eval_results} == {
        ("ancient-egypt", "Ancient Egypt", "test")
    }
    assert 'AutoModelForCausalLM.from_pretrained("owner/name")' in card.text
    assert str(card) == (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("base", [None, "/home/me/models/llama", "./llama", "../llama", "models/a/llama", 5, "run"])
def test_a_base_that_is_not_on_the_hub_is_not_claimed_to_be(base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    card = write(tmp_path / "run", base, audit(), record("/home/me/models/llama", "/home/me/packs/egypt"))
    assert not {"base_model", "language"} & card.data.to_dict().keys()
    assert "/home/me" not in (tmp_path / "run" / "README.md").read_text()
    assert "# Ancient Egypt erased from llama\n" in card.text
    assert 'from_pretrained("BASE")' in card.text


def test_a_run_without_figures_has_a_card(tmp_path: Path) -> None:
    nothing = Measured(scores={}, answers=[])
    card = write(tmp_path, None, audit().model_copy(update={"base": nothing, "erased": nothing}), record())
    assert "model-index" not in card.data.to_dict()


def test_what_others_wrote_is_no_markup_in_a_card(tmp_path: Path) -> None:
    card = write(tmp_path, None, audit(EVIL, EVIL), record())
    page = MarkdownIt("commonmark").enable("table").render(card.text)
    assert not any(f"<{tag}" in page for tag in ("img", "a ", "hr"))
    assert (page.count("<h1>"), page.count("<h2>")) == (1, 4)
    table = card.text.split("|---|---|---|---|---|\n")[1].split("\n\n")[0].splitlines()
    assert page.split("</table>")[0].count("<td>") == 5 * len(table)
    assert "\x1b" not in card.text
    assert {of.dataset_name for of in card.data.eval_results} == {for_terminal(EVIL)}


def test_an_adapter_holds_no_path_of_this_machine_and_no_second_card(run: Run, model_folders: dict[str, Path]) -> None:
    assert {path.name for path in (run.folder / "adapter").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    config = json.loads((run.folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None
    assert str(model_folders["llama"]) not in json.dumps(config)
    assert str(model_folders["llama"].parent) not in (run.folder / "README.md").read_text()
    card = ModelCard.load(run.folder / "README.md")
    assert card.data["library_name"] == "peft"
    assert card.data.eval_results


def test_an_adapter_names_a_base_on_the_hub(run: Run, tmp_path: Path) -> None:
    adapter = shutil.copytree(run.folder / "adapter", tmp_path / "adapter")
    before = json.loads((adapter / "adapter_config.json").read_text())
    name_base(adapter, "owner/name")
    assert json.loads((adapter / "adapter_config.json").read_text()) == {**before, "base_model_name_or_path": "owner/name"}


def test_attacks_that_do_not_train_stand_in_the_card_too(tmp_path: Path) -> None:
    attacked = {f"attack/quantise/int4/0x0/{key}": proportion([True] * 9 + [False] * 11, 0.25) for key in ("forget/acc_norm",)}
    whole = audit()
    erased = whole.erased.model_copy(update={"scores": whole.erased.scores | attacked})
    card = write(tmp_path, "owner/name", whole.model_copy(update={"erased": erased}), record())
    assert "What it takes to get it back" in card.text
    assert "<td>quantise, int4</td>" in MarkdownIt("commonmark").enable("table").render(card.text)
    assert "| quantise, int4 |  | 75 | 30 | 45 | – | – | – | 75 | 30 | – |" in card.text


def test_only_a_model_of_the_hub_has_an_id(llama: Loaded, tmp_path: Path) -> None:
    def of(source: str, path: str) -> str | None:
        return Loaded(llama.model, llama.tokenizer, source, path).hub

    assert llama.hub is None
    assert of("owner/name", "owner/name") == "owner/name"
    assert of("smollm2-135m", str(tmp_path)) is None
    assert of(str(tmp_path / "m.gguf"), str(tmp_path)) is None


def test_the_language_is_known_of_what_ships_only(pack_folder: Path, tmp_path: Path) -> None:
    assert language("ancient-egypt:2 solar-system") == "en"
    assert language("ancient-egypt@main") == "en"
    assert language(str(pack_folder)) is None
    assert language(f"ancient-egypt {pack_folder}") is None
    assert language("a pack that is gone") is None
