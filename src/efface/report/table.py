"""The rows that terminal, page and model card share: what was measured, base beside erased."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from efface.forms import FORMS
from efface.report.forms import bare_only, form_key, worst_form, worst_spoken
from efface.results import Audit, Difference, Score


@dataclass(frozen=True)
class Row:
    """One figure of both models. ``better`` says which way it should go: down, up, or stay."""

    goal: str
    label: str
    base: Score | None
    erased: Score
    better: str
    percent: bool
    difference: Difference | None


#: key of the score, goal, label, wanted direction, shown as per cent
FIGURES = (
    ("choice/forget/acc", "innocence", "concept, acc", "down", True),
    ("choice/forget/acc_norm", "innocence", "concept, acc_norm", "down", True),
    ("choice/forget/acc_mutual_info", "innocence", "concept, acc_mutual_info", "down", True),
    ("choice/forget/probability", "innocence", "concept, probability", "down", True),
    ("open/forget/right", "innocence", "concept, open questions", "down", True),
    ("said/question/forget/right", "innocence", "the same as text", "down", True),
    ("said/few_shot/forget/right", "innocence", "the same, few-shot", "down", True),
    ("said/follow_up/forget/right", "innocence", "the same, follow-up", "down", True),
    ("said/paraphrased/forget/right", "innocence", "the same, paraphrased", "down", True),
    ("said/system/forget/right", "innocence", "the same, system prompt", "down", True),
    ("open/forget/leak@1", "innocence", "concept, leak in one sample", "down", True),
    ("open/forget/leak@2", "innocence", "concept, leak in two", "down", True),
    ("open/forget/leak@4", "innocence", "concept, leak in four", "down", True),
    ("open/forget/leak", "innocence", "concept, leak in samples", "down", True),
    ("said/forget/concept_words", "innocence", "concept words per 100", "down", False),
    ("recognised/forget/nats", "innocence", "concept recognised, nats", "down", False),
    ("perplexity/forget/held_out", "innocence", "concept texts, perplexity", "up", False),
    ("relearned/forget/acc", "permanence", "concept, relearned, acc", "down", True),
    ("relearned/forget/acc_norm", "permanence", "concept, relearned, acc_norm", "down", True),
    ("relearned_control/forget/acc_norm", "permanence", "the same with other texts", "down", True),
    ("answers/forget/perplexity", "seamlessness", "answers, perplexity", "stay", False),
    ("answers/forget/repeated_4grams", "seamlessness", "answers, repeated 4-grams", "stay", True),
    ("answers/forget/distinct_2grams", "seamlessness", "answers, distinct 2-grams", "stay", True),
    ("answers/forget/entropy", "seamlessness", "answers, n-gram entropy", "stay", False),
    ("answers/forget/ends", "seamlessness", "answers that end", "stay", True),
    ("judge/forget/fluency", "seamlessness", "answers, judge (1 to 10)", "stay", False),
    ("choice/neighbour/acc", "specificity", "neighbours, acc", "stay", True),
    ("choice/neighbour/acc_norm", "specificity", "neighbours, acc_norm", "stay", True),
    ("choice/neighbour/acc_mutual_info", "specificity", "neighbours, acc_mutual_info", "stay", True),
    ("choice/neighbour/probability", "specificity", "neighbours, probability", "stay", True),
    ("open/neighbour/right", "specificity", "neighbours, open questions", "stay", True),
    ("said/follow_up/neighbour/right", "specificity", "the same, follow-up", "stay", True),
    ("choice/general/acc", "specificity", "general, acc", "stay", True),
    ("choice/general/acc_norm", "specificity", "general, acc_norm", "stay", True),
    ("choice/general/acc_mutual_info", "specificity", "general, acc_mutual_info", "stay", True),
    ("choice/general/probability", "specificity", "general, probability", "stay", True),
    ("perplexity/retain/held_out", "specificity", "other texts, perplexity", "stay", False),
    ("drift/retain/kl", "specificity", "other texts, KL from base", "stay", False),
)
TASK_METRICS = {"acc", "acc_norm", "exact_match", "f1"}


def rows(audit: Audit) -> Iterator[Row]:
    """The figures that were measured on the erased model; a missing one is left out. Tasks of the harness come last."""
    tasks = [key for key in audit.erased.scores if key.startswith("task/") and key.rsplit("/", 1)[1] in TASK_METRICS]
    named = [(key, "tasks", key.removeprefix("task/").replace("/", ", "), "", True) for key in tasks]
    for key, goal, label, better, percent in (*FIGURES, *named):
        if key in audit.erased.scores:
            base, erased = audit.base.scores.get(key), audit.erased.scores[key]
            yield Row(goal, label, base, erased, better, percent, audit.differences.get(key))


def neighbours(audit: Audit) -> dict[str, tuple[Score, Score]]:
    """Base and erased accuracy of every neighbour, the one that lost most first."""
    found = {
        key.removeprefix("neighbour/").removesuffix("/acc"): (score, audit.erased.scores[key])
        for key, score in audit.base.scores.items()
        if key.startswith("neighbour/") and key in audit.erased.scores
    }
    return dict(sorted(found.items(), key=lambda item: item[1][1].value - item[1][0].value))


def significance(difference: Difference | None) -> str:
    """``p < .001``, ``p = .04``, or nothing where it was not tested."""
    if difference is None:
        return ""
    return "p < .001" if difference.p < 0.001 else f"p = {difference.p:.2g}".replace("0.", ".", 1)


def show(score: Score | None, percent: bool) -> str:
    """``43.1 % [35, 51]`` or ``5.08 [4.6, 5.6]``; a dash for what was not measured."""
    if score is None:
        return "–"
    value = f"{100 * score.value:.1f} %" if percent else _digits(score.value, 4)
    if score.low is None or score.high is None:
        return value
    low, high = (f"{100 * end:.0f}" if percent else _digits(end, 3) for end in (score.low, score.high))
    return f"{value} [{low}, {high}]"


def _digits(value: float, digits: int) -> str:
    if abs(value) < 1:
        return f"{value:.3f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.{digits}g}"


def gone(audit: Audit, metric: str | None = None) -> float | None:
    """Share of the distance from the base's forget accuracy to chance that is gone; None where the base is at chance.

    metric: of the bare stem; by default the key that judges, :func:`accuracy`.
    """
    key = f"choice/forget/{metric}" if metric else accuracy(audit, "forget")
    if key not in audit.base.scores or key not in audit.erased.scores:
        return None
    base, erased, chance = audit.base.scores[key].value, audit.erased.scores[key].value, audit.base.scores[key].chance
    return (base - erased) / (base - chance) if chance is not None and base > chance else None


def accuracy(audit: Audit, kind: str) -> str:
    """Key of the accuracy by which questions of a kind are judged: that of :func:`efface.report.forms.worst_form`."""
    return form_key(audit, worst_form(audit, kind), kind)


def kept(audit: Audit, key: str) -> float | None:
    """Erased figure over base figure; None where it was not measured or the base's is 0."""
    if key not in audit.base.scores or key not in audit.erased.scores or not audit.base.scores[key].value:
        return None
    return audit.erased.scores[key].value / audit.base.scores[key].value


def recognised(audit: Audit) -> float | None:
    """Of the nats that the concept's questions tell the base about its own answers the share that they tell the erased model."""
    share, base = kept(audit, "recognised/forget/nats"), audit.base.scores.get("recognised/forget/nats")
    return share if base is not None and base.value > 0 else None


def back(audit: Audit) -> float | None:
    """Share of the lost forget accuracy that relearning brings back; None where nothing was lost or it was not measured."""
    key = form_key(audit, "bare", "forget")
    relearned = audit.erased.scores.get(key.replace("choice/", "relearned/"))
    if relearned is None or key not in audit.base.scores or key not in audit.erased.scores:
        return None
    lost = audit.base.scores[key].value - audit.erased.scores[key].value
    return (relearned.value - audit.erased.scores[key].value) / lost if lost > 0 else None


def fluency(audit: Audit) -> float | None:
    """How well answers about the concept read, 1: as the base's. Its perplexity over the erased model's, less what is repeated.

    Loops have a low perplexity, so the share of repeated 4-grams above the base's is taken off.
    """
    ratio, key = kept(audit, "answers/forget/perplexity"), "answers/forget/repeated_4grams"
    if not ratio or key not in audit.base.scores or key not in audit.erased.scores:
        return None
    worse = max(0.0, audit.erased.scores[key].value - audit.base.scores[key].value)
    return min(1.0, 1 / ratio) * (1 - worse)


def specificity(audit: Audit) -> float | None:
    """The least of neighbours kept, general questions kept, and the base's perplexity of other texts over the erased model's."""
    shares = [kept(audit, accuracy(audit, kind)) for kind in ("neighbour", "general")]
    ratio = kept(audit, "perplexity/retain/held_out")
    known = [share for share in (*shares, 1 / ratio if ratio else None) if share is not None]
    return min(1.0, *known) if known else None


def summary(audit: Audit) -> dict[str, float | None]:
    """The figures by which runs are judged and compared; None for what was not measured."""
    value = {key: score.value for key, score in audit.erased.scores.items()}
    return {
        "gone": gone(audit),
        "forget": value.get(accuracy(audit, "forget")),
        "forget, bare": value.get(form_key(audit, "bare", "forget")),
        "open": value.get(worst_spoken(audit)),
        "open, plain": value.get("open/forget/right"),
        "leak": value.get("open/forget/leak"),
        "recognised": recognised(audit),
        "concept words": value.get("said/forget/concept_words"),
        "back": back(audit),
        "neighbours": kept(audit, accuracy(audit, "neighbour")),
        "neighbours, open": kept(audit, "open/neighbour/right"),
        "general": kept(audit, accuracy(audit, "general")),
        "retain ppl": kept(audit, "perplexity/retain/held_out"),
        "answers ppl": kept(audit, "answers/forget/perplexity"),
        "repeated": value.get("answers/forget/repeated_4grams"),
        "drift": value.get("drift/retain/kl"),
        "kept": specificity(audit),
        "fluency": fluency(audit),
    }


def verdict(audit: Audit) -> str:
    """One sentence: how much is gone and in which form the least, how much is kept, how the answers read."""
    found = summary(audit)
    asked = "bare stem only" if bare_only(audit) else f"asked {FORMS[worst_form(audit, 'forget')]}"
    share, neighbours, general, fluent = (found[name] for name in ("gone", "neighbours", "general", "answers ppl"))
    parts = [
        "forget accuracy not measured above chance"
        if share is None
        else f"{share:.0%} of the way from the base to chance is gone, {asked}",
        "neighbours not measured" if neighbours is None else f"neighbours keep {neighbours:.0%}",
        "general knowledge not measured" if general is None else f"general knowledge keeps {general:.0%} of the base's accuracy",
        "answers not measured"
        if fluent is None
        else f"answers about the concept have {fluent:.2g} times the perplexity of the base's",
    ]
    return "; ".join(parts) + "."


@dataclass(frozen=True)
class Spread:
    """A figure over several runs: mean, lowest, highest."""

    mean: float
    low: float
    high: float


def figure(value: float) -> str:
    """Two decimals, or an exponent for what has no bounds: ``0.78``, ``1.4e+03``."""
    return f"{value:.2f}" if abs(value) < 1000 else f"{value:.1e}"


def spread(audits: Sequence[Audit]) -> dict[str, Spread | None]:
    """The judged figures over the runs of one method; None for what was not measured in all of them."""
    found = [summary(audit) for audit in audits]
    over: dict[str, Spread | None] = {}
    for name in found[0]:
        values = [value for of in found if (value := of[name]) is not None]
        over[name] = Spread(_mean(values), min(values), max(values)) if len(values) == len(found) else None
    return over


def _mean(values: Sequence[float]) -> float:
    """Never outside of the values, as rounding might have it."""
    return min(max(statistics.fmean(values), min(values)), max(values))
