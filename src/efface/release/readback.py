"""What was written is read again, and answers as what it was made from."""

import math
from pathlib import Path

import torch
from gguf import GGUFReader
from torch import nn

from efface.concept.pack import Concept
from efface.errors import ModelError
from efface.lm.adapters import read_adapter
from efface.lm.chat import chat_prompt
from efface.lm.load import load
from efface.release.gguf import Names, lora_tensors
from efface.release.weights import Base, Update
from efface.runs.run import Run

PROMPTS = 10
PLAIN = (
    "What is the capital of France?",
    "How is bread made?",
    "Who wrote Hamlet?",
    "Name three rivers in Asia.",
    "Why is the sky blue?",
    "Write a sentence about the sea.",
    "What is 12 times 11?",
    "How do bees make honey?",
    "Who was the first man on the Moon?",
    "Give me a word that rhymes with day.",
)
#: how far the logits may be from those of the merged weights, of their spread; more is another model, not rounding
TOLERANCE = {"F32": 0.002, "F16": 0.02, "BF16": 0.1, "Q8_0": 0.15, "Q5_1": 0.6, "Q5_0": 0.6, "Q4_1": 0.8, "Q4_0": 0.8}


@torch.no_grad()
def apart(one: nn.Module, other: nn.Module, prompts: list[list[int]]) -> float:
    """How far the logits of two models are apart: ``|a - b| / |b - mean b|`` over every position of all prompts."""
    gap = spread = 0.0
    for ids in prompts:
        logits = [
            model(torch.tensor([ids], device=next(model.parameters()).device)).logits[0].float().cpu() for model in (one, other)
        ]
        gap += float((logits[0] - logits[1]).square().sum())
        spread += float((logits[1] - logits[1].mean(-1, keepdim=True)).square().sum())
    return math.sqrt(gap / spread)


def require_same(run: Run, concept: Concept, file: Path, kind: str) -> None:
    """Raises ModelError where a GGUF file says something else than the run's erased model, beyond its rounding."""
    recipe = run.record.recipe
    base = load(recipe.model, revision=recipe.revision, dtype="float32")
    erased, there = read_adapter(base, run.folder / "adapter"), load(str(file), dtype="float32")
    asked = [*concept.manifest.prompts, *PLAIN][:PROMPTS]
    found = apart(there.model, erased, [chat_prompt(base.tokenizer, text) for text in asked])
    if not found <= TOLERANCE[kind]:
        raise ModelError(
            f"the {kind} file, read again, is {found:.2g} of the logits' spread away from the run's model; "
            f"expected {TOLERANCE[kind]} at most"
        )


def require_same_lora(base: Base, changes: dict[str, Update], file: Path) -> None:
    """Raises ModelError where an adapter's GGUF file does not hold what was written."""
    there = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in GGUFReader(file).tensors}
    written = dict(lora_tensors(Names(base.config), changes))
    if there.keys() != written.keys() or any(not torch.equal(there[name], tensor) for name, tensor in written.items()):
        raise ModelError(f"{file.name}, read again, holds other tensors than were written")
