"""``efface play``: runs to talk to in the browser. Needs gradio, the extra ``play``.

Nothing leaves the machine: gradio's analytics are off, its fonts are the system's, and a policy in every answer keeps the
browser from asking anybody else.
"""

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI

from efface.errors import InputError
from efface.serve.fragments import CSS, conversation
from efface.serve.stage import Stage, Turn
from efface.serve.voices import Sampling
from efface.shown import complain, say

MOST_ETA, MOST_TEMPERATURE = 20.0, 2.0
LONGEST = 20_000  # characters of a question
AT_ONCE, WAITING = 8, 64  # answers under way, visitors in the queue
PAUSE = 0.1  # seconds between two states of an answer that are sent
HOUR = 3600
POLICY = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
#: turns so far as HTML, the turns, and the field of the question
State = tuple[str, list[Turn], Any]


@dataclass(frozen=True)
class Playground:
    """Stages by name, and the page on which they are asked."""

    stages: Mapping[str, Stage]
    tokens: int

    def page(self) -> Any:
        """The page, as gradio has it; what one visitor said is kept apart from the others'."""
        first = next(iter(self.stages))
        with gr.Blocks(title="efface", analytics_enabled=False, fill_width=True) as page:
            turns = gr.State([], time_to_live=HOUR)
            run = gr.Dropdown(list(self.stages), value=first, label="Run", visible=len(self.stages) > 1)
            shown = gr.HTML(self._shown(first, []))
            question = gr.Textbox(label="Question", max_length=LONGEST, autofocus=True)
            with gr.Row():
                ask, stop, new = gr.Button("Ask", variant="primary"), gr.Button("Stop"), gr.Button("New conversation")
            prompts = gr.Dataset(components=[question], samples=self._prompts(first), label="Prompts of the pack")
            with gr.Row():
                eta = gr.Slider(0, MOST_ETA, 0, step=0.5, label="Also erase at decoding time: eta (0: do not)")
                temperature = gr.Slider(0, MOST_TEMPERATURE, 0, step=0.1, label="Temperature (0: the likeliest token always)")
            settings, out = [run, eta, temperature, turns], [shown, turns, question]
            options = {
                "concurrency_limit": AT_ONCE,
                "concurrency_id": "ask",
                "show_progress": "hidden",
                "api_visibility": "private",
            }
            under_way = [
                question.submit(self.answer, [question, *settings], out, **options),
                ask.click(self.answer, [question, *settings], out, **options),
                prompts.click(self.answer_prompt, [prompts, *settings], out, **options),
            ]
            stop.click(None, cancels=under_way)
            begun = {"cancels": under_way, "api_visibility": "private"}
            new.click(self.begin, [run], [shown, turns, prompts], **begun)
            run.change(self.begin, [run], [shown, turns, prompts], **begun)
        return page.queue(max_size=WAITING)

    def answer(self, question: str, run: str, eta: float, temperature: float, turns: list[Turn]) -> Iterator[State]:
        """What the visitor sees while all answer."""
        asked, sent = question[:LONGEST].strip(), 0.0
        if not asked:
            yield self._shown(run, turns), turns, gr.skip()
            return
        how = Sampling(self.tokens, min(max(temperature, 0.0), MOST_TEMPERATURE), len(turns))
        turn = Turn(asked)
        for turn in self.stages[run].ask(turns, asked, min(max(eta, 0.0), MOST_ETA), how):
            if time.monotonic() - sent > PAUSE:
                sent = time.monotonic()
                yield self._shown(run, [*turns, turn]), [*turns, turn], ""
        yield self._shown(run, [*turns, turn]), [*turns, turn], ""

    def answer_prompt(self, sample: Sequence[str], *settings: Any) -> Iterator[State]:
        """The same for one of the pack's prompts."""
        yield from self.answer(sample[0], *settings)

    def begin(self, run: str) -> tuple[str, list[Turn], Any]:
        """A conversation in which nothing was said yet."""
        return self._shown(run, []), [], gr.Dataset(samples=self._prompts(run))

    def _shown(self, run: str, turns: Sequence[Turn]) -> str:
        return str(conversation(self.stages[run].title, turns))

    def _prompts(self, run: str) -> list[list[str]]:
        return [[prompt] for prompt in self.stages[run].concept.manifest.prompts]


def application(playground: Playground) -> Any:
    """The web application: the page, and nothing besides it."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    options = {"theme": theme, "css": CSS, "footer_links": [], "run_history": False, "ssr_mode": False, "show_error": False}
    mounted = gr.mount_gradio_app(app, playground.page(), path="/", **options)

    async def closed(scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY)]
            await send(message)

        await mounted(scope, receive, with_policy)

    return closed


def serve(playground: Playground, host: str, port: int) -> None:
    """Serve the page until Ctrl-C. Raises InputError for a place that is taken or not this machine's."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.create_server((host, port), family=family)
    except OSError as error:
        why = str(error.strerror or error).partition(" (")[0]  # Python says the place again
        raise InputError(f"play: cannot be at {host}, port {port}: {why}; --port 0: any that is free") from None
    app = application(playground)
    if not host.startswith("127.") and host not in ("localhost", "::1"):
        complain(f"play: whoever reaches {host} can ask; there is no password")
    say(f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}   (Ctrl-C ends)")
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[bound])
