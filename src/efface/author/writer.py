"""Who writes: the model that is to forget, another one, or one behind an OpenAI-compatible server."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch

from efface.data.answers import answers
from efface.data.store import Store, Tensors
from efface.lm.cache import Ids
from efface.lm.chat import chat_prompt, encoded
from efface.lm.endpoint import Endpoint
from efface.lm.load import Loaded


class Writer(Protocol):
    """Answers in its own words."""

    @property
    def name(self) -> str:
        """As it is told to the reader of a pack."""
        ...

    def say(self, questions: Sequence[str], *, tokens: int, temperature: float, seed: int) -> list[str]:
        """An answer to each question, of at most so many tokens."""
        ...

    def go_on(self, texts: Sequence[str], *, tokens: int, temperature: float, seed: int) -> list[str]:
        """What comes behind each text."""
        ...


@dataclass(frozen=True)
class Local:
    """A model on this machine; what it said before is in the store."""

    loaded: Loaded
    store: Store

    @property
    def name(self) -> str:
        """Where it was read from, as the user named it."""
        return self.loaded.source

    def say(self, questions: Sequence[str], *, tokens: int, temperature: float, seed: int) -> list[str]:
        """Sampled; no four tokens come twice in an answer."""
        prompts = [chat_prompt(self.loaded.tokenizer, question) for question in questions]
        return self._sampled(prompts, tokens, temperature, seed)

    def go_on(self, texts: Sequence[str], *, tokens: int, temperature: float, seed: int) -> list[str]:
        """Sampled too, outside of any conversation."""
        return self._sampled([encoded(self.loaded.tokenizer, text) for text in texts], tokens, temperature, seed)

    def _sampled(self, prompts: Sequence[Ids], tokens: int, temperature: float, seed: int) -> list[str]:
        said = answers(self.loaded, self.store, prompts, tokens=tokens, brief=0, temperature=temperature, seed=seed)
        return [str(self.loaded.tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in said]


@dataclass(frozen=True)
class Remote:
    """A model behind a server; what it said before is in the store."""

    server: Endpoint
    store: Store

    @property
    def name(self) -> str:
        """Its address."""
        return self.server.url

    def say(self, questions: Sequence[str], *, tokens: int, temperature: float, seed: int) -> list[str]:
        """One after the other; one that fails is asked again after a pause. Raises InputError in one line."""
        asked = [
            {
                "server": asdict(self.server),
                "prompt": question,
                "max_tokens": tokens,
                "temperature": temperature,
                "seed": seed + i,
            }
            for i, question in enumerate(questions)
        ]

        def build(i: int) -> Tensors:
            how: dict[str, Any] = {name: asked[i][name] for name in ("max_tokens", "temperature", "seed")}
            reply = self.server.ask(questions[i], **how).strip()
            return {"utf8": torch.tensor(list(reply.encode("utf-8", "replace")), dtype=torch.uint8)}

        found = self.store.entries("replies", asked, build)
        return [bytes(entry["utf8"].tolist()).decode("utf-8") for entry in found]

    def go_on(self, texts: Sequence[str], *, tokens: int, temperature: float, seed: int) -> list[str]:
        """Asked to: a server of this kind only converses."""
        asked = [f"Go on with the last line of this text and write nothing else:\n\n{text}" for text in texts]
        return self.say(asked, tokens=tokens, temperature=temperature, seed=seed)
