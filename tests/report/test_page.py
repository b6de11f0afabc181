"""The page as people see it: charts, and headless Chromium."""

from pathlib import Path
from typing import Any

import pytest

from efface.auditing.figures import FIGURES
from efface.auditing.forms import FORMS, SPOKEN
from efface.auditing.scores import Answer, Audit, Difference, Layer, Measured, Said, Score
from efface.auditing.statistics import average, proportion
from efface.report.charts import depth, forms, goals, losses, lost, plane
from efface.report.judged import fluency, specificity
from efface.report.page import write_comparison, write_report
from efface.report.table import Spread, neighbours
from efface.report.terminal import print_audit

EVIL = "<script>document.title = 'broken'</script><img src=x onerror=\"document.title='broken'\"> $x^2$"

SPREAD = Spread(0.7, 0.6, 0.75)


def measured(right: int, evil: str) -> Measured:
    choice = proportion([True] * right + [False] * (20 - right), 0.25)
    scores = {f"choice/{kind}/acc_norm": choice for kind in ("forget", "neighbour", "general")}
    scores |= {f"form/{form}/{kind}/acc_norm": choice for kind in ("forget", "general") for form in ("few_shot", "chat_begun")}
    scores |= {
        "neighbour/Ancient Rome/acc": choice,
        f"neighbour/{EVIL}/acc": choice,
        "answers/forget/perplexity": average([4.0, 5.0]),
    }
    layer = {"probe": choice, "null": choice, "lens": average([0.3, 0.4], 0.25), "norm": average([3.0, 5.0])}
    answers = [
        Answer(prompt=EVIL, text=evil, pieces=((evil[:7], 0.0), (evil[7:], 0.9))),
        *(Answer(prompt=f"Who built {i}?", text=f"Nobody knows {i}.") for i in range(11)),
    ]
    said = [Said(prompt=EVIL, text=evil, right=True, concept_words=9.0, repeated=0.1)]
    return Measured(scores=scores, answers=answers, said=said, depth=[Layer(layer=i, **layer) for i in range(4)])


@pytest.fixture(scope="module")
def audit() -> Audit:
    return Audit(concept="c", title=f"Egypt {EVIL}", split="test", base=measured(15, "fine, all of it"), erased=measured(6, EVIL))


def test_charts_are_svg_without_scripts_and_the_same_every_time(audit: Audit) -> None:
    log = [{"step": 1.0, "loss": 2.0, "erase": 1.0}, {"step": 2.0, "loss": 1.0, "erase": 0.5}]
    drawn = [
        goals(audit),
        lost(audit),
        depth(audit),
        forms(audit),
        losses(log),
        plane({"a": (SPREAD, SPREAD, SPREAD), "<b>": (SPREAD, SPREAD, None)}),
    ]
    for chart in drawn:
        assert chart is not None
        assert chart.startswith("<svg role=")
        assert "<script" not in chart
        assert "<b>" not in chart
    assert goals(audit) == drawn[0]
    empty = Measured(scores={}, answers=[])
    nothing = Audit(concept="c", split="test", base=empty, erased=empty)
    assert [chart(nothing) for chart in (goals, lost, depth, forms)] == [None, None, None, None]
    assert losses([]) is None


def test_a_page_of_an_audit_alone(audit: Audit, tmp_path: Path) -> None:
    write_report(tmp_path, audit)
    page = (tmp_path / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert len(page.encode()) < 5e6
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert "<script>" not in write_comparison({EVIL: dict.fromkeys(("gone", "kept", "fluency"), SPREAD)}, {EVIL: 1}, [EVIL])


def test_the_page_in_a_browser(browser: Any, audit: Audit, tmp_path: Path) -> None:
    write_report(tmp_path, audit)
    page, errors, asked = browser.new_page(viewport={"width": 390, "height": 800}), [], []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "report.html").as_uri())
    assert "of the way from the base to chance is gone" in page.inner_text("#verdict")
    assert page.title().startswith("Egypt <script>")  # text, not code
    assert "onerror" in page.inner_text("#answers")
    assert page.locator("#answers p span").count() >= 2
    assert page.locator("#answers .answers").is_visible()
    page.click("#answers summary")
    assert not page.locator("#answers .answers").is_visible()
    page.click("#depth summary")
    assert page.locator("#depth svg").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # nothing sticks out on a phone
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    assert errors == []
    assert [url for url in asked if not url.startswith("file:")] == []


def test_the_table_fits_a_terminal_of_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    share, mean = Score(value=0.455, n=136, low=0.38, high=0.54, chance=0.25), Score(value=34.192, n=136, low=27.93, high=41.92)
    scores = {of.key: share if of.percent else mean for of in FIGURES if not of.key.startswith("worst/")}
    scores |= {
        f"form/{form}/{kind}/acc_norm": share for form in FORMS if form != "bare" for kind in ("forget", "neighbour", "general")
    }
    scores["perplexity/forget/held_out"] = Score(value=28761, n=23, low=18331, high=45121)
    scores |= dict.fromkeys([f"said/{form}/forget/right" for form in SPOKEN] + [f"open/forget/leak@{n}" for n in (1, 2)], share)
    gap = Difference(value=-0.3, n=136, low=-0.4, high=-0.2, p=1e-9, test="McNemar")
    scores["drift/retain/kl"] = Score(value=0.1327, n=50, low=0.0855, high=0.182)
    known = {key: score for key, score in scores.items() if not key.startswith("drift")} | {"perplexity/forget/held_out": mean}
    base = Measured(scores=known, answers=[])
    for kind, value in (("forget", 0.5), ("neighbour", 0.4), ("general", 0.4)):
        scores[f"form/few_shot/{kind}/acc_norm"] = share.model_copy(update={"value": value})
    scores["said/system/forget/right"] = share.model_copy(update={"value": 0.5})
    found = Audit(
        concept="c", split="test", base=base, erased=Measured(scores=scores, answers=[]), differences=dict.fromkeys(scores, gap)
    )
    print_audit(found, "title")
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert [shown.count(label) for label in ("concept, worst", "neighbours, worst", "general, worst", "questions, worst")] == [
        1
    ] * 4
    assert all(how in shown for how in (*FORMS.values(), *SPOKEN.values()))
    assert "Leak in 1, 2 samples: 46, 46 % (base), 46, 46 % (erased)." in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 80
    assert "<.001" in shown


def test_neighbours_whose_names_hold_a_slash() -> None:
    scores = {f"neighbour/{name}/acc": Score(value=0.5, n=2) for name in ("a/b", "a/c")}
    found = Measured(scores=scores, answers=[])
    assert set(neighbours(Audit(concept="c", split="test", base=found, erased=found))) == {"a/b", "a/c"}


def test_answers_that_only_one_of_them_gave(audit: Audit, tmp_path: Path) -> None:
    fewer = audit.base.model_copy(update={"answers": audit.base.answers[:2]})
    write_report(tmp_path, audit.model_copy(update={"base": fewer}))
    page = (tmp_path / "report.html").read_text()
    assert "Nobody knows 0." in page
    assert "Nobody knows 1." not in page


def test_a_score_without_interval_is_drawn(audit: Audit) -> None:
    bare = {"neighbour/Rome/acc": Score(value=0.5, n=1)}
    chart = lost(audit.model_copy(update={who: Measured(scores=bare, answers=[]) for who in ("base", "erased")}))
    assert chart is not None
    assert "Rome (n = 1)" in chart


@pytest.mark.parametrize(
    ("perplexity", "repeated", "expected"), [(2.0, 0.05, 1.0), (4.0, 0.05, 0.5), (1.0, 0.95, 0.1), (4.0, 0.55, 0.25)]
)
def test_loops_are_not_fluent(perplexity: float, repeated: float, expected: float) -> None:
    def model(perplexity: float, repeated: float, other: float) -> Measured:
        scores = {"answers/forget/perplexity": perplexity, "answers/forget/repeated_4grams": repeated}
        scores |= {"perplexity/retain/held_out": other, "choice/neighbour/acc": 0.5, "choice/general/acc": 0.8}
        return Measured(scores={key: Score(value=value, n=9) for key, value in scores.items()}, answers=[])

    audit = Audit(concept="c", split="test", base=model(2.0, 0.05, 20.0), erased=model(perplexity, repeated, 25.0))
    assert fluency(audit) == pytest.approx(expected)
    assert specificity(audit) == pytest.approx(0.8)
    nothing = Measured(scores={}, answers=[])
    assert fluency(audit.model_copy(update={"base": nothing})) is None
    assert specificity(audit.model_copy(update={"base": nothing})) is None
