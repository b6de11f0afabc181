"""ELM, Erasure of Language Memory (arXiv 2410.02760): three cross-entropies on one low-rank update.

``lambda1 * CE(student, p_erased) + lambda2 * CE(student, p) + lambda3 * CE(student, tokens sampled from p_erased)``
"""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from efface.concept import Concept
from efface.data.collate import TERMS, Example, next_token_example, weighted
from efface.data.corpora import training_texts
from efface.data.fluency import sample_fluency
from efface.data.store import Store
from efface.data.teacher import Prefixes, draw_personas, erase_targets, random_targets, retain_targets
from efface.guidance import persona_ids
from efface.losses import Head, cross_entropy, mean_over_texts
from efface.methods.method import LossTerms
from efface.models import Loaded, prefix
from efface.recipe import Recipe
from efface.states import output_head, output_states
from efface.targets import SparseTarget


class ELM:
    """The method of the paper; presets ``paper`` and ``reference`` are its two published forms."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def prepare(self, loaded: Loaded, concept: Concept, store: Store) -> dict[str, Sequence[Example]]:
        """Targets of the teacher for both corpora, and the sampled fluency texts. A term of weight 0 is left out.

        Of several concepts, each has its own personas; their weights decide how often their texts come up.
        """
        total = sum(weight for _, weight in concept.parts)
        prepared = [(self._prepare(loaded, part, store, share=weight / total), weight) for part, weight in concept.parts]
        return {term: weighted([(terms[term], weight) for terms, weight in prepared]) for term in prepared[0][0]}

    def _prepare(self, loaded: Loaded, concept: Concept, store: Store, share: float) -> dict[str, Sequence[Example]]:
        recipe, model, tokenizer = self.recipe, loaded.model, loaded.tokenizer
        pad, k, seed = tokenizer.pad_token_id, recipe.data.store_top_k, recipe.data.seed
        forget, retain = training_texts(concept, tokenizer, recipe.data)
        examples: dict[str, Sequence[Example]] = {}

        def persona(rng: random.Random) -> Prefixes:
            return persona_ids(concept, tokenizer, rng)

        if recipe.erase.weight:
            if recipe.erase.action == "random":
                erase = random_targets(forget, model.get_input_embeddings().weight.shape[0], k, seed)
            else:
                personas = draw_personas(len(forget), recipe.erase.personas, persona, seed)
                erase = erase_targets(model, store, forget, personas, pad, recipe.erase, k=k, before_text=prefix(tokenizer))
            examples["erase"] = [Example(*pair) for pair in zip(forget, erase, strict=True)]
        if recipe.retain.weight:
            kept = retain_targets(model, store, retain, pad, soft=recipe.retain.target == "soft", k=k)
            examples["retain"] = [Example(*pair) for pair in zip(retain, kept, strict=True)]
        if recipe.fluency.weight and recipe.fluency.texts:
            eta = recipe.erase.eta if recipe.fluency.eta is None else recipe.fluency.eta
            settings = recipe.fluency.model_copy(update={"texts": max(1, round(recipe.fluency.texts * share))})
            texts = sample_fluency(model, store, tokenizer, concept, forget, settings, eta=eta, seed=seed)
            examples["fluency"] = [next_token_example(text) for text in texts]
        return examples

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> LossTerms:
        """One forward pass over the texts of all terms; each term is weighted by its lambda."""
        terms = [term for term in TERMS if term in batch]
        rows, cols = (torch.cat([batch[term][name] for term in terms]) for name in ("rows", "cols"))
        states = output_states(model, rows, cols, input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        pieces, head = torch.split(states, [len(batch[term]["rows"]) for term in terms]), output_head(model)
        return LossTerms(
            **{
                term: getattr(self.recipe, term).weight * term_loss(piece, batch[term], head)
                for term, piece in zip(terms, pieces, strict=True)
            }
        )


def term_loss(states: Tensor, place: dict[str, Tensor], head: Head) -> Tensor:
    """Cross-entropy of the student to the targets of one term, mean over its texts. states ``[n, size]``."""
    target = SparseTarget(place["ids"], place["logprobs"], place["tail"])
    texts = int(place["text"][-1]) + 1
    return mean_over_texts(cross_entropy(states, target, head), place["text"], texts)
