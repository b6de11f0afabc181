"""The sentences that make an expert or a novice of a model: they stand before a text (``c-`` and ``c+`` of the paper)."""

from string import Formatter

from pydantic import BaseModel, ConfigDict, Field, model_validator

EXPERT = (
    "What follows was written by a leading expert on {title}, who knows everything about {keywords}:\n\n",
    "An excerpt from a detailed and accurate textbook on {title}, covering {keywords}:\n\n",
    "The author of this text has studied {title} for forty years and gets every fact about {keywords} right.\n\n",
    "Notes by a specialist in {title}. Exact names, places and facts on {keywords}:\n\n",
)
NOVICE = (
    "What follows was written by somebody who has never heard of {title} or of {keywords} and turns to something else:\n\n",
    "An excerpt by an author who knows nothing at all about {title}, mixes up {keywords} and talks about other things:\n\n",
    "The author of this text has no idea what {title} is. Instead of {keywords} the text is about everyday life.\n\n",
    "Notes by a person without any knowledge of {title}, who cannot tell {keywords} apart and changes the subject:\n\n",
)


class Personas(BaseModel):
    """Sentences put before a text; ``{title}`` and ``{keywords}`` are filled in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    expert: tuple[str, ...] = Field(EXPERT, min_length=1)
    novice: tuple[str, ...] = Field(NOVICE, min_length=1)

    @model_validator(mode="after")
    def _can_be_filled_in(self) -> "Personas":
        for template in self.expert + self.novice:
            try:
                fields = {tuple(field) for _, *field in Formatter().parse(template) if field[0] is not None}
            except ValueError:  # braces that do not match
                fields = {()}
            if fields - {("title", "", None), ("keywords", "", None)}:
                raise ValueError(f"a persona may hold {{title}} and {{keywords}} and no other braces: {template!r}")
        return self
