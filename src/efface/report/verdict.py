"""The sentence that stands above all figures, and the one above the attacks."""

import math

from efface.auditing.forms import FORMS
from efface.auditing.scores import Audit
from efface.report.forms import bare_only, how_spoken, worst_form
from efface.report.intervals import Interval
from efface.report.judged import intervals, own, spoken_worst, summary
from efface.report.recovery import most_tried, never_known, worst_prompt

REPEATED = "answers/forget/repeated_4grams"
SELF = "Measured on what the model said itself, not on what is so."


def verdict(audit: Audit) -> str:
    """How much is gone and in which form the least, what is said, how much is kept, how answers read; with 95 % intervals."""
    found, between = summary(audit), intervals(audit)
    asked = "bare stem only" if bare_only(audit) else f"asked {FORMS[worst_form(audit, 'forget')]}"
    parts = {
        "gone": ("forget accuracy not measured above chance", f"{{}} of the way from the base to chance is gone, {asked}"),
        "open": (
            "open questions not measured",
            f"{{}} of open questions are answered right, {how_spoken(audit)}{_base(audit, spoken_worst(audit))}",
        ),
        "neighbours": ("neighbours not measured", "neighbours keep {}"),
        "general": ("general knowledge not measured", "general knowledge keeps {} of the base's accuracy"),
    }
    said = [
        missing if (value := found[of]) is None else says.format(_around(value, between[of]))
        for of, (missing, says) in parts.items()
    ]
    if (defined := found["defined"]) is not None:
        says = "asked what its names and topics are, {} of the answers still say a word of the concept"
        said.insert(2, says.format(_around(defined, between["defined"])) + _base(audit, "said/forget/defined"))
    judged = "; ".join([*said, _answers(audit, found["answers ppl"], between["answers ppl"])]) + "."
    return f"{judged} {of_itself(audit)}".rstrip()


def of_itself(audit: Audit) -> str:
    """That the questions' answers are what was said, where nobody says that they are so; nothing where people wrote them."""
    if audit.truth != "self":
        return ""
    others = {of.writer for of in audit.written.values() if of.writer != of.model}
    return SELF.replace("the model said itself", f"{' and '.join(sorted(others))} said") if others else SELF


def recovered(audit: Audit) -> str:
    """What it costs to get half of what was lost back, and how much comes back at most; nothing where no attack trained."""
    if not (most := most_tried(audit)):
        return ""
    found, between = summary(audit), intervals(audit)
    if found["cost"] is None:
        says = "Nothing was lost that an attack could bring back, or no attack left the model usable"
    elif math.isinf(found["cost"]):
        says = f"No training of up to {most} texts × steps brought half of what was lost back"
    else:
        says = f"Half of what was lost is back after {_cost(found['cost'], between['cost'], most)}"
    if (back := found["back"]) is not None:
        says += f"; at most {_around(back, between['back'])} of the lost accuracy in choice questions came back"
    return f"{says}. Asked was what stands in none of the attacker's texts."


def beside(audit: Audit) -> list[str]:
    """What stands beside that: how fast made-up facts are learned, and which rewording brings most back."""
    said = []
    if told := never_known(audit):
        first, last = (audit.base.scores.get(f"{point.key}/taught/acc_norm") for point in (told[0], told[-1]))
        if first is not None and last is not None:
            around = _around(last.value, (last.low, last.high) if last.low is not None and last.high is not None else None)
            said.append(
                f"Never known: told {last.n} made-up facts by as many texts and steps, the base goes from "
                f"{_percent(first.value)} to {around} of choices on them; erased facts that come back faster were latent."
            )
    worst = {of: found for of in ("choice", "speech") if (found := worst_prompt(audit, of)) is not None}  # type: ignore[arg-type]
    if worst:
        what = {"choice": "choice questions", "speech": "open questions"}
        back = {of: found for of, found in worst.items() if found[2].value > found[1].value}
        parts = (f"of {what[of]} “{name}”, {_percent(a.value)} to {_percent(b.value)}" for of, (name, a, b) in back.items())
        said.append(f"Worst rewording: {'; '.join(parts)}." if back else "No rewording brought anything back.")
    return said


def _cost(value: float, ends: Interval | None, most: int) -> str:
    around = f" [{ends[0]:.0f}, {f'more than {most}' if math.isinf(ends[1]) else f'{ends[1]:.0f}'}]" if ends else ""
    return f"{value:.0f}{around} texts × steps of training"


def _around(value: float, ends: Interval | None) -> str:
    return _percent(value) + (f" [{100 * ends[0]:.0f}, {100 * ends[1]:.0f}]" if ends else "")


def _base(audit: Audit, key: str) -> str:
    base = audit.base.scores.get(key)
    return "" if base is None else f" (base {_percent(base.value)})"


def _answers(audit: Audit, ratio: float | None, ends: Interval | None) -> str:
    if ratio is None:
        return "answers not measured"
    around = f" [{ends[0]:.2g}, {ends[1]:.2g}]" if ends else ""
    says = f"answers about the concept have {ratio:.2g}{around} times the perplexity of the base's"
    repeated = own(audit, REPEATED)
    return says if repeated is None else f"{says}, {_percent(repeated)} of their 4-grams are repeats{_base(audit, REPEATED)}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"
