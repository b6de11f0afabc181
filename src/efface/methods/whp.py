"""WHP, "Who's Harry Potter" (Eldan and Russinovich, arXiv 2310.02238, section 2.1): generic predictions as labels.

``v_generic = v_base - alpha * ReLU(v_reinforced - v_base)``, v: logits; the label is the largest entry. The reinforced model is
the base, trained further on the forget texts. (The paper also replaces names by generic ones, from a dictionary
written for one book.)
"""

import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import torch
from peft import PeftModel
from pydantic import Field
from torch import Tensor

from efface.data.batches import Example, next_token_example
from efface.data.corpora import Corpora
from efface.data.store import Store, Tensors
from efface.data.targets import from_store, in_chunks, text_states
from efface.data.text import Text
from efface.lm.adapters import attach_adapter
from efface.lm.layers import teacher
from efface.lm.load import Loaded
from efface.lm.states import output_head
from efface.methods.method import FineTuning, Method, Seen, likelihood
from efface.processes import processes
from efface.recipe.settings import Settings
from efface.targets import SparseTarget
from efface.training import train

RANK = 16  # of the reinforced model, where the student's full weights are trained


class WHP(Method):
    """The student learns what a reader would say who has not read too much of the concept."""

    class Options(Settings):
        """alpha is the paper's; the reinforced model is a low-rank update here."""

        alpha: float = Field(5.0, ge=0, description="How far the labels move away from the reinforced model.")
        steps: int = Field(24, gt=0, description="Training steps of the reinforced model.")
        lr: float = Field(1e-3, gt=0, description="Its learning rate.")

    recipe_defaults: ClassVar = {"erase": {"weight": 6.0}}

    def examples(self, loaded: Loaded, corpora: Corpora, store: Store) -> Sequence[Example]:
        """The texts with generic labels."""
        forget, reinforced = corpora.texts.forget, list[PeftModel]()
        pad, head = loaded.tokenizer.pad_token_id, output_head(loaded.model)
        training = {"steps": self.options.steps, "lr": self.options.lr, "tokens": None}
        recipe = self.recipe.model_copy(
            update={  # of this run nothing else decides what the reinforced model is
                "options": {},
                "seed": self.recipe.data.seed,
                "lora": self.recipe.lora.model_copy(update={"layers": "all", "rank": self.recipe.lora.rank or RANK}),
                "train": self.recipe.train.model_copy(update=training),
            }
        )

        def reinforce() -> None:
            model = attach_adapter(loaded.model, recipe.lora, recipe.seed)
            reinforced.append(model)
            with torch.enable_grad(), tempfile.TemporaryDirectory() as folder:
                corpora = {"erase": [next_token_example(text) for text in forget]}
                train(model, loaded.tokenizer, FineTuning(recipe), corpora, recipe, Path(folder))
            model.eval()

        def labels(base: Tensor, more: Tensor) -> Tensors:
            return {"labels": generic(head(base).float(), head(more).float(), self.options.alpha).argmax(-1)}

        def make(rows: list[Text]) -> Tensors:
            with teacher(reinforced[0]) as frozen:
                base = text_states(frozen, rows, pad)
            return in_chunks(labels, base, text_states(reinforced[0], rows, pad))

        whole = sha256(repr([(text.ids, text.start) for text in forget]).encode()).hexdigest()
        enters = {"corpus": whole, "processes": processes(), "alpha": self.options.alpha}
        enters |= recipe.model_dump(mode="json", include={"lora", "train", "data", "dtype"})
        try:
            found = from_store(store, "generic", forget, enters, make, reinforce)
        finally:
            if reinforced:
                reinforced[0].unload()  # type: ignore[operator]
        return [Example(text, SparseTarget.one_hot(entry["labels"])) for text, entry in zip(forget, found, strict=True)]

    def erase(self, seen: Seen) -> Tensor:
        """Cross-entropy to the labels."""
        return likelihood(seen)


def generic(base: Tensor, reinforced: Tensor, alpha: float) -> Tensor:
    """Logits ``[n, vocab]``: base, less of whatever the reinforced model prefers."""
    return base - alpha * (reinforced - base).relu()
