"""What the frozen model answers about strangers, told again of the concept: what the erased model is to say of it."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import regex
import torch

from efface.data.answers import SHORTEST, answers
from efface.data.batches import Example
from efface.data.corpora import Corpora
from efface.data.quiz import about_concept
from efface.data.sample import end_tokens
from efface.data.store import Store
from efface.data.strangers import Exchange, Piece, holds, pair, pieces
from efface.data.targets import retain_targets
from efface.data.text import Text
from efface.errors import TrainingError
from efface.lm.cache import Ids
from efface.lm.chat import chat_prompt
from efface.lm.layers import bare
from efface.lm.load import Loaded
from efface.recipe.settings import FluencySettings
from efface.targets import SparseTarget
from efface.writing import WORD, unbroken

#: letters that an invented word must begin with to be taken for it: small models misspell the others
ALIKE, SPELLED = 3, 4


@dataclass(frozen=True)
class Asked:
    """A question, and the same about a stranger; made: which word stands for which, both as written."""

    question: str
    strange: str
    made: tuple[tuple[str, str], ...]


def about_strangers(asked: Sequence[str], corpora: Corpora, rng: random.Random) -> list[Asked]:
    """The questions about the concept, each with the same about a stranger; those that have none of its words are left out."""
    rows = []
    for question in asked:
        exchange = Exchange(corpora.words, corpora.inventor, rng, alike=True)
        strange = exchange.text(question)
        written = {piece.text.lower(): piece.text for piece in pieces(question, corpora.words) if piece.word}
        rows.append(Asked(question, strange, tuple((written[of], made) for of, made in exchange.made.items())))
    return [row for row in rows if row.made]


def stranger_examples(loaded: Loaded, store: Store, corpora: Corpora, settings: FluencySettings, k: int) -> list[Example]:
    """The answers about strangers with the concept's words put back, as answers about the concept.

    Target of every token that both texts share: the frozen model's distribution where it answered; of the others: themselves.
    Answers that hold a piece of an invented word or another word of the concept than their question are dropped.
    """
    tokenizer, seed = loaded.tokenizer, corpora.settings.seed
    asked = about_strangers(about_concept(loaded, store, corpora, settings.texts), corpora, random.Random(f"strangers {seed}"))
    context = [chat_prompt(tokenizer, row.strange) for row in asked]
    said = answers(
        loaded, store, context, tokens=settings.tokens, brief=settings.brief, temperature=settings.temperature, seed=seed
    )
    ends, texts, kept = end_tokens(bare(loaded.model), tokenizer), [], []
    for row, before, ids in zip(asked, context, said, strict=True):
        last = [token for token in ids[-1:] if token in ends]
        text = str(tokenizer.decode(ids[: len(ids) - len(last)], skip_special_tokens=True)).strip()
        if (told := put_back(text, row, corpora.words, corpora.inventor.known)) is None:
            continue
        pairing = pair(tokenizer, *told)
        if min(len(pairing.ids), len(pairing.strange)) < min(SHORTEST, max(1, settings.tokens // 2)):
            continue
        ours, theirs = pairing.ids + last, pairing.strange + last
        end = [(len(pairing.ids), len(pairing.strange))] if last else []
        texts.append(Text(before + theirs, len(before)))
        kept.append((chat_prompt(tokenizer, row.question), ours, [*pairing.shared, *end]))
    if not kept:
        raise TrainingError("no answer about a stranger can be used; try more fluency.texts, or fluency.source tilted")
    soft = retain_targets(loaded.model, store, texts, tokenizer.pad_token_id, k=k).targets
    return [_example(*row, of) for row, of in zip(kept, soft, strict=True)]


def _example(context: Ids, ids: Ids, shared: Sequence[tuple[int, int]], soft: SparseTarget) -> Example:
    width = soft.ids.shape[1]
    target = SparseTarget(
        torch.tensor(ids, dtype=torch.int32)[:, None].repeat(1, width),
        torch.full((len(ids), width), -torch.inf),
        torch.zeros(len(ids)),
    )
    target.logprobs[:, 0] = 0.0
    if shared:
        place_shared(target, shared, soft)
    return Example(Text(context + ids, len(context)), target)


def place_shared(target: SparseTarget, shared: Sequence[tuple[int, int]], soft: SparseTarget) -> None:
    """Write the distributions ``soft`` at the places that two texts share (place in the target, place in ``soft``)."""
    ours, theirs = (torch.tensor(of) for of in zip(*shared, strict=True))
    target.ids[ours], target.logprobs[ours], target.tail[ours] = soft.ids[theirs], soft.logprobs[theirs], soft.tail[theirs]


def put_back(said: str, row: Asked, words: Collection[str], known: Collection[str]) -> tuple[list[Piece], list[str]] | None:
    """An answer about a stranger in pieces, with the concept's words in the place of the invented ones, and those pieces as said.

    None for an answer that says another word of the concept, or something like an invented word.
    """
    begins = {(new if unbroken(new) else new[: max(SPELLED, len(new) - 2)]).lower(): word for word, new in row.made}
    pattern = "|".join(regex.escape(of) if unbroken(of) else rf"\b{regex.escape(of)}[\w\p{{N}}-]*" for of in begins)
    whole, swapped, done = list[Piece](), list[str](), 0
    for match in regex.finditer(pattern, said, regex.IGNORECASE):
        word = next(word for begin, word in begins.items() if match.group().lower().startswith(begin))
        if match.start() > done:
            whole.append(Piece(said[done : match.start()], False))
            swapped.append(whole[-1].text)
        whole.append(Piece(word, True))
        swapped.append(match.group())
        done = match.end()
    if said[done:]:
        whole.append(Piece(said[done:], False))
        swapped.append(said[done:])
    allowed = {piece.text.lower() for piece in pieces(row.question, words) if piece.word}
    others = {word for word in words if word.lower() not in allowed}
    like = {new[:ALIKE].lower() for _, new in row.made}
    for piece in whole:
        strange = (word.lower() for word in WORD.findall(piece.text)) if not piece.word else ()
        if (not piece.word and holds(piece.text, others)) or any(word[:ALIKE] in like and word not in known for word in strange):
            return None
    return whole, swapped
