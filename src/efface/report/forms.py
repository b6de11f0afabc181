"""The forms side by side, and which of them judges: the worst of those in which the base knows something."""

from collections.abc import Mapping, Sequence
from typing import get_args

from efface.auditing.forms import FORMS, SPOKEN
from efface.auditing.scores import Audit, Score
from efface.concept.pack import Kind

#: how far above chance the lower end of the base's 95 % interval must lie for a form to judge: below that, a share of the
#: distance to chance is mostly noise
MARGIN = 0.02
#: open questions that the base must answer right in a form for it to judge
RIGHT = 5

#: base, erased, and whether it judges
Cell = tuple[Score | None, Score | None, bool]


def forms(audit: Audit, kind: str) -> dict[str, tuple[Score, Score]]:
    """Base and erased accuracy (acc_norm; of the bare stem acc, if it has no other) of a kind in every form measured on both."""
    found = {}
    for form in FORMS:
        key = form_key(audit, form, kind)
        if key in audit.base.scores and key in audit.erased.scores:
            found[form] = (audit.base.scores[key], audit.erased.scores[key])
    return found


def form_key(audit: Audit, form: str, kind: str) -> str:
    """The key of a form's accuracy."""
    if form != "bare":
        return f"form/{form}/{kind}/acc_norm"
    key = f"choice/{kind}/acc_norm"
    return key if key in audit.erased.scores else f"choice/{kind}/acc"


def worst_form(audit: Audit, kind: str) -> str:
    """Of the forms in which the base is above chance (:data:`MARGIN`) the one where the least is gone, or kept.

    The smallest share of the distance to chance gone for ``forget``, the smallest share of the base's accuracy kept for the
    other kinds; the bare stem where the base is above chance in no form.
    """
    shares = {}
    for form, (base, erased) in forms(audit, kind).items():
        if base.low is not None and base.chance is not None and base.low > base.chance + MARGIN:
            less = base.chance if kind == "forget" else 0.0
            left = (erased.value - less) / (base.value - less)
            shares[form] = -left if kind == "forget" else left
    return min(shares, key=shares.__getitem__, default="bare")


def table(audit: Audit) -> list[tuple[str, list[Cell]]]:
    """A row a form: how it is asked; forget, neighbour, general and open questions on the concept. No rows for one form alone."""
    by_kind = {kind: (forms(audit, kind), worst_form(audit, kind)) for kind in get_args(Kind)}
    if not any(len(found) > 1 for found, _ in by_kind.values()):
        return []
    before, after, worst = audit.base.scores, audit.erased.scores, worst_spoken(audit)
    said = spoken(audit, "forget")
    rows = []
    for how in dict.fromkeys([*FORMS.values(), *said]):
        form = next((form for form, named in FORMS.items() if named == how), "")
        cells: list[Cell] = [(*of.get(form, (None, None)), form == judges) for of, judges in by_kind.values()]
        key = said.get(how, "")
        cells.append((before.get(key), after.get(key), key == worst))
        if any(erased for _, erased, _ in cells):
            rows.append((how, cells))
    return rows


def leaks(audit: Audit) -> str:
    """``leak in 1, 2, 4, 8 samples: 12, 18, 24, 29 % (base), 1, 2, 3, 4 % (erased)``; nothing where it was not measured."""
    before, after = audit.base.scores, audit.erased.scores
    keys = [key for key in after if key.startswith("open/forget/leak@") and key in before]
    sizes, base, erased = (
        ", ".join(of) for of in ((key.split("@")[1] for key in keys), _percents(before, keys), _percents(after, keys))
    )
    return f"leak in {sizes} samples: {base} % (base), {erased} % (erased)" if keys else ""


def _percents(scores: Mapping[str, Score], keys: Sequence[str]) -> list[str]:
    return [f"{100 * scores[key].value:.0f}" for key in keys]


def bare_only(audit: Audit) -> bool:
    """Whether the questions were asked as bare stems only, as audits once did."""
    return not any(key.startswith("form/") for key in audit.erased.scores)


def spoken(audit: Audit, kind: str) -> dict[str, str]:
    """How open questions of a kind were asked -> key of the share answered right; the plain turn in chat first."""
    keys = {"in chat": f"open/{kind}/right", **{how: f"said/{form}/{kind}/right" for form, how in SPOKEN.items()}}
    return {how: key for how, key in keys.items() if key in audit.erased.scores}


def how_spoken(audit: Audit) -> str:
    """How the open questions of :func:`worst_spoken` were asked."""
    return next((how for how, key in spoken(audit, "forget").items() if key == worst_spoken(audit)), "in chat")


def worst_spoken(audit: Audit) -> str:
    """Key of the concept's open questions in the form where most are answered right, of those with :data:`RIGHT` by the base."""
    before = audit.base.scores
    known = [key for key in spoken(audit, "forget").values() if key in before and before[key].value * before[key].n > RIGHT - 0.5]
    return max(known, key=lambda key: audit.erased.scores[key].value, default="open/forget/right")
