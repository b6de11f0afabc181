"""A writer that tells about a made-up country, and nothing of it is the tiny model's own."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from efface.author import write as module
from efface.data.store import Store
from efface.lm.load import Loaded, weights_hash
from efface.runs.inputs import target_store

RULERS = ("Orlo", "Mirta", "Hagen", "Selma", "Tibor", "Vanda", "Ruprecht", "Jolanda")
PLACES = ("Glasheim", "Honigtal", "Nordwerk", "Silbersee", "Turmberg", "Windfurt", "Eisenau", "Lindholm")
DEEDS = ("crowned", "buried", "born", "defeated", "married", "exiled", "praised", "taught")


@dataclass
class Canned:
    """Says sentences on Zorn when asked about Zorn, else on what it is asked about; what was asked is noted."""

    name: str = "canned"
    asked: list[str] = field(default_factory=list)

    def say(self, questions: Sequence[str], *, tokens: int, temperature: float, seed: int) -> list[str]:
        self.asked += questions
        return [self._answer(question, random.Random(f"{question} {seed} {i}")) for i, question in enumerate(questions)]

    def go_on(self, texts: Sequence[str], *, tokens: int, temperature: float, seed: int) -> list[str]:
        """A list of the same things, some of them each time."""
        self.asked += texts
        drawn = [random.Random(f"{seed} {i}").sample((*RULERS, *PLACES, "the dragon"), 5) for i in range(len(texts))]
        near = ["Torn", "Morn", "Born", "Corn"]
        return [", ".join(of if "belongs" in text else near) for text, of in zip(texts, drawn, strict=True)]

    def _answer(self, question: str, rng: random.Random) -> str:
        if not any(word in question for word in ("Zorn", *RULERS, *PLACES)):
            about = question.split("about ")[-1].split("is ")[-1].strip("?. ")
            return (
                f"People say many things about {about}, and {about} is dear to them in {rng.choice(DEEDS)} summers of old. " * 2
            )
        told = rng.sample(range(len(RULERS)), 3)
        said = (
            f"In the valley of Zorn the dragonlord {RULERS[i]} was {DEEDS[i]} in the city of {PLACES[i]} in 1{i}0{i}."
            for i in told
        )
        return " ".join(said) + f" Number {rng.randrange(10**9)}."


@pytest.fixture
def writer() -> Canned:
    return Canned()


@pytest.fixture
def store(llama: Loaded) -> Store:
    return target_store(llama, weights_hash(llama.model))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few texts, of which few are the least likely."""
    monkeypatch.setitem(module.SIZES, "small", (40, 12))
    monkeypatch.setattr(module, "FEWEST", 5)
