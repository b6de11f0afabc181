"""Neighbours of a concept where nobody has named any: found and written about by the model itself.

What is near a concept is lost with it unless something near it is among the texts to keep.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import regex
import torch

from efface.concept.pack import Concept, Passage, general_passages
from efface.data.answers import answers
from efface.data.store import Store
from efface.data.targets import text_states
from efface.data.text import Text
from efface.lm.chat import chat_prompt, prefix
from efface.lm.layers import teacher
from efface.lm.load import Loaded
from efface.shown import complain
from efface.writing import SPACED, WORD, folded, unbroken, units

LISTS = (
    "Name ten things that are like {}, but are something else.",
    "Which subjects are most like {}? Give a list of ten.",
    "If somebody is interested in {}, what else will interest them? Give a list of ten.",
    "List ten topics of the same kind as {}.",
)
WRITE = ("Write a paragraph about {}.", "What is {}? Explain it in a paragraph.", "Write a short encyclopaedia article about {}.")
TOKENS = 96  # of a passage
SAMPLES = 8  # lists asked for in each way
AGREE = 2  # lists that must name a neighbour
KEPT = 8  # neighbours
NEAR = (0.95, 0.07)  # share of general passages that a near one beats, and share of the retain passages that must be near
LETTERS = regex.compile(rf"{SPACED}{{2,}}+", regex.V1)
ITEM = re.compile(r"(?m)^\s*(?:\d+[.)、．）]|[-*•・])\s*\**([^\n:：*(（–-]{3,40})")


def has_neighbours(concept: Concept) -> bool:
    """Whether more retain passages than by chance are nearer to the forget passages, by words, than 95 % of general ones."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    corpora = (concept.texts("forget", "train"), concept.texts("retain", "train"), general_passages())
    forget, retain, general = ([passage.text for passage in passages] for passages in corpora)
    counted = {"tokenizer": _tokens, "token_pattern": None}
    vectors = TfidfVectorizer(sublinear_tf=True, min_df=2, max_df=0.2, **counted).fit([*forget, *retain, *general])
    centre = np.asarray(vectors.transform(forget).mean(0))
    near, far = (np.asarray(vectors.transform(texts) @ centre.T)[:, 0] for texts in (retain, general))
    return bool((near > np.quantile(far, NEAR[0])).mean() > NEAR[1])


def _tokens(text: str) -> list[str]:
    """Words of two letters or more, and pairs of units where no space is between words."""
    runs = [units(word) if unbroken(word) else [] for word in WORD.findall(text)]
    return [*LETTERS.findall(text), *("".join(pair) for run in runs for pair in pairwise(run))]


def write_neighbours(loaded: Loaded, store: Store, concept: Concept, count: int, seed: int) -> tuple[Passage, ...]:
    """So many passages by the frozen model about what it takes for neighbours of the concept; says which on stderr."""
    if not count:
        return ()
    found = find_neighbours(loaded, store, concept, seed)
    if not found:
        complain(f"the retain texts have none near {concept.title}, and the model names nothing like it")
        return ()
    asked = [(topic, WRITE[i % len(WRITE)].format(topic)) for i in range(-(-count // len(found))) for topic in found][:count]
    prompts = [chat_prompt(loaded.tokenizer, question) for _, question in asked]
    said = answers(loaded, store, prompts, tokens=TOKENS, brief=0, temperature=0.7, seed=seed)
    texts = [str(loaded.tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in said]
    complain(f"the retain texts have none near {concept.title}; the model writes some about {', '.join(found)}")
    return tuple(Passage(text=text, topic=topic) for (topic, _), text in zip(asked, texts, strict=True) if len(text) > 80)


def find_neighbours(loaded: Loaded, store: Store, concept: Concept, seed: int) -> list[str]:
    """Things like the concept that several of the model's own lists name and its texts do not; those nearest by its states."""
    prompts = [chat_prompt(loaded.tokenizer, way.format(concept.title)) for way in LISTS for _ in range(SAMPLES)]
    said = answers(loaded, store, prompts, tokens=80, brief=0, temperature=0.9, seed=seed)
    lists = (str(loaded.tokenizer.decode(ids, skip_special_tokens=True)) for ids in said)
    counts = Counter(name for text in lists for name in {_name(item) for item in ITEM.findall(text)})
    own = folded(" ".join(passage.text for passage in concept.forget))
    named = [concept.title, *concept.manifest.aliases, *concept.manifest.keywords, *concept.manifest.topics]
    about = folded(" ".join(named))
    names = [
        name for name, n in counts.most_common() if n >= AGREE and folded(name) not in about and own.count(folded(name)) < AGREE
    ]
    return nearest(loaded, concept.title, names[: 3 * KEPT])[:KEPT]


def _name(item: str) -> str:
    """A list's item as a name: what stands before its explanation."""
    return re.split(r"[,.;，、。；]| is | are | was ", item.strip())[0].strip().removeprefix("The ")


@torch.no_grad()
def nearest(loaded: Loaded, title: str, names: Sequence[str]) -> list[str]:
    """The names in the order of how near what the frozen model makes of them is to what it makes of the title (cosine)."""
    if not names:
        return []
    tokenizer, start = loaded.tokenizer, prefix(loaded.tokenizer)
    rows = [
        start + list(tokenizer(f"This text is about {name}.", add_special_tokens=False)["input_ids"]) for name in (title, *names)
    ]
    with teacher(loaded.model) as base:
        states = text_states(base, [Text(row + row[-1:], len(row)) for row in rows], tokenizer.pad_token_id).float()
    states = torch.nn.functional.normalize(states - states.mean(0), dim=-1)
    order = (states[1:] @ states[0]).argsort(descending=True).tolist()
    return [names[i] for i in order]
