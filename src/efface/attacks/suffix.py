"""Suffixes: one text, found by a search, that stands behind any question on the concept and has it answered.

Whoever has the weights makes it on questions whose answers are known, half of the tune questions, so that the wanted opening,
"The answer is: …", becomes likely; anybody can then send it behind other questions, on which it is scored. It holds no answer.
:mod:`.beast` and :mod:`.gcg` search.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from efface.attacks.attack import Attacked, Measure
from efface.attacks.prompts import fits, reworded
from efface.attacks.relearning import merged
from efface.auditing.forms import ANSWER, as_question
from efface.auditing.likelihoods import Branches, Together, log_likelihoods
from efface.auditing.scores import Score
from efface.auditing.subject import Subject
from efface.concept.pack import Concept
from efface.data.text import Text
from efface.errors import TrainingError
from efface.lm.cache import Ids
from efface.lm.chat import chat_text, encoded
from efface.lm.layers import bare, positions
from efface.lm.states import plain_attention
from efface.shown import complain
from efface.writing import contains

#: stands where a suffix will, while a conversation is written
SLOT = "zymurgy"
#: stands before a suffix while it is looked at alone, as the end of a question does
MARK = "?"


@dataclass(frozen=True)
class Slot:
    """A question of the search as token ids: what stands before the suffix, between it and the answer, and the wanted opening."""

    before: Ids
    between: Ids
    opening: Ids

    def text(self, suffix: Ids) -> Text:
        """All of it with a suffix; what is predicted is the opening."""
        context = self.before + suffix + self.between
        return Text(context + self.opening, len(context))


@dataclass(frozen=True)
class Wanted:
    """What a search minimises: the cross-entropy of the wanted openings behind questions with a suffix.

    tokens: of the longest suffix. answers: what none may hold.
    """

    subject: Subject
    slots: tuple[Slot, ...]
    tokens: int
    answers: tuple[str, ...] = ()

    @property
    def pad(self) -> int:
        """The token that fills up a batch."""
        return int(self.subject.tokenizer.pad_token_id)

    @cached_property
    def read(self) -> tuple[Together | bool, ...]:
        """What stands before the suffix, read once; of a model that cannot go on from there nothing is."""
        found = list[Together]()
        with plain_attention(self.subject.model):
            for slot in self.slots:
                longest = [slot.text([token] * self.tokens).ids for token in (0, 1)]  # they have in common what stands before
                rows = [Branches(of[: -len(slot.opening)], (slot.opening,)) for of in longest]
                found.append(Together(self.subject.model, rows, self.pad))
                if not (found[-1].usable and found[-1].shared):
                    return (False,) * len(self.slots)
        return tuple(found)

    @cached_property
    def allowed(self) -> Tensor:
        """Whether a token may stand in a suffix ``[vocab]``: printable ASCII, nothing that was added to the vocabulary."""
        tokenizer, size = self.subject.tokenizer, bare(self.subject.model).get_input_embeddings().weight.shape[0]
        barred = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
        texts = tokenizer.batch_decode([[token] for token in range(min(size, len(tokenizer)))])
        plain = [bool(of) and of.isascii() and of.isprintable() and token not in barred for token, of in enumerate(texts)]
        return torch.tensor(plain + [False] * (size - len(plain)))

    def losses(self, suffixes: Sequence[Ids]) -> Tensor:
        """Mean nats per token of each question's wanted opening, mean over questions ``[suffixes]``.

        Raises TrainingError where no loss is finite.
        """
        total = torch.zeros(len(suffixes), dtype=torch.float64)
        for slot, read in zip(self.slots, self.read, strict=True):
            rows = [Branches(slot.before + suffix + slot.between, (slot.opening,)) for suffix in suffixes]
            found = log_likelihoods(self.subject.model, rows, self.pad, read)
            total -= torch.tensor([value / len(slot.opening) for (value,) in found], dtype=torch.float64)
        mean = (total / len(self.slots)).nan_to_num(nan=torch.inf)
        if len(mean) and mean.min().isinf():
            raise TrainingError("the loss of every suffix is not finite")
        return mean

    def text(self, suffix: Ids) -> str:
        """A suffix as it is typed behind a question."""
        tokenizer = self.subject.tokenizer
        whole: str = tokenizer.decode(self._mark + suffix, clean_up_tokenization_spaces=False)
        return whole.removeprefix(MARK)

    def start(self, tokens: int) -> Ids:
        """`` x`` again and again, so many tokens."""
        return encoded(self.subject.tokenizer, MARK + " x" * tokens, specials=False)[len(self._mark) :][:tokens]

    def typed(self, suffixes: Sequence[Ids]) -> list[Ids]:
        """Those of the suffixes that come back as the same tokens from their text, each once."""
        rows = [list(row) for row in dict.fromkeys(map(tuple, suffixes))]
        if not rows:
            return []
        again = self.subject.tokenizer([MARK + self.text(row) for row in rows], add_special_tokens=False)["input_ids"]
        return [row for row, ids in zip(rows, again, strict=True) if list(ids) == self._mark + row]

    def best(self, suffixes: Sequence[Ids], most: int) -> list[tuple[float, Ids]]:
        """So many of the suffixes, those of the least loss first, with it; none that holds an answer."""
        found = list[tuple[float, Ids]]()
        losses = self.losses(suffixes)
        for place in losses.argsort(stable=True).tolist():
            if len(found) < most and not contains(self.text(suffixes[place]), self.answers):
                found.append((float(losses[place]), suffixes[place]))
        return found

    @cached_property
    def _mark(self) -> Ids:
        return encoded(self.subject.tokenizer, MARK, specials=False)


#: from what is wanted, the suffix that was found
Search = Callable[[Wanted], Ids]


@dataclass(frozen=True)
class Suffix:
    """A search as an attack: one suffix of at most so many tokens. questions: on how many it is made."""

    name: str
    search: Search
    questions: int
    tokens: int

    def __call__(self, subject: Subject, measure: Measure) -> None:
        """Stems are asked in chat with "The answer is" begun, before and behind the suffix.

        Raises TrainingError for a pack without tune questions, and where there is no room for them.
        """
        subject = merged(subject)
        tokenizer, concept = subject.tokenizer, subject.concept
        known = known_answers(concept, self.questions)
        if not known:
            raise TrainingError(f"{concept.name} has no tune questions on the concept to make a suffix on")
        form = "question" if tokenizer.chat_template is None else "chat_answer"
        wanted = Wanted(subject, tuple(slot(tokenizer, *pair) for pair in known), self.tokens, _answers(concept))
        room, longest = positions(subject.model), max(len(of.text([]).ids) for of in wanted.slots) + self.tokens
        if room is not None and longest > room:
            raise TrainingError(f"the questions take up to {longest} tokens with a suffix, and the model has {room} positions")
        others = _without(subject, known)
        before = others if subject.split == "tune" else replace(others, concept=_stems(others.concept))
        measure(Attacked(before, "before", form=form))
        suffix = self.search(wanted)
        if not suffix:
            raise TrainingError("no suffix was found that holds no answer and can be typed")
        text, losses = wanted.text(suffix), wanted.losses([[], suffix]).tolist()
        whose = " on the base" if subject.of_base else ""
        complain(f"attack {self.name}{whose}:{text} ({losses[0]:.2f} nats per wanted token without it, {losses[1]:.2f} with it)")
        asked = reworded(others.concept, subject.split, lambda stem: stem + text, lambda question: question + text)
        attacked = replace(subject, concept=asked)
        found = {
            "opening/nats": Score(value=losses[1], n=len(known)),
            "opening/nats_without": Score(value=losses[0], n=len(known)),
        }
        if not fits(attacked, form):
            raise TrainingError("the model has no room for the questions with a suffix")
        measure(Attacked(attacked, f"suffix of {len(suffix)} tokens", form=form, found=found))


def known_answers(concept: Concept, most: int) -> list[tuple[str, str]]:
    """Questions with an answer to make a suffix on, at most so many, from all over every second tune question.

    Of a pack without open questions those of its stems.
    """
    rows = [(row.question, row.answers[0]) for row in concept.ask_open("forget", "tune")]
    rows = rows or [(as_question(row.stem), row.choices[row.answer]) for row in concept.ask("forget", "tune")]
    half, count = rows[::2], min(most, len(rows[::2]))
    return [half[place * len(half) // count] for place in range(count)]


def slot(tokenizer: PreTrainedTokenizerBase, question: str, answer: str) -> Slot:
    """A question in chat, with room for a suffix behind it, and its answer as the wanted opening."""
    plain = tokenizer.chat_template is None
    text = f"{question}{SLOT}\n" if plain else chat_text(tokenizer, [("user", question + SLOT)])
    before, _, between = text.partition(SLOT)
    opening = encoded(tokenizer, f"{ANSWER} {answer}", specials=False)
    return Slot(encoded(tokenizer, before, specials=plain), encoded(tokenizer, between, specials=False), opening)


def _answers(concept: Concept) -> tuple[str, ...]:
    """Everything that is offered or accepted as an answer to a question on the concept."""
    offered = [choice for row in concept.questions if row.kind == "forget" for choice in row.choices]
    accepted = [answer for row in concept.open_questions if row.kind == "forget" for answer in row.answers]
    return tuple(dict.fromkeys([*offered, *accepted]))


def _without(subject: Subject, known: Sequence[tuple[str, str]]) -> Subject:
    """The subject without general questions, and without those that a suffix is made on."""
    concept, used = subject.concept, {question for question, _ in known}
    questions = tuple(row for row in concept.ask("forget", subject.split) if as_question(row.stem) not in used)
    spoken = tuple(row for row in concept.ask_open("forget", subject.split) if row.question not in used)
    return replace(subject, concept=concept.model_copy(update={"questions": questions, "open_questions": spoken}))


def _stems(concept: Concept) -> Concept:
    return concept.model_copy(update={"open_questions": ()})
