"""The rows that terminal, page and model card share: what was measured, base beside erased."""

from collections.abc import Iterator
from dataclasses import dataclass

from efface.results import Audit, Score


@dataclass(frozen=True)
class Row:
    """One figure of both models. ``better`` says which way it should go: down, up, or stay."""

    goal: str
    label: str
    base: Score
    erased: Score
    better: str
    percent: bool


#: key of the score, goal, label, wanted direction, shown as per cent
FIGURES = (
    ("choice/forget/acc", "innocence", "concept, acc", "down", True),
    ("choice/forget/acc_norm", "innocence", "concept, acc_norm", "down", True),
    ("choice/forget/acc_mutual_info", "innocence", "concept, acc_mutual_info", "down", True),
    ("open/forget/right", "innocence", "concept, open questions right", "down", True),
    ("perplexity/forget/held_out", "innocence", "concept texts, perplexity", "up", False),
    ("choice/neighbour/acc", "specificity", "neighbours, acc", "stay", True),
    ("choice/neighbour/acc_norm", "specificity", "neighbours, acc_norm", "stay", True),
    ("choice/neighbour/acc_mutual_info", "specificity", "neighbours, acc_mutual_info", "stay", True),
    ("open/neighbour/right", "specificity", "neighbours, open questions right", "stay", True),
    ("choice/general/acc", "specificity", "general, acc", "stay", True),
    ("choice/general/acc_norm", "specificity", "general, acc_norm", "stay", True),
    ("choice/general/acc_mutual_info", "specificity", "general, acc_mutual_info", "stay", True),
    ("perplexity/retain/held_out", "specificity", "other texts, perplexity", "stay", False),
    ("answers/forget/perplexity", "seamlessness", "answers, perplexity under base", "stay", False),
    ("answers/forget/repeated_4grams", "seamlessness", "answers, repeated 4-grams", "stay", True),
)


def rows(audit: Audit) -> Iterator[Row]:
    """The figures that were measured on both models; a missing one is left out."""
    for key, goal, label, better, percent in FIGURES:
        if key in audit.base.scores and key in audit.erased.scores:
            yield Row(goal, label, audit.base.scores[key], audit.erased.scores[key], better, percent)


def show(score: Score, percent: bool) -> str:
    """``43.1 % [35, 51]`` or ``5.08 [4.6, 5.6]``."""
    value = f"{100 * score.value:.1f} %" if percent else _digits(score.value, 4)
    if score.low is None or score.high is None:
        return value
    low, high = (f"{100 * end:.0f}" if percent else _digits(end, 3) for end in (score.low, score.high))
    return f"{value} [{low}, {high}]"


def _digits(value: float, digits: int) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.{digits}g}"


def gone(audit: Audit, metric: str = "acc_norm") -> float | None:
    """Share of the distance from the base's forget accuracy to chance that is gone; None where the base is at chance."""
    key = f"choice/forget/{metric}"
    if key not in audit.base.scores or key not in audit.erased.scores:
        return None
    base, erased, chance = audit.base.scores[key].value, audit.erased.scores[key].value, audit.base.scores[key].chance
    return (base - erased) / (base - chance) if chance is not None and base > chance else None


def kept(audit: Audit, key: str) -> float | None:
    """Erased figure over base figure; None where it was not measured or the base's is 0."""
    if key not in audit.base.scores or key not in audit.erased.scores or not audit.base.scores[key].value:
        return None
    return audit.erased.scores[key].value / audit.base.scores[key].value


def verdict(audit: Audit) -> str:
    """One sentence: how much is gone, how much is kept, how the answers read."""
    share, neighbours, general = gone(audit), kept(audit, "choice/neighbour/acc_norm"), kept(audit, "choice/general/acc_norm")
    fluent = kept(audit, "answers/forget/perplexity")
    parts = [
        "forget accuracy not measured above chance"
        if share is None
        else f"{share:.0%} of the way from the base to chance is gone",
        "neighbours not measured" if neighbours is None else f"neighbours keep {neighbours:.0%}",
        "general knowledge not measured" if general is None else f"general knowledge keeps {general:.0%} of the base's accuracy",
        "answers not measured"
        if fluent is None
        else f"answers about the concept have {fluent:.2g} times the perplexity of the base's",
    ]
    return "; ".join(parts) + "."
