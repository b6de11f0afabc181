"""Neighbours of a name: what the model's own lists put beside it, and passages about those that share little with it."""

from collections.abc import Collection, Sequence

from efface.author.name import Name
from efface.author.passages import SHORTEST, Dropped, split, without_duplicates, write_passages
from efface.author.words import Words
from efface.author.writer import Writer
from efface.concept.pack import Passage
from efface.data.neighbours import nearest
from efface.lm.load import Loaded
from efface.writing import contains, width

#: share of a neighbour's passages that may be dropped for being about the concept; a wrong neighbour keeps what is to go
OVERLAP = 0.5
#: neighbours
MOST = 8


def find_near(loaded: Loaded, name: Name, words: Words) -> list[str]:
    """Things of the same kind that several of the writer's lists name and that do not belong to it, the nearest first."""
    return nearest(loaded, name.name, words.near[: 3 * MOST])[:MOST]


def write_about(
    writer: Writer, neighbours: Sequence[str], names: Collection[str], count: int, seed: int, dropped: Dropped
) -> list[Passage]:
    """Passages about the neighbours that name their neighbour and not the concept. names: the concept's."""
    if not neighbours:
        return []
    kept = []
    written = write_passages(writer, None, neighbours, count, seed + 7)
    for neighbour in neighbours:
        own = [passage for passage in written if passage.topic == neighbour]
        found = dropped.keep("short", own, lambda passage: width(passage.text) >= SHORTEST)
        found = dropped.keep("without its topic", found, lambda passage: contains(passage.text, [passage.topic]))
        apart = [passage for passage in found if not contains(passage.text, list(names))]
        if len(apart) >= OVERLAP * len(found):
            dropped.counts["on the concept"] += len(found) - len(apart)
            kept += apart
        else:
            dropped.counts["of neighbours that overlap"] += len(found)
    return split(without_duplicates(kept, dropped))
