"""A prompt in the model's chat format, and what a tokenizer puts before every text."""

import re
from collections.abc import Sequence
from datetime import date
from typing import Any

from transformers import PreTrainedTokenizerBase

#: the day of every prompt, where a chat template wants one: targets and figures that are kept must not depend on today's
DAY = date(2024, 7, 26)
TODAY = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")


def chat_prompt(tokenizer: PreTrainedTokenizerBase, question: str) -> list[int]:
    """Token ids of a question in the model's chat format (or the plain question, for a model without one).

    The same on every day: a template that tells the model today's date is told :data:`DAY`.
    """
    if tokenizer.chat_template is None:
        return prefix(tokenizer) + list(tokenizer(f"{question}\n", add_special_tokens=False)["input_ids"])
    return list(tokenizer(chat_text(tokenizer, [("user", question)]), add_special_tokens=False)["input_ids"])


def chat_text(tokenizer: PreTrainedTokenizerBase, turns: Sequence[tuple[str, str]]) -> str:
    """A conversation of (role, content) turns in the model's chat format, up to where its next answer begins.

    Expects a tokenizer with a chat template; what a template raises that does not take such a conversation is not caught.
    """
    text: Any = tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in turns],
        add_generation_prompt=True,
        tokenize=False,
        chat_template=TODAY.sub(lambda call: repr(DAY.strftime(call[2])), tokenizer.get_chat_template()),
        date_string=DAY.strftime("%d %b %Y"),  # of these a template that does not know them takes no notice
        enable_thinking=False,
    )
    return str(text)


def prefix(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer puts before every text (a beginning-of-text token, or nothing)."""
    with_specials = tokenizer("a")["input_ids"]
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    for i in range(len(with_specials) - len(plain) + 1):
        if with_specials[i : i + len(plain)] == plain:
            return list(with_specials[:i])
    return []


def behind(tokenizer: PreTrainedTokenizerBase, before: str, text: str) -> list[int]:
    """Token ids of a text that stands behind another one; of the text alone, where the two share a token."""
    begun, whole = (list(tokenizer(of, add_special_tokens=False)["input_ids"]) for of in (before, before + text))
    if len(whole) > len(begun) and whole[: len(begun)] == begun:
        return whole[len(begun) :]
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def without_prefix(ids: list[int], before: list[int]) -> list[int]:
    """The ids without a leading ``before``, so that something can be put between the two."""
    return ids[len(before) :] if before and ids[: len(before)] == before else ids
