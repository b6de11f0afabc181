"""A prompt in the model's chat format, and what a tokenizer puts before every text."""

import re
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from efface.errors import ModelError

Turns = Sequence[tuple[str, str]]

#: the day of every prompt, where a chat template wants one: targets and figures that are kept must not depend on today's
DAY = date(2024, 7, 26)
TODAY = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")
#: the turn before the first one, where a chat template demands a system turn
SYSTEM = ("system", "You are a helpful assistant.")
#: how a template can be told a conversation: contents as texts or as lists of parts, without or with a system turn before it
WAYS = ((False, False), (True, False), (False, True), (True, True))


def chat_prompt(tokenizer: PreTrainedTokenizerBase, question: str) -> list[int]:
    """Token ids of a question in the model's chat format (or the plain question, for a model without one).

    The same on every day: a template that tells the model today's date is told :data:`DAY`.
    """
    if tokenizer.chat_template is None:
        return encoded(tokenizer, f"{question}\n")
    return list(tokenizer(chat_text(tokenizer, [("user", question)]), add_special_tokens=False)["input_ids"])


def chat_text(tokenizer: PreTrainedTokenizerBase, turns: Turns, **options: Any) -> str:
    """A conversation of (role, content) turns in the model's chat format, up to where its next answer begins.

    Expects a tokenizer with a chat template; what a template raises that does not take such a conversation is not caught.
    Raises ModelError for a template that does not show all of its turns. options: other than ``add_generation_prompt``.
    """
    template = TODAY.sub(lambda call: repr(DAY.strftime(call[2])), tokenizer.get_chat_template())
    way = _way(tokenizer, template, tuple(role for role, _ in turns))
    return _rendered(tokenizer, template, turns, way, **options)


@lru_cache(maxsize=256)
def _way(tokenizer: PreTrainedTokenizerBase, template: str, roles: tuple[str, ...]) -> tuple[bool, bool]:
    """The first of the :data:`WAYS` in which every turn of such a conversation arrives."""
    turns, refusal = [(role, f"zymurgy{i}") for i, role in enumerate(roles)], None
    for way in WAYS if "system" not in roles else WAYS[:2]:
        try:
            text = _rendered(tokenizer, template, turns, way)
        except (AttributeError, KeyError, TemplateError, TypeError, ValueError) as error:
            refusal = refusal or error
            continue
        if all(content in text for _, content in turns):
            return way
    raise refusal or ModelError(f"it does not show what is said in the turns {', '.join(roles)}, neither as text nor in parts")


def _rendered(tokenizer: PreTrainedTokenizerBase, template: str, turns: Turns, way: tuple[bool, bool], **options: Any) -> str:
    parts, system = way
    text: Any = tokenizer.apply_chat_template(
        [
            {"role": role, "content": [{"type": "text", "text": content}] if parts else content}
            for role, content in ([SYSTEM, *turns] if system else turns)
        ],
        tokenize=False,
        chat_template=template,
        date_string=DAY.strftime("%d %b %Y"),  # of these a template that does not know them takes no notice
        enable_thinking=False,
        **{"add_generation_prompt": True, **options},
    )
    return str(text)


def encoded(tokenizer: PreTrainedTokenizerBase, text: str, *, specials: bool = True) -> list[int]:
    """A text to go on with: what the tokenizer puts before every text (specials), and the text; nothing behind it."""
    return (prefix(tokenizer) if specials else []) + list(tokenizer(text, add_special_tokens=False)["input_ids"])


def prefix(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer puts before every text (a beginning-of-text token, or nothing)."""
    return around(tokenizer)[0]


def around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and behind every text."""
    with_specials = tokenizer("a")["input_ids"]
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    for i in range(len(with_specials) - len(plain) + 1):
        if with_specials[i : i + len(plain)] == plain:
            return list(with_specials[:i]), list(with_specials[i + len(plain) :])
    return [], []


def behind(tokenizer: PreTrainedTokenizerBase, before: str, text: str) -> list[int]:
    """Token ids of a text that stands behind another one; of the text alone, where the two share a token."""
    begun, whole = (list(tokenizer(of, add_special_tokens=False)["input_ids"]) for of in (before, before + text))
    if len(whole) > len(begun) and whole[: len(begun)] == begun:
        return whole[len(begun) :]
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def without_prefix(ids: list[int], before: list[int]) -> list[int]:
    """The ids without a leading ``before``, so that something can be put between the two."""
    return ids[len(before) :] if before and ids[: len(before)] == before else ids
