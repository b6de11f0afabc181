"""How far the writing of a pack is, with an ETA over all of its steps."""

import time
from collections.abc import Mapping

from efface.shown import complain

#: what is done, in order, and how long each takes beside the others
STEPS = {
    "does the model know it": 20,
    "what belongs to it and what is like it": 30,
    "texts about it": 55,
    "texts about its neighbours": 40,
    "choice questions": 35,
    "open questions": 30,
}


class Steps:
    """Says which step begins, and when all of them should be done as far as those before tell."""

    def __init__(self, name: str, steps: Mapping[str, int] = STEPS) -> None:
        self.name, self.steps, self.started = name, steps, time.monotonic()

    def begin(self, what: str) -> None:
        """Of a step that is one of them."""
        names = list(self.steps)
        number = names.index(what)
        done = sum(self.steps[name] for name in names[:number])
        spent = time.monotonic() - self.started
        left = f", {spent:.0f} s, eta {spent / done * (sum(self.steps.values()) - done):.0f} s" if done else ""
        complain(f"{self.name}: {number + 1} of {len(names)}, {what}{left}")
