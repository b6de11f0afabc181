"""What was written is read again, and answers as what it was made from."""

import math
from pathlib import Path

import torch
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize, quantize
from torch import nn

from efface.concept.pack import Concept
from efface.errors import ModelError
from efface.lm.chat import chat_prompt
from efface.lm.load import Loaded, load
from efface.recipe.recipe import Recipe
from efface.release.gguf import Names, kind_of, lora_tensors
from efface.release.weights import Base, Merged, Update

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
#: how far the logits may be from those of the merged weights, rounded alike, of their spread: what the order of sums does
TOLERANCE = 0.02


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


def require_same(merged: Merged, recipe: Recipe, concept: Concept, file: Path, kind: str) -> None:
    """Raises ModelError where a GGUF file says something else than the merged weights that went into it, rounded as it rounds."""
    expected, there = _rounded(merged, recipe, kind), load(str(file), dtype="float32")
    asked = [*concept.manifest.prompts, *PLAIN][:PROMPTS]
    found = apart(there.model, expected.model, [chat_prompt(expected.tokenizer, text) for text in asked])
    if not found <= TOLERANCE:
        raise ModelError(f"the {kind} file, read again, is another model: its logits are {found:.2g} of their spread away")


def _rounded(merged: Merged, recipe: Recipe, kind: str) -> Loaded:
    """The merged weights after a round trip through the kind of their tensors, in transformers' own model."""
    expected, names = load(recipe.model, revision=recipe.revision, dtype="float32"), Names(merged.base.config)
    for name in merged.names:
        tensor = merged.tensor(name, torch.float32)
        of = kind_of(names(name), tuple(tensor.shape), GGMLQuantizationType[kind])
        rounded = torch.from_numpy(dequantize(quantize(tensor.numpy(), of), of)).view(tensor.shape)
        expected.model.get_parameter(name).data.copy_(rounded)
    return expected


def require_same_lora(base: Base, changes: dict[str, Update], file: Path) -> None:
    """Raises ModelError where an adapter's GGUF file does not hold what was written."""
    there = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in GGUFReader(file).tensors}
    written = dict(lora_tensors(Names(base.config), changes))
    if there.keys() != written.keys() or any(not torch.equal(there[name], tensor) for name, tensor in written.items()):
        raise ModelError(f"{file.name}, read again, holds other tensors than were written")
