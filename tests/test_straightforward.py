"""The fast implementation computes what the straightforward one of the benchmarks computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import straightforward

from efface.concept.pack import Concept
from efface.data.batches import Example
from efface.data.corpora import Corpora
from efface.data.store import Store
from efface.data.tilted_targets import draw_personas
from efface.decoding import persona_ids
from efface.lm.adapters import attach_adapter
from efface.lm.load import Loaded
from efface.methods import make_method
from efface.recipe.presets import PRESETS
from efface.recipe.recipe import Recipe
from efface.recipe.resolve import resolve
from efface.training import train


def update(student: torch.nn.Module, before: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([(p.detach() - before[name]).flatten() for name, p in student.named_parameters() if p.requires_grad])


PAPER = {name: value for name, value in PRESETS["paper"]["erase"].items() if name != "marginal"}


@pytest.mark.parametrize(
    "erase",
    [
        {"target": "tilted", "keyness": 0.0},
        PAPER,
        {"weight": 0.0, "target": "tilted"},
    ],
)
def test_both_end_with_the_same_update(erase: dict[str, Any], llama: Loaded, zorn: Concept, tmp_path: Path) -> None:
    recipe: Recipe = resolve(
        {
            "model": "m",
            "concept": "c",
            "dtype": "float32",
            "data": {"max_tokens": 32, "store_top_k": 300, "forms": 0, "kept": 0, "neighbours": 0},
            "fluency": {"source": "tilted", "texts": 4, "tokens": 12, "min_p": 0.0, "target": "hard"},
            "lora": {"layers": "1-2", "rank": 4},
            "train": {"steps": 20, "lr": 1e-3},
            "erase": erase,
        }
    )
    method = make_method(recipe)
    corpora: dict[str, list[Example]] = method.prepare(llama, zorn, Store({"model": "llama"}))  # type: ignore[assignment]
    forget, _ = Corpora(zorn, recipe.data, llama.tokenizer).texts
    drawn = draw_personas(len(forget), 1, lambda rng: persona_ids(zorn, llama.tokenizer, rng), recipe.data.seed)
    student = attach_adapter(llama.model, recipe.lora, 0)
    fresh = {name: p.detach().clone() for name, p in student.named_parameters()}
    train(student, llama.tokenizer, method, corpora, recipe, tmp_path)
    ours = update(student, fresh)

    with torch.no_grad():
        for name, parameter in student.named_parameters():
            parameter.copy_(fresh[name])
    texts = {term: [example.text for example in examples] for term, examples in corpora.items()}
    texts.setdefault("erase", [])
    straightforward.train(student, texts, {i: pairs[0] for i, pairs in enumerate(drawn)}, recipe, steps=20)
    theirs = update(student, fresh)
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > 0.999
    assert ours.norm() == pytest.approx(theirs.norm().item(), rel=0.01)
