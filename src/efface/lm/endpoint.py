"""A model behind an OpenAI-compatible server. Asked only where the user names its address."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from efface.errors import InputError, first_line

#: seconds before it is asked again, and again
PAUSES = (1.0, 4.0, 16.0)
SECONDS = 60


@dataclass(frozen=True)
class Endpoint:
    """A server's address and its model's name; the server's key is in $EFFACE_JUDGE_KEY. who: as a message calls it."""

    url: str
    model: str
    who: str

    def ask(self, prompt: str, *, patient: bool = True, **how: Any) -> str:
        """The model's reply. patient: ask again after a pause where it fails; how: temperature, max_tokens, seed.

        Raises InputError in one line.
        """
        for pause in PAUSES if patient else ():
            with suppress(InputError):
                return self._reply(prompt, how)
            time.sleep(pause)
        return self._reply(prompt, how)

    def _reply(self, prompt: str, how: dict[str, Any]) -> str:
        import httpx2

        key = os.environ.get("EFFACE_JUDGE_KEY")
        try:
            response = httpx2.post(
                f"{self.url.rstrip('/')}/chat/completions",
                json={"model": self.model, "messages": [{"role": "user", "content": prompt}], **how},
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=SECONDS,
            )
            response.raise_for_status()
            return str(response.json()["choices"][0]["message"]["content"])
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, IndexError, TypeError) as error:
            raise InputError(f"{self.who} at {self.url} cannot be reached or gave no answer: {first_line(error)}") from None
