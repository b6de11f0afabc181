"""A run on which any number of visitors ask: base, erased, and the base erased at decoding time, all at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock

import torch

from efface.auditing.scorers.shading import pieces
from efface.auditing.subject import Subject
from efface.concept.pack import Concept
from efface.errors import EffaceError
from efface.lm.cache import Ids
from efface.runs.inputs import load_model
from efface.runs.run import Run
from efface.serve.conversation import fitting
from efface.serve.voices import Sampling, Voice, Weights, base_and_erased, guided, stream, together

#: what is chosen of a distribution that is tilted: tokens this likely relative to the base's best one
MIN_P = 0.02


@dataclass(frozen=True)
class Turn:
    """A question, and by name what each said to it.

    pieces: of an answer, each with how far base and erased model differ there. note: what the visitor should know of it.
    """

    question: str
    said: Mapping[str, str] = field(default_factory=dict)
    pieces: Mapping[str, tuple[tuple[str, float], ...]] = field(default_factory=dict)
    note: str = ""


class Stage:
    """A run, loaded when it is first asked. What it remembers between two questions is the caller's (:class:`Turn`)."""

    def __init__(self, run: Run) -> None:
        """Raises an EffaceError for a record or a pack that cannot be read."""
        self.run, recipe = run, run.record.recipe
        self.recipe = recipe.model_copy(update={"trust_remote_code": False})  # a run folder does not decide that
        self.concept = Concept.load(recipe.concept, recipe.data.min_chars)
        self._loading = Lock()
        self._weights: Weights | None = None
        self._precise: Weights | None = None

    @property
    def title(self) -> str:
        """What is erased from what."""
        return f"{self.concept.title}, erased from {self.recipe.model}"

    def ask(self, before: Sequence[Turn], question: str, eta: float, how: Sampling) -> Iterator[Turn]:
        """The turn as it grows; of an error a note is left. eta 0: nobody is asked at decoding time."""
        turn = Turn(question)
        yield replace(turn, note="" if self._weights else "loading …")
        try:
            asked: dict[str, tuple[Voice, Ids]] = {}
            answers, notes = {}, []
            for name, voice in self._voices(eta).items():
                history = [*_history(before, name), ("user", question)]
                ids, tokens, dropped = fitting(voice, history, how.tokens)
                notes += [f"{voice.name}: no room for the {dropped} oldest turns"] if dropped else []
                asked[name] = voice, ids
                answers[name] = stream(voice, ids, replace(how, tokens=tokens))
            turn = replace(turn, note="; ".join(notes))
            for said in together(answers):
                turn = replace(turn, said=said)
                yield turn
            yield replace(turn, pieces={name: self._pieces(*asked[name], said) for name, said in turn.said.items()})
        except EffaceError as error:
            yield replace(turn, note=str(error))

    def _voices(self, eta: float) -> dict[str, Voice]:
        with self._loading:
            self._weights = self._weights or Weights.of(self.run.load())
            base, erased = base_and_erased(self._weights)
            found = {"base": base, "erased": erased}
            if eta > 0:
                found["guided"] = guided(self._in_float32(), self.concept, eta=eta, min_p=MIN_P, seed=0)
        return found

    def _in_float32(self) -> Weights:
        """The base as a tilt needs it; in 4 bits it stays what it is."""
        if self._precise is None:
            assert self._weights is not None
            precise = self._weights.loaded.model.dtype == torch.float32 or self.recipe.load_in_4bit
            update = {"dtype": "float32"}
            self._precise = self._weights if precise else Weights.of(load_model(self.recipe.model_copy(update=update)))
        return self._precise

    def _pieces(self, voice: Voice, ids: Ids, said: str) -> tuple[tuple[str, float], ...]:
        if voice.tilt or not said or self._weights is None or not self._weights.loaded.tokenizer.is_fast:
            return ()
        loaded = self._weights.loaded
        with self._weights.lock:
            return pieces(Subject(loaded.model, loaded.tokenizer, self.concept, "test"), ids, said)


def _history(turns: Sequence[Turn], name: str) -> list[tuple[str, str]]:
    """What one voice was asked and said."""
    return [of for turn in turns if name in turn.said for of in (("user", turn.question), ("assistant", turn.said[name]))]
