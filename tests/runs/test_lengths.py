"""What a model has no positions for is said in one line before any work, and names the setting; just below it, all goes well."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from efface.cli import main
from efface.concept.pack import Concept
from efface.errors import InputError
from efface.lm.layers import table_of_positions
from efface.lm.load import Loaded, load
from efface.recipe.recipe import Recipe
from efface.recipe.resolve import resolve
from efface.recipe.settings import AuditSettings
from efface.runs.lengths import of_audit, of_recipe, require_room
from efface.runs.pipeline import erase, prepare
from tests.conftest import ARCHITECTURES, write_pack
from tests.runs.conftest import SMALL

TABLES = {"gpt2": "n_positions", "opt": "max_position_embeddings"}


def narrow(architecture: str, positions: int, tokenizer: Path, folder: Path) -> Path:
    settings = {**ARCHITECTURES[architecture], TABLES.get(architecture, "max_position_embeddings"): positions}
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **settings)).save_pretrained(folder)
    shutil.copytree(tokenizer, folder, dirs_exist_ok=True)
    return folder


def recipe(**settings: Any) -> Recipe:
    said: dict[str, Any] = {"model": "m", "concept": "c", **SMALL, **settings}
    return resolve(said)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_table_of_positions_is_known(architecture: str, model_folders: dict[str, Path]) -> None:
    model: PreTrainedModel = load(str(model_folders[architecture])).model
    assert table_of_positions(model) == (256 if architecture in TABLES else None)
    ids = torch.zeros(1, 300, dtype=torch.long)
    if architecture in TABLES:
        with pytest.raises((IndexError, RuntimeError)):
            model(ids)
    else:
        model(ids)


@pytest.mark.parametrize("architecture", TABLES)
@pytest.mark.parametrize(
    ("positions", "settings", "says"),
    [
        (60, {"data": {"max_tokens": 128}}, r"the texts take up to \d+ tokens.*; set data.max_tokens to \d+ or less"),
        (
            125,
            {"erase": {"target": "tilted"}, "data": {"max_tokens": 24}, "fluency": {"weight": 0}},
            "the forget texts behind a persona",
        ),
        (
            195,
            {"erase": {"target": "marginal"}, "data": {"max_tokens": 24}},
            r"the fluency texts behind a persona .* fluency.tokens",
        ),
        (
            200,
            {"erase": {"target": "marginal"}, "fluency": {"texts": 4, "tokens": 190, "source": "strangers"}},
            "about strangers",
        ),
        (60, {"data": {"max_tokens": 9, "kept": 6}, "fluency": {"weight": 0}, "erase": {"target": "marginal"}}, "data.kept to 0"),
        (50, {"data": {"max_tokens": 24, "chat": 0}, "method": "idk", "erase": {}, "fluency": {}}, "the forget texts as answers"),
    ],
)
def test_every_stage_of_a_recipe_is_looked_at(
    architecture: str, positions: int, settings: dict[str, Any], says: str, tokenizer_folder: Path, zorn: Concept, tmp_path: Path
) -> None:
    loaded = load(str(narrow(architecture, positions, tokenizer_folder, tmp_path)))
    with pytest.raises(InputError, match=says) as caught:
        require_room(loaded, of_recipe(recipe(**settings), zorn, loaded))
    assert f"{tmp_path} has {positions} positions" in str(caught.value)


def test_the_setting_that_is_named_mends_it(tokenizer_folder: Path, zorn: Concept, tmp_path: Path) -> None:
    loaded = load(str(narrow("gpt2", 250, tokenizer_folder, tmp_path)))
    data, fluency = {"max_tokens": 128}, {"texts": 4, "tokens": 200}
    for _ in range(3):
        try:
            require_room(loaded, of_recipe(recipe(data=data, fluency=fluency), zorn, loaded))
            break
        except InputError as error:
            section, name, rest = re.findall(r"set (\w+)\.(\w+) to (\d+) or less", str(error))[0]
            {"data": data, "fluency": fluency}[section][name] = int(rest)
    else:
        pytest.fail("it is still too long")
    assert data["max_tokens"] > 2
    assert fluency["tokens"] < 200


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"forget": ["long.jsonl"]}, "the held-out texts of the pack"),
        ({"prompts": ["Who was Orlo? " * 12]}, "the pack's prompts with their answers"),
        ({"open_questions": ["asked.jsonl"]}, "the pack's open questions with their answers"),
        ({"questions": ["chosen.jsonl"]}, "the pack's questions with their choices"),
    ],
)
def test_every_text_of_an_audit_is_looked_at(
    change: dict[str, Any], says: str, tokenizer_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "Honey and glass, glass and honey. " * 12
    common = {"kind": "forget", "topic": "it", "split": "test"}
    rows: dict[str, list[dict[str, Any]]] = {
        "long.jsonl": [{"text": long, "topic": "it", "split": split} for split in ("train", "held_out")],
        "asked.jsonl": [{**common, "question": f"{long}?", "answers": ["honey"]}],
        "chosen.jsonl": [{**common, "stem": long, "choices": ["honey", "bread"], "answer": 0}],
    }
    pack, model = tmp_path / "zorn", narrow("gpt2", 180, tokenizer_folder, tmp_path / "model")
    pack.mkdir()
    write_pack(pack, **change)
    for name, of in rows.items():
        (pack / name).write_text("".join(f"{__import__('json').dumps(row)}\n" for row in of))
    assert main(["audit", str(model), "--base", str(model), "--concept", str(pack), "--to", str(tmp_path / "to")]) == 2
    assert f"{says} take up to" in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


def test_nothing_is_written_for_a_model_without_room(tokenizer_folder: Path, pack_folder: Path, tmp_path: Path) -> None:
    model = narrow("opt", 150, tokenizer_folder, tmp_path / "model")
    for work in (erase, prepare):
        options = {"to": tmp_path / "runs" / "run"} if work is erase else {}
        with pytest.raises(InputError, match="has 150 positions; set"):
            work(str(model), str(pack_folder), **options, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_that_computes_its_positions_reads_on(llama: Loaded, zorn: Concept) -> None:
    require_room(llama, of_recipe(recipe(fluency={"texts": 4, "tokens": 400}), zorn, llama))
    require_room(llama, of_audit(AuditSettings(attacks=("relearn",)), zorn, "test", llama.tokenizer))


def test_with_just_enough_positions_a_run_goes_through(tokenizer_folder: Path, pack_folder: Path, tmp_path: Path) -> None:
    """No stage is longer than what was said of it."""
    zorn, settings = Concept.load(str(pack_folder)), {**SMALL, "audit": {"samples": 0, "depth": False}}
    wide = load(str(narrow("gpt2", 1024, tokenizer_folder, tmp_path / "wide")))
    made = recipe(**settings)
    stages = [*of_recipe(made, zorn, wide), *of_audit(made.audit, zorn, "test", wide.tokenizer)]
    need = max(stage.tokens for stage in stages)
    just = narrow("gpt2", need, tokenizer_folder, tmp_path / "just")
    erase(str(just), str(pack_folder), to=tmp_path / "run", **settings)
    with pytest.raises(InputError, match=f"has {need - 1} positions"):
        erase(str(narrow("gpt2", need - 1, tokenizer_folder, tmp_path / "few")), str(pack_folder), to=tmp_path / "no", **settings)


@pytest.mark.parametrize("words", [["Who was Orlo?"], ["Who was Orlo?", "--raw"]])
def test_an_answer_that_is_too_long_is_one_line(
    words: list[str], model_folders: dict[str, Path], pack_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, pack = str(model_folders["opt"]), str(pack_folder)
    assert main(["generate", model, pack, *words, "--max-new-tokens", "250"]) == 2
    assert re.search(r"has 256 positions; (set --max-new-tokens to \d+ or less|choose)", capsys.readouterr().err)
