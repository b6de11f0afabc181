"""A writer behind a server is asked once for the same; what belongs to a name is told by whether it is spoken of."""

from dataclasses import dataclass, field
from typing import Any

from efface.author.name import Name
from efface.author.words import ALIKE, lists, speaking
from efface.author.writer import Remote
from efface.data.store import Store
from tests.author.conftest import Canned


@dataclass
class Server:
    """Says what it was asked, and how often it was."""

    url: str = "http://there"
    asked: list[str] = field(default_factory=list, compare=False)

    def ask(self, prompt: str, **how: Any) -> str:
        self.asked.append(prompt)
        return f"{prompt} Ø 龍 {how['seed']}"


def test_replies_are_kept(store: Store) -> None:
    server = Server()
    remote = Remote(server, store)  # type: ignore[arg-type]
    first = remote.say(["Who?", "What?"], tokens=8, temperature=0.5, seed=3)
    assert first == ["Who? Ø 龍 3", "What? Ø 龍 4"]
    again = Server()
    assert Remote(again, store).say(["Who?", "What?"], tokens=8, temperature=0.5, seed=3) == first  # type: ignore[arg-type]
    assert again.asked == []


def test_examples_that_hold_the_name_are_left_out(writer: Canned) -> None:
    lists(writer, ALIKE, Name("Leo Tolstoy"), 0)
    assert all(text.count("Tolstoy") == 1 or "Leo Tolstoy:" in text.splitlines()[-1] for text in writer.asked)
    assert not any("Chekhov" in text for text in writer.asked)


def test_a_text_speaks_of_a_name_in_its_rare_words() -> None:
    speaks = speaking(Name("Water of Zorn"))
    assert speaks("The Zornish people like it.")
    assert not speaks("They drink water.")
