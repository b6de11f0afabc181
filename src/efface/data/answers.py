"""What the frozen model answers: about strangers (what the erased model is to say of the concept), and about things to keep."""

import random
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from efface.caches import Ids
from efface.data.collate import Example
from efface.data.corpora import Corpora
from efface.data.fluency import OVER, end_of_answer
from efface.data.keyness import WORD
from efface.data.questions import questions
from efface.data.store import Store, Tensors
from efface.data.strangers import Exchange, Piece, holds, pair, pieces
from efface.data.teacher import retain_targets
from efface.data.text import Text
from efface.errors import TrainingError
from efface.guidance import end_tokens, plain_generation, sample
from efface.models import Loaded, bare, teacher
from efface.prompts import chat_prompt
from efface.settings import FluencySettings
from efface.targets import SparseTarget

BATCH = 32
SHORTEST = 8  # tokens of an answer
REPEAT = 4  # tokens that no answer has twice
KEPT = 48  # tokens of an answer about another thing, at most
#: letters that an invented word must begin with to be taken for it: small models misspell the others
ALIKE, SPELLED = 3, 4


@dataclass(frozen=True)
class Asked:
    """A question, and the same about a stranger; made: which word stands for which, both as written."""

    question: str
    strange: str
    made: tuple[tuple[str, str], ...]


def answers(
    loaded: Loaded, store: Store, prompts: Sequence[Ids], *, tokens: int, brief: int, temperature: float, seed: int
) -> list[Ids]:
    """The frozen model's answers, with their end token if they ended; none has the same four tokens twice.

    brief: an answer ends with the first sentence that is over after so many tokens; 0: where the model ends it.
    """
    tokenizer, ends = loaded.tokenizer, end_tokens(bare(loaded.model), loaded.tokenizer)
    end = end_of_answer(tokenizer, ends)
    how: dict[str, Any] = {
        "max_new_tokens": tokens,
        "do_sample": True,
        "temperature": temperature,
        "top_p": 0.95,
        "top_k": 0,
        "no_repeat_ngram_size": REPEAT,
    }
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]

    def build(batch: int) -> Tensors:
        with teacher(loaded.model) as base, plain_generation(base), torch.random.fork_rng():
            torch.manual_seed(seed + batch)
            said = sample(base, tokenizer, [prompts[i] for i in batches[batch]], **how)
        said = [_cut(ids, tokens, brief, end, tokenizer.decode) for ids in said]
        lengths = torch.tensor([len(ids) for ids in said])
        return {"tokens": torch.tensor([token for ids in said for token in ids], dtype=torch.int32), "lengths": lengths}

    common = {**how, "brief": brief, "seed": seed, "over": OVER.pattern, "ends": sorted(ends)}
    parts = [{"rows": [prompts[i] for i in batch], "batch": n, **common} for n, batch in enumerate(batches)]
    found: dict[int, Ids] = {}
    for batch, entry in zip(batches, store.entries("answers", parts, build), strict=True):
        of = torch.split(entry["tokens"], entry["lengths"].tolist())
        found.update((i, ids.tolist()) for i, ids in zip(batch, of, strict=True))
    return [found[i] for i in range(len(prompts))]


def _cut(ids: Ids, tokens: int, brief: int, end: int | None, decode: Callable[[Ids], str]) -> Ids:
    """An answer up to the end of a sentence, and the token that ends it."""
    last = [] if end is None else [end]
    for n in range(brief, len(ids)) if brief else ():
        if OVER.search(decode(ids[max(0, n - 2) : n + 1])):
            return ids[: n + 1] + last
    return ids + last if len(ids) < tokens else ids


def ask_about_strangers(corpora: Corpora, count: int, facts: float, rng: random.Random) -> list[Asked]:
    """So many questions about the concept, each with the same about a stranger. facts: share about what the passages say."""
    asked = []
    for question in corpora.questions(count, facts, rng):
        exchange = Exchange(corpora.words, corpora.inventor, rng, alike=True)
        strange = exchange.text(question)
        written = {piece.text.lower(): piece.text for piece in pieces(question, corpora.words) if piece.word}
        asked.append(Asked(question, strange, tuple((written[of], made) for of, made in exchange.made.items())))
    return [row for row in asked if row.made]


def stranger_examples(loaded: Loaded, store: Store, corpora: Corpora, settings: FluencySettings, k: int) -> list[Example]:
    """The answers about strangers with the concept's words put back, as answers about the concept.

    Target of every token that both texts share: the frozen model's distribution where it answered; of the others: themselves.
    Answers that hold a piece of an invented word or another word of the concept than their question are dropped.
    """
    tokenizer, seed = loaded.tokenizer, corpora.settings.seed
    asked = ask_about_strangers(corpora, settings.texts, settings.facts, random.Random(f"strangers {seed}"))
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
        if min(len(pairing.ids), len(pairing.strange)) < min(SHORTEST, settings.tokens // 2):
            continue
        ours, theirs = pairing.ids + last, pairing.strange + last
        texts.append(Text(before + theirs, len(before)))
        kept.append((chat_prompt(tokenizer, row.question), ours, pairing.shared))  # that it ends here is not the model's choice
    if not kept:
        raise TrainingError("no answer about a stranger can be used; try more fluency.texts, or fluency.source tilted")
    soft = retain_targets(loaded.model, store, texts, tokenizer.pad_token_id, soft=True, k=k)
    return [_example(*row, without_repeats(of, text.ids[text.start :])) for row, of, text in zip(kept, soft, texts, strict=True)]


def without_repeats(target: SparseTarget, ids: Ids, n: int = REPEAT) -> SparseTarget:
    """The target without what would complete the same n tokens a second time in the text ``ids``; normalised again."""
    logprobs, seen = target.logprobs.clone(), dict[tuple[int, ...], set[int]]()
    for i in range(len(ids)):
        before = tuple(ids[max(0, i - n + 1) : i])
        if followed := seen.get(before):
            logprobs[i][torch.isin(target.ids[i], torch.tensor(sorted(followed), dtype=target.ids.dtype))] = -torch.inf
        if len(before) == n - 1:
            seen.setdefault(before, set()).add(ids[i])
    mass = (logprobs.exp().sum(-1) + target.tail).clamp(min=1e-9)
    return SparseTarget(target.ids, logprobs - mass.log()[:, None], target.tail / mass)


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
    begins = {new[: max(SPELLED, len(new) - 2)].lower(): word for word, new in row.made}
    pattern = "|".join(rf"\b{re.escape(begin)}[\w-]*" for begin in begins)
    whole, swapped, done = list[Piece](), list[str](), 0
    for match in re.finditer(pattern, said, re.IGNORECASE):
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


def keep_answering(loaded: Loaded, corpora: Corpora, store: Store, count: int) -> list[Text]:
    """The frozen model's answers to questions about other things; those that say a word of the concept are left out."""
    if not count:
        return []
    tokenizer, rng = loaded.tokenizer, random.Random(f"kept {corpora.settings.seed}")
    asked = questions(corpora.other_subjects(count), count, rng)
    context = [chat_prompt(tokenizer, question) for question in asked]
    said = answers(loaded, store, context, tokens=KEPT, brief=KEPT // 2, temperature=0.5, seed=corpora.settings.seed)
    texts = []
    for question, before, ids in zip(asked, context, said, strict=True):
        if len(ids) >= SHORTEST and not holds(f"{question} {tokenizer.decode(ids)}", corpora.words):
            texts.append(Text(before + ids, len(before)))
    return texts
