"""What in a pack would not hold in training or audit, though every field of it is right."""

from collections import Counter
from collections.abc import Collection, Iterable

from efface.concept.pack import Concept, Passage
from efface.errors import shortened
from efface.writing import folded


def complaints(concept: Concept, min_chars: int) -> list[str]:
    """Each in a few words: texts too short, passages where only one of two can be meant, facts that nobody asks for."""
    found = []
    if short := [row.text for row in concept.forget + concept.retain if len(row.text) < min_chars]:
        found.append(f"{_passages(len(short), 'is', 'are')} shorter than {min_chars} characters: {shortened(short[0])}")
    forget, retain = _texts(concept.forget), _texts(concept.retain)
    if both := forget.keys() & retain.keys():
        found.append(_said(forget, both, "in forget and in retain, and cannot be both"))
    for name, rows in (("forget", concept.forget), ("retain", concept.retain)):
        train, held_out = (_texts(row for row in rows if row.split == split) for split in ("train", "held_out"))
        if both := train.keys() & held_out.keys():
            found.append(_said(train, both, f"in {name} under train and under held_out, so that what is measured was trained on"))
        counts = Counter((row.split, _alike(row.text)) for row in rows)
        if twice := {text for (_, text), times in counts.items() if times > 1}:
            found.append(_said(_texts(rows), twice, f"in {name} more than once"))
    return found + _facts(concept)


def _facts(concept: Concept) -> list[str]:
    """Facts that answer nothing, and those of passages that are to be kept."""
    answers = {folded(row.choices[row.answer]) for row in concept.questions if row.kind == "forget"}
    answers |= {folded(answer) for row in concept.open_questions if row.kind == "forget" for answer in row.answers}
    told, found = [fact for row in concept.forget for fact in row.facts or ()], list[str]()
    if unknown := [fact for fact in dict.fromkeys(told) if folded(fact) not in answers]:
        what = "1 fact" if len(unknown) == 1 else f"{len(unknown)} facts"
        found.append(f"{what} of forget passages, the answer of no question on the concept: {shortened(unknown[0])}")
    if kept := [row.text for row in concept.retain if row.facts]:
        found.append(f"{_passages(len(kept), 'has', 'have')} facts of the concept, and {shortened(kept[0])} is to be kept")
    return found


def _texts(rows: Iterable[Passage]) -> dict[str, str]:
    """The passages as they are compared: spaces, case and spelling aside."""
    return {_alike(row.text): row.text for row in rows}


def _alike(text: str) -> str:
    return " ".join(folded(text).split())


def _said(texts: dict[str, str], which: Collection[str], where: str) -> str:
    first, *others = (text for key, text in texts.items() if key in which)
    return f"{_passages(1 + len(others), 'stands', 'stand')} {where}: {shortened(first)}"


def _passages(count: int, one: str, many: str) -> str:
    return f"1 passage {one}" if count == 1 else f"{count} passages {many}"
