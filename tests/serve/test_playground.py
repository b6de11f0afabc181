"""The playground in headless Chromium."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from efface.errors import InputError
from efface.runs.run import Run
from efface.serve.stage import Stage
from efface.serve.voices import Sampling, Voice
from tests.runs.conftest import run as run

pytest.importorskip("gradio")
uvicorn = pytest.importorskip("uvicorn")

from efface.serve.playground import AT_ONCE, Playground, application, serve  # noqa: E402

pytestmark = pytest.mark.slow
EVIL = "<img src=x onerror=\"document.title='broken'\"> ${document.title='broken'} {{value}} <b>bold</b>"


@pytest.fixture(scope="module")
def stages(run: Run) -> dict[str, Stage]:
    evil = Stage(run)
    manifest = evil.concept.manifest.model_copy(update={"prompts": (EVIL,), "title": EVIL})
    evil.concept = evil.concept.model_copy(update={"manifest": manifest})
    return {"good": Stage(run), EVIL: evil}


@pytest.fixture(scope="module")
def address(stages: dict[str, Stage]) -> Iterator[str]:
    bound = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application(Playground(stages, 24)), log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    bound.close()


def enter(page: Any, address: str) -> None:
    page.goto(address)
    page.get_by_label("Question").wait_for()
    page.wait_for_function("['INPUT', 'TEXTAREA'].includes(document.activeElement.tagName)")  # so it listens already


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """An opened page that asked nobody but the playground, and complained of nothing."""
    opened, errors, asked = browser.new_page(viewport={"width": 390, "height": 900}), [], []
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    enter(opened, address)
    yield opened
    opened.close()
    assert errors == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def test_a_question_is_answered_by_both(page: Any, stages: dict[str, Stage]) -> None:
    wanted = list(stages["good"].ask([], "Who was Orlo?", 0, Sampling(24)))[-1]
    page.get_by_label("Question").fill("Who was Orlo?")
    page.get_by_role("button", name="Ask").click()
    page.locator(".talk .erased p span").first.wait_for()
    assert page.locator(".talk .asked").inner_text() == "Who was Orlo?"
    for name in ("base", "erased"):
        assert page.locator(f".talk .{name} p").text_content().strip() == wanted.said[name].strip()
    assert page.locator(".talk .guided").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # nothing sticks out on a phone
    page.get_by_label("Question").fill("And now?")
    page.get_by_label("Question").press("Enter")
    page.locator(".talk .asked", has_text="And now?").wait_for()
    assert page.locator(".talk .asked").count() == 2
    page.get_by_role("button", name="New conversation").click()
    page.locator(".talk .asked").first.wait_for(state="detached")


def test_a_prompt_of_the_pack_is_a_click_away_and_the_slider_adds_a_third(page: Any) -> None:
    page.get_by_label("eta").first.fill("3")
    page.get_by_label("eta").first.press("Tab")
    page.get_by_text("What is bread?").click()
    page.locator(".talk .guided p").wait_for()
    assert page.locator(".talk .asked").inner_text() == "What is bread?"


def test_what_a_model_says_is_never_markup(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stream(voice: Voice, ids: list[int], how: Sampling) -> Iterator[str]:
        yield EVIL[:20]
        yield EVIL

    monkeypatch.setattr("efface.serve.stage.stream", stream)
    page.get_by_label("Run").click()
    page.get_by_role("option").last.click()
    page.locator(".talk", has_text="onerror").wait_for()
    page.locator(".gallery-item", has_text="onerror").click()  # the one prompt of that pack
    page.locator(".talk .erased p span").first.wait_for()
    for name in (".asked", ".base p", ".erased p"):
        assert page.locator(f".talk {name}").text_content() == EVIL
    assert page.locator("img[src=x]").count() == page.locator(".talk b").count() == 0
    assert page.title() == "efface"


def test_two_visitors_do_not_see_each_other(browser: Any, address: str) -> None:
    pages = [browser.new_page() for _ in range(2)]
    for i, page in enumerate(pages):
        enter(page, address)
        page.get_by_label("Question").fill(f"Question {i}?")
        page.get_by_role("button", name="Ask").click()
    for i, page in enumerate(pages):
        page.locator(".talk .erased p span").first.wait_for()
        assert page.locator(".talk .asked").all_inner_texts() == [f"Question {i}?"]
        page.close()


def test_a_place_that_is_taken_is_told(stages: dict[str, Stage], address: str) -> None:
    with pytest.raises(InputError, match="play: cannot be at 127.0.0.1, port .*: Address already in use; --port 0: any"):
        serve(Playground(stages, 24), "127.0.0.1", int(address.rsplit(":", 1)[1]))


def test_nothing_is_told_to_anybody(stages: dict[str, Stage]) -> None:
    page = Playground(stages, 24).page()
    assert not page.analytics_enabled
    asks = [of for of in page.fns.values() if of.concurrency_id == "ask"]
    assert len(asks) == 3
    assert {of.concurrency_limit for of in asks} == {AT_ONCE}
