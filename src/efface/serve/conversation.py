"""What was said so far, as the model reads it; the oldest turns go where it has no more positions."""

from collections.abc import Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from efface.errors import InputError, first_line
from efface.lm.cache import Ids
from efface.lm.chat import chat_text, encoded
from efface.lm.layers import positions
from efface.serve.voices import Voice

#: (role, content): a system turn or none, then user and assistant in turn
Turns = Sequence[tuple[str, str]]


def as_ids(tokenizer: PreTrainedTokenizerBase, turns: Turns) -> Ids:
    """A conversation up to where the next answer begins; for a model without a chat format, one text to go on with.

    Raises InputError for what the model's chat template does not take.
    """
    if tokenizer.chat_template is None:
        return encoded(tokenizer, "".join(f"{content}\n" if role == "assistant" else content for role, content in turns))
    try:
        text = chat_text(tokenizer, turns)
    except (AttributeError, KeyError, TemplateError, TypeError, ValueError) as error:
        roles = ", ".join(dict.fromkeys(role for role, _ in turns))
        raise InputError(f"the model's chat format does not take these turns ({roles}): {first_line(error)}") from None
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def fitting(voice: Voice, turns: Turns, tokens: int) -> tuple[Ids, int, int]:
    """Token ids of a conversation, how many tokens of an answer there is room for, and how many of its oldest turns were dropped.

    tokens: of the answer that is wanted; half of the positions are the question's, if it needs them.
    Raises InputError where the last question alone is too long.
    """
    loaded = voice.weights.loaded
    room = positions(loaded.model)
    system, rest = ([turns[0]], list(turns[1:])) if turns[0][0] == "system" else ([], list(turns))
    dropped = 0
    while True:
        ids = as_ids(loaded.tokenizer, system + rest)
        if room is None:
            return ids, tokens, dropped
        left = room - voice.before - len(ids)
        if left >= min(tokens, room // 2) or (left > 0 and len(rest) == 1):
            return ids, min(tokens, left), dropped
        if len(rest) == 1:
            raise InputError(f"a question of {len(ids)} tokens, and {loaded.source} has {room} positions; ask a shorter one")
        rest, dropped = rest[2:], dropped + 2
