"""ELM, Erasure of Language Memory (arXiv 2410.02760): three cross-entropies on one low-rank update.

``lambda1 * CE(student, p_erased) + lambda2 * CE(student, p) + lambda3 * CE(student, tokens sampled from p_erased)``

``p_erased`` is what the frozen model ``p`` would say if it had never met the concept (``erase.target``). The paper tilts ``p``
from an expert to a novice (tilted). Preset ``default`` takes the mean of ``p`` over the retain texts in the first term (marginal)
and samples from the tilted ``p``. Preset ``strangers`` asks ``p`` about a stranger, with invented words in the place of the
concept's (stranger; :mod:`efface.data.strangers`), in the forget texts as in the questions that the fluency texts answer.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from efface.concept.pack import Concept
from efface.data.batches import Example
from efface.data.corpora import Corpora
from efface.data.fluency import Sampling, sample_fluency
from efface.data.key_words import keyness
from efface.data.store import Store
from efface.data.stranger_answers import stranger_examples
from efface.data.stranger_targets import estranged_examples
from efface.data.tilted_targets import Tilt, draw_personas, erase_targets, random_targets
from efface.decoding import persona_ids
from efface.lm.chat import prefix
from efface.lm.load import Loaded
from efface.losses import cross_entropy
from efface.methods.method import Method, Seen
from efface.recipe.settings import FluencySettings


def emphasised(examples: Sequence[Example], key: Tensor, power: float) -> list[Example]:
    """The examples with a weight ``[n, 1]`` for every predicted token: keyness (0.2 to 4) to a power, over the mean of all.

    Times the weight that it has already.
    """
    weights = [key[of.text.ids[of.text.start :]][:, None].clamp(0.2, 4.0) ** power for of in examples]
    weights = [of if example.values is None else of * example.values for example, of in zip(examples, weights, strict=True)]
    mean = torch.cat(weights).mean()
    return [replace(example, values=of / mean) for example, of in zip(examples, weights, strict=True)]


class ELM(Method):
    """The method of the paper; presets ``paper`` and ``reference`` are its two published forms."""

    #: what the frozen model says on the retain texts on average ``[vocab]``
    marginal: Tensor | None = None

    @property
    def share(self) -> float:
        """Share of the marginal in the erase target (stranger: of what the target does not list)."""
        erase = self.recipe.erase
        return {"tilted": 0.0, "marginal": 1.0, "mixed": erase.marginal, "stranger": 1.0}[erase.target]

    def examples(self, loaded: Loaded, corpora: Corpora, store: Store) -> Sequence[Example]:
        """The forget texts with the erased distribution at every predicted token; about a stranger, in all their forms."""
        recipe, model, tokenizer = self.recipe, loaded.model, loaded.tokenizer
        k, seed = recipe.data.store_top_k, recipe.data.seed
        if recipe.erase.target == "stranger":
            shown = corpora.shown("forget", tokenizer.chat_template is not None)
            exchanged, most = (corpora.words, corpora.inventor), recipe.data.max_tokens
            return estranged_examples(loaded, store, shown, *exchanged, most=most, k=k, seed=seed)
        if self.share == 1:  # nothing of the tilt is left
            return super().examples(loaded, corpora, store)

        forget = corpora.texts.forget
        if recipe.erase.action == "random":
            targets = random_targets(forget, model.get_input_embeddings().weight.shape[0], seed)
        else:
            personas = draw_personas(
                len(forget), recipe.erase.personas, lambda rng: persona_ids(corpora.concept, tokenizer, rng), seed
            )
            tilt = Tilt(recipe.erase, tokenizer.pad_token_id, k, tuple(prefix(tokenizer)), recipe.published.float64)
            targets = erase_targets(model, store, forget, personas, tilt)
        return [Example(*pair) for pair in zip(forget, targets, strict=True)]

    def erase(self, seen: Seen) -> Tensor:
        """Cross-entropy to the erased distribution or to its mixture with the marginal, the tokens weighted.

        What a stranger's distribution does not list is spread as the marginal is.
        """
        if not self.share:
            of_tokens = seen.cross_entropy()
        else:
            assert self.marginal is not None, "prepare comes first"
            self.marginal = self.marginal.to(seen.states.device)
            target = seen.target if self.recipe.erase.target == "stranger" else seen.target.mixed(self.share)
            of_tokens = cross_entropy(seen.states, target, seen.head, self.marginal)
        if seen.values is not None:
            of_tokens = of_tokens * seen.values[:, 0]
        return seen.mean(of_tokens)

    def prepare(self, loaded: Loaded, concept: Concept, store: Store) -> dict[str, Sequence[Example]]:
        """Examples for each term, and the marginal: of several concepts the mean of theirs, by their weights."""
        examples = super().prepare(loaded, concept, store)
        if self.share and "erase" in examples:
            total = sum(weight for _, weight in concept.parts)
            means = [self.said(loaded, self.corpora(loaded, of, store), store).mean * (n / total) for of, n in concept.parts]
            self.marginal = sum(means)  # type: ignore[assignment]
        return examples

    def prepare_one(self, loaded: Loaded, corpora: Corpora, store: Store, share: float) -> dict[str, Sequence[Example]]:
        """Both corpora, and the sampled fluency texts."""
        examples, recipe = super().prepare_one(loaded, corpora, store, share), self.recipe
        key = keyness(*corpora.texts, loaded.model.get_input_embeddings().weight.shape[0])
        if "erase" in examples:
            examples["erase"] = emphasised(examples["erase"], key, recipe.erase.keyness)
        if recipe.fluency.weight and recipe.fluency.texts:
            settings = recipe.fluency.model_copy(update={"texts": max(1, round(recipe.fluency.texts * share))})
            if settings.source == "strangers" and recipe.erase.action == "erase":
                examples["fluency"] = stranger_examples(loaded, store, corpora, settings, recipe.data.store_top_k)
            else:
                examples["fluency"] = self._tilted(loaded, store, corpora, settings, key)
        return examples

    def _tilted(self, loaded: Loaded, store: Store, corpora: Corpora, settings: FluencySettings, key: Tensor) -> list[Example]:
        """Fluency texts from the tilted teacher; whoever enhances a concept does not shun its words."""
        recipe, towards = self.recipe, self.recipe.erase.action == "enhance"
        eta = (recipe.erase.eta if settings.eta is None else settings.eta) * (-1 if towards else 1)
        shunned = None if towards else key
        how = Sampling(settings, eta, recipe.data.seed, recipe.data.store_top_k, shunned, recipe.published)
        return sample_fluency(loaded, store, corpora.concept, corpora.texts.forget, how)
