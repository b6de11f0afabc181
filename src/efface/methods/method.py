"""What a method of erasure is: how the forget texts become examples, and what is minimised on them.

Everything else is the same for all methods: corpora, store, the retain term (injected), trainer, audit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from peft import PeftModel
from torch import Tensor, nn

from efface.concept.pack import Concept, Passage
from efface.data.batches import TERMS, Example, next_token_example, only_terms, weighted
from efface.data.corpora import Corpora
from efface.data.kept_answers import keep_answering
from efface.data.neighbours import has_neighbours, write_neighbours
from efface.data.store import Store
from efface.data.targets import Said, retain_targets
from efface.data.text import Text
from efface.errors import InputError, shortened
from efface.lm.layers import bare, decoder_layers, parse_layers, teacher, wrapped
from efface.lm.load import Loaded
from efface.lm.states import last_norm, layer_states, output_head
from efface.losses import Head, LossTerms, cross_entropy, mean_over_texts
from efface.recipe.recipe import Recipe
from efface.recipe.settings import Settings
from efface.targets import SparseTarget


@dataclass(frozen=True)
class Seen:
    """What the student made of one term's texts; n predicted tokens in all.

    states ``[n, size]``: what enters the output layer ``head``; layers: the states ``[n, size]`` after each decoder layer that
    the method asked for. target: of every token; text ``[n]``: which of the ``texts`` texts it belongs to; values ``[n, v]``:
    what the method's examples carry for every token. base(): ``layers`` of the frozen model on the same texts.
    norm: what stands between the last layer and the output layer. progress: share of the training that is done.
    """

    states: Tensor
    layers: dict[int, Tensor]
    target: SparseTarget
    text: Tensor
    texts: int
    head: Head
    values: Tensor | None = None
    base: Callable[[], dict[int, Tensor]] = dict
    norm: Callable[[Tensor], Tensor] = nn.Identity()  # noqa: RUF009
    progress: float = 0.0

    def cross_entropy(self, states: Tensor | None = None) -> Tensor:
        """To the target, in nats at every token ``[n]``; for a next-token target, minus its log-probability.

        states: other than the last ones (``[n, size]``, after the last norm).
        """
        return cross_entropy(self.states if states is None else states, self.target, self.head)

    def mean(self, of_tokens: Tensor) -> Tensor:
        """Mean over texts of the mean over each text's tokens ``[n]``."""
        return mean_over_texts(of_tokens, self.text, self.texts)

    def sums(self, of_tokens: Tensor) -> Tensor:
        """Sum over each text's tokens: ``[n]`` to ``[texts]``."""
        return of_tokens.new_zeros(self.texts).index_add(0, self.text, of_tokens)

    def lengths(self) -> Tensor:
        """Tokens of each text ``[texts]``."""
        return self.sums(torch.ones_like(self.text, dtype=torch.float32))


def likelihood(seen: Seen) -> Tensor:
    """Cross-entropy to the target, mean over the texts, in nats."""
    return seen.mean(seen.cross_entropy())


class Retain:
    """The retain term, one for all methods: cross-entropy to the frozen model on the retain corpus."""

    def __init__(self, recipe: Recipe) -> None:
        self.settings = recipe.retain

    def examples(self, texts: Sequence[Text], said: Sequence[SparseTarget]) -> list[Example]:
        """The texts with what the frozen model says on them, or its likeliest tokens."""
        targets = said if self.settings.target == "soft" else [SparseTarget.one_hot(of.likeliest()) for of in said]
        return [Example(*pair) for pair in zip(texts, targets, strict=True)]

    def loss(self, seen: Seen) -> Tensor:
        """Mean over the texts, in nats."""
        return likelihood(seen)


class Method:
    """The extension point: a subclass in a file of its own, here or anywhere (``--method my_method.py``).

    It says how forget texts become examples (:meth:`examples`) and what is minimised on them (:meth:`erase`).
    """

    class Options(Settings):
        """The method's own settings, ``options`` of a recipe."""

    #: what a recipe has to be for this method where the user says nothing
    recipe_defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, recipe: Recipe, retain: Retain | None = None) -> None:
        self.recipe, self.retain = recipe, retain or Retain(recipe)
        self.options: Any = self.Options.model_validate(recipe.options)
        self._corpora: dict[str, Corpora] = {}
        self._said: dict[str, Said] = {}

    def examples(self, loaded: Loaded, corpora: Corpora, store: Store) -> Sequence[Example]:
        """The forget texts (``corpora.texts.forget``) with targets, by default their own next tokens; empty: no erase term."""
        return [next_token_example(text) for text in corpora.texts.forget]

    def erase(self, seen: Seen) -> Tensor:
        """The erase term of a batch, a scalar in nats, before its weight."""
        raise InputError(f"{self.recipe.method}: {type(self).__name__} has examples and no method erase(self, seen)")

    def layers(self, model: nn.Module) -> Sequence[int]:
        """The decoder layers whose output :meth:`erase` wants to see."""
        return ()

    def constrain(self, model: PeftModel, batches: Callable[[], Any]) -> Callable[[], None] | None:
        """Called before training; what it returns is called after every optimiser step.

        batches: yields the training's batches, for what has to be measured first.
        """
        return None

    def prepare(self, loaded: Loaded, concept: Concept, store: Store) -> dict[str, Sequence[Example]]:
        """Examples for each term, made with the frozen model before training; what is expensive comes from the store.

        Of several concepts each is prepared by itself; their weights decide how often their texts come up.
        """
        total = sum(weight for _, weight in concept.parts)
        prepared = [
            (self.prepare_one(loaded, self.corpora(loaded, part, store), store, weight / total), weight)
            for part, weight in concept.parts
        ]
        return {term: weighted([(terms[term], weight) for terms, weight in prepared]) for term in prepared[0][0]}

    def corpora(self, loaded: Loaded, concept: Concept, store: Store) -> Corpora:
        """The passages of a concept, those that the frozen model writes about its neighbours among them."""
        if concept.digest not in self._corpora:
            data, written = self.recipe.data, tuple[Passage, ...]()
            if data.neighbours and not has_neighbours(concept):
                written = write_neighbours(loaded, store, concept, data.neighbours, data.seed)
            self._corpora[concept.digest] = Corpora(concept, data, loaded.tokenizer, written)
        return self._corpora[concept.digest]

    def prepare_one(self, loaded: Loaded, corpora: Corpora, store: Store, share: float) -> dict[str, Sequence[Example]]:
        """Examples of one concept; a term of weight 0 is left out. share: of this concept among several."""
        examples: dict[str, Sequence[Example]] = {}
        if self.recipe.erase.weight:
            examples["erase"] = self.examples(loaded, corpora, store)
            if not (isinstance(examples["erase"], Sequence) and all(isinstance(of, Example) for of in examples["erase"])):
                raise InputError(f"{self.recipe.method}: examples: expected a sequence of efface.data.batches.Example")
        if self.recipe.retain.weight:
            said = self.said(loaded, corpora, store)
            kept = keep_answering(loaded, corpora, store, round(self.recipe.data.kept * share))
            answered = self._read(loaded, kept, store).targets if kept else []
            examples["retain"] = self.retain.examples([*corpora.texts.retain, *kept], [*said.targets, *answered])
        return {term: rows for term, rows in examples.items() if rows}

    def said(self, loaded: Loaded, corpora: Corpora, store: Store) -> Said:
        """What the frozen model says on the retain texts of one concept; read once."""
        if corpora.concept.digest not in self._said:
            self._said[corpora.concept.digest] = self._read(loaded, corpora.texts.retain, store)
        return self._said[corpora.concept.digest]

    def _read(self, loaded: Loaded, texts: Sequence[Text], store: Store) -> Said:
        return retain_targets(loaded.model, store, texts, loaded.tokenizer.pad_token_id, k=self.recipe.data.store_top_k)

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> LossTerms:
        """One forward pass over the texts of all terms; each term is weighted by its lambda."""
        of = {"erase": self._erase, "retain": self.retain.loss, "fluency": likelihood}
        seen = look(model, batch, self._layers(model))
        return LossTerms(**{term: getattr(self.recipe, term).weight * of[term](what) for term, what in seen.items()})

    def _layers(self, model: nn.Module) -> Sequence[int]:
        """The layers to look at. Raises InputError for one that is not there."""
        wanted = self.layers(model)
        count = len(decoder_layers(bare(model))[1]) if wanted else 0
        if any(layer not in range(count) for layer in wanted):
            raise InputError(f"{self.recipe.method}: layers: expected numbers from 0 to {count - 1}, got {shortened(wanted)}")
        return wanted

    def _erase(self, seen: Seen) -> Tensor:
        """The erase term. Raises InputError for what training could not minimise."""
        term: Any = self.erase(seen)
        if isinstance(term, Tensor) and term.ndim == 0 and (term.requires_grad or not torch.is_grad_enabled()):
            return term
        shape = f"one of shape {list(term.shape)}" if isinstance(term, Tensor) and term.ndim else "one without gradient"
        came = shape if isinstance(term, Tensor) else type(term).__name__
        raise InputError(f"{self.recipe.method}: erase: expected a scalar tensor with a gradient, got {came}")

    def adapted(self, model: nn.Module) -> list[int]:
        """Numbers of the decoder layers that are trained."""
        return parse_layers(self.recipe.lora.layers, len(decoder_layers(bare(model))[1]))


class FineTuning(Method):
    """Plain next-token training on the erase corpus, without weights: what attackers do, and what some methods need first."""

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> LossTerms:
        """Next-token loss, mean over the texts."""
        return LossTerms(erase=likelihood(look(model, batch)["erase"]))


def look(model: nn.Module, batch: dict[str, Any], layers: Sequence[int] = ()) -> dict[str, Seen]:
    """One forward pass over a batch of :class:`efface.data.batches.Collator`; what was seen, by term."""
    terms = [term for term in TERMS if term in batch]
    rows, cols = (torch.cat([batch[term][name] for term in terms]) for name in ("rows", "cols"))
    ids, mask = batch["input_ids"], batch["attention_mask"]
    *inner, states = layer_states(model, rows, cols, layers, input_ids=ids, attention_mask=mask)
    counts = [len(batch[term]["rows"]) for term in terms]
    pieces = [torch.split(of, counts) for of in (*inner, states)]
    head = output_head(model)

    def base(term: str) -> dict[int, Tensor]:
        only = only_terms(batch, [term])
        inputs, place = {name: only[name] for name in ("input_ids", "attention_mask")}, only[term]
        with torch.no_grad(), teacher(wrapped(model)) as frozen:
            found = layer_states(frozen, place["rows"], place["cols"], layers, to_the_end=False, **inputs)
        return dict(zip(layers, found, strict=True))

    seen = {}
    for i, term in enumerate(terms):
        place = batch[term]
        here = {name: of.to(states.device) for name, of in place.items()}  # a model's last layers may be on another device
        seen[term] = Seen(
            states=pieces[-1][i],
            layers=dict(zip(layers, (of[i] for of in pieces[:-1]), strict=True)),
            target=SparseTarget(here["ids"], here["logprobs"], here["tail"]),
            text=here["text"],
            texts=int(here["text"][-1]) + 1,
            head=head,
            values=here.get("values"),
            base=lambda term=term: base(term),  # type: ignore[misc]
            norm=last_norm(model) or nn.Identity(),
            progress=batch.get("progress", 0.0),
        )
    return seen
