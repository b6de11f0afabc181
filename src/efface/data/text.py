"""A text as token ids."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from efface.errors import ConceptError
from efface.lm.chat import prefix
from efface.recipe.settings import DataSettings


@dataclass(frozen=True)
class Text:
    """Token ids, and the index of the first token that is predicted (what comes before is context)."""

    ids: list[int]
    start: int

    def __post_init__(self) -> None:
        assert 0 < self.start < len(self.ids)


def encode(text: str, tokenizer: PreTrainedTokenizerBase, settings: DataSettings, context: list[int] | None = None) -> Text:
    """Cut a text to the limits and put it after ``context`` (default: what the tokenizer puts before every text)."""
    require_length(text, settings)
    if context is None:
        context = prefix(tokenizer)
    ids = tokenizer(text[: settings.max_chars], add_special_tokens=False)["input_ids"][: settings.max_tokens]
    if len(ids) < 2:
        raise ConceptError(f"a text has fewer than two tokens: {text[:40]!r}")
    return Text(context + ids, max(len(context), 1))


def require_length(text: str, settings: DataSettings) -> None:
    """Raises ConceptError for a text that is too short."""
    if len(text) < settings.min_chars:
        raise ConceptError(f"a text has {len(text)} characters, expected at least {settings.min_chars}: {text[:40]!r}")
