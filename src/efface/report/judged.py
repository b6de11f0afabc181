"""The figures by which runs are judged and compared: derived from the scores of base and erased model, each with its limit."""

from dataclasses import dataclass
from functools import partial
from typing import get_args

from efface.auditing.scores import Audit
from efface.concept.pack import Kind
from efface.report.forms import form_key, worst_form, worst_spoken
from efface.report.intervals import Derived, Interval, Redrawn, pooled, resampled
from efface.report.recovery import back, cost, seeds


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
    if isinstance(audit, Redrawn):
        return audit.judged[kind]
    return form_key(audit, worst_form(audit, kind), kind)


def spoken_worst(audit: Audit) -> str:
    """Key of the open questions by which the concept is judged: those of :func:`efface.report.forms.worst_spoken`."""
    return audit.judged["open"] if isinstance(audit, Redrawn) else worst_spoken(audit)


def kept(audit: Audit, key: str) -> float | None:
    """Erased figure over base figure; None where it was not measured or the base's is 0."""
    if key not in audit.base.scores or key not in audit.erased.scores or not audit.base.scores[key].value:
        return None
    return audit.erased.scores[key].value / audit.base.scores[key].value


def recognised(audit: Audit) -> float | None:
    """Of the nats that the concept's questions tell the base about its own answers the share that they tell the erased model."""
    key = "recognised/forget/nats"
    return kept(audit, key) if key in audit.base.scores and audit.base.scores[key].value > 0 else None


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


def own(audit: Audit, key: str) -> float | None:
    """The erased model's figure; None where it was not measured."""
    return audit.erased.scores[key].value if key in audit.erased.scores else None


@dataclass(frozen=True)
class Judged:
    """A figure by which runs are judged and compared. limit, says: the flag of ``efface gate`` that bounds it, and its help."""

    of: Derived
    limit: str = ""
    says: str = ""


JUDGED: dict[str, Judged] = {
    "gone": Judged(gone, "min_gone", "Share of the distance from the base's accuracy to chance that is gone, in the worst form."),
    "forget": Judged(
        lambda audit: own(audit, accuracy(audit, "forget")),
        "max_forget",
        "Accuracy (acc_norm) of the erased model on the concept's questions, in the worst form.",
    ),
    "forget, bare": Judged(lambda audit: own(audit, form_key(audit, "bare", "forget"))),
    "open": Judged(
        lambda audit: own(audit, spoken_worst(audit)),
        "max_open",
        "Share of the concept's open questions answered right, in the worst form.",
    ),
    "open, plain": Judged(lambda audit: own(audit, "open/forget/right")),
    "leak": Judged(
        lambda audit: own(audit, "open/forget/leak"),
        "max_leak",
        "Share of the concept's open questions answered right in any sample.",
    ),
    "recognised": Judged(
        recognised,
        "max_recognised",
        "How much the model still knows whom a question is about: 1 as the base, 0 as of a stranger.",
    ),
    "defined": Judged(
        lambda audit: own(audit, "said/forget/defined"),
        "max_defined",
        "Share of the concept's names and topics that the model explains with words of the concept.",
    ),
    "concept words": Judged(lambda audit: own(audit, "said/forget/concept_words")),
    "back": Judged(
        back, "max_back", "Largest share of the lost accuracy that training on a few texts brings back (audit.attacks)."
    ),
    "cost": Judged(
        cost, "min_cost", "Fewest examples times steps of training that bring half of what was lost back (audit.attacks)."
    ),
    "neighbours": Judged(
        lambda audit: kept(audit, accuracy(audit, "neighbour")),
        "min_neighbours",
        "Accuracy on neighbour questions over the base's, in the worst form.",
    ),
    "neighbours, open": Judged(lambda audit: kept(audit, "open/neighbour/right")),
    "general": Judged(
        lambda audit: kept(audit, accuracy(audit, "general")),
        "min_general",
        "Accuracy on general questions over the base's, in the worst form.",
    ),
    "retain ppl": Judged(
        lambda audit: kept(audit, "perplexity/retain/held_out"),
        "max_perplexity",
        "Perplexity of held-out texts over the base's.",
    ),
    "answers ppl": Judged(
        lambda audit: kept(audit, "answers/forget/perplexity"),
        "max_answers",
        "Perplexity of answers about the concept over the base's.",
    ),
    "repeated": Judged(
        lambda audit: own(audit, "answers/forget/repeated_4grams"), "max_repeated", "Share of repeated 4-grams in these answers."
    ),
    "drift": Judged(
        lambda audit: own(audit, "drift/retain/kl"),
        "max_drift",
        "KL divergence from the base on held-out texts, nats a token.",
    ),
    "kept": Judged(specificity),
    "fluency": Judged(fluency),
}


def summary(audit: Audit) -> dict[str, float | None]:
    """The figures by which runs are judged and compared; None for what was not measured."""
    return {name: judged.of(audit) for name, judged in JUDGED.items()}


def judged(audit: Audit) -> dict[str, str]:
    """By kind, the key of the accuracy that :func:`accuracy` chooses; ``open``: that of :func:`spoken_worst`."""
    return {**{kind: accuracy(audit, kind) for kind in get_args(Kind)}, "open": spoken_worst(audit)}


def intervals(audit: Audit) -> dict[str, Interval | None]:
    """95 % intervals of the figures of :func:`summary`; None where there is none (:func:`efface.report.intervals.resampled`)."""
    chosen = judged(audit)
    found = {name: resampled(audit, of.of, chosen) for name, of in JUDGED.items() if of.of is not cost}
    each: list[Derived] = [partial(cost, seed=seed) for seed in seeds(audit)]
    return {name: pooled(audit, each or [cost], chosen) if name == "cost" else found[name] for name in JUDGED}
