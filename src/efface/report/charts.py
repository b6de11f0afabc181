"""The page's pictures: matplotlib, drawn once as SVG without scripts, so they print, scale and follow light and dark."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from markupsafe import Markup

from efface.auditing.forms import FORMS
from efface.auditing.scores import Audit, Score
from efface.auditing.statistics import LEAST
from efface.concept.pack import Kind
from efface.report.forms import forms as in_forms
from efface.report.judged import summary
from efface.report.recovery import curves, never_known
from efface.report.table import Spread, neighbours

BASE, ERASED, GREY = "#a9b4c0", "#c8553d", "#777777"
TERMS = {"loss": "#555555", "erase": "#c8553d", "retain": "#2a6f97", "fluency": "#6a994e"}
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "efface",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "figure.constrained_layout.use": True,
}


def goals(audit: Audit) -> Markup | None:
    """The three goals as shares: how much is gone, how much is kept, how fluent the answers are beside the base's."""
    found = summary(audit)
    fluent = found["answers ppl"]
    shares = {
        "innocence: distance to chance gone": found["gone"],
        "specificity: neighbours kept": found["neighbours"],
        "specificity: general kept": found["general"],
        "seamlessness: base's perplexity over erased": 1 / fluent if fluent else None,
    }
    measured = {name: max(0.0, share) for name, share in shares.items() if share is not None}
    if not measured:
        return None

    def draw(axes: Any) -> None:
        names = list(reversed(measured))
        axes.barh(names, [100 * measured[name] for name in names], color=ERASED, height=0.6)
        axes.axvline(100, color=GREY, linestyle="--")
        axes.set_xlabel("per cent; dashed: a perfect erasure")
        for inside in (True, False):  # a label behind a long bar would stand on the dashed line
            labels = [f"{100 * measured[name]:.0f}" if (measured[name] > 0.2) == inside else "" for name in names]
            axes.bar_label(axes.containers[0], labels, padding=-24 if inside else 3)

    return picture([draw], (7.5, 0.5 + 0.45 * len(measured)), "the three goals")


def lost(audit: Audit) -> Markup | None:
    """Accuracy on every neighbour, base beside erased, the one that lost most on top."""
    found = neighbours(audit)

    def draw(axes: Any) -> None:
        names = list(reversed(found))
        for shift, (who, colour) in enumerate((("erased", ERASED), ("base", BASE))):
            scores = [found[name][1 - shift] for name in names]
            at = [i + 0.36 * shift - 0.18 for i in range(len(names))]
            axes.barh(
                at, [100 * s.value for s in scores], 0.34, xerr=_whiskers(scores, 100), ecolor=GREY, color=colour, label=who
            )
        axes.set_yticks(range(len(names)), [f"{name} (n = {found[name][1].n})" for name in names])
        axes.set_xlim(0, 100)
        axes.set_xlabel("per cent right; 95 % intervals from five groups of questions on")
        axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))

    return picture([draw], (7.5, 0.9 + 0.42 * len(found)), "what else was lost") if found else None


def forms(audit: Audit) -> Markup | None:
    """Accuracy in every form with its interval, a panel a kind: grey for the base, red for the erased model."""
    found = {kind: of for kind in get_args(Kind) if len(of := in_forms(audit, kind)) > 1}
    names = [form for form in reversed(FORMS) if any(form in of for of in found.values())]

    def panel(kind: str, of: Mapping[str, tuple[Score, Score]]) -> Any:
        def draw(axes: Any) -> None:
            for shift, (who, colour) in enumerate((("base", BASE), ("erased", ERASED))):
                scores = [of[form][shift] for form in names if form in of]
                at = [place + 0.12 - 0.24 * shift for place, form in enumerate(names) if form in of]
                means = [100 * score.value for score in scores]
                axes.errorbar(
                    means, at, xerr=_whiskers(scores, 100), fmt="o", markersize=4, color=colour, ecolor=colour, label=who
                )
            if (guessing := next(iter(of.values()))[0].chance) is not None:
                axes.axvline(100 * guessing, color=GREY, linestyle="--", linewidth=0.8)
            axes.set_yticks(
                range(len(names)), [name.replace("_", " ") for name in names] if kind == next(iter(found)) else [""] * len(names)
            )
            axes.set_xlim(0, 100)
            axes.set_title({"forget": "the concept", "neighbour": "neighbours"}.get(kind, kind), color=GREY)
            axes.set_ylim(-0.6, len(names) - 0.4)
            if kind == list(found)[-1]:
                axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))

        return draw

    panels = [panel(kind, of) for kind, of in found.items()]
    return picture(panels, (10, 1.9 + 0.28 * len(names)), "per cent right in every form") if panels else None


def depth(audit: Audit) -> Markup | None:
    """Probe, logit lens and norm by layer."""
    layers = {"base": audit.base.depth, "erased": audit.erased.depth}
    if not layers["erased"]:
        return None

    def panel(what: str, label: str) -> Any:
        def draw(axes: Any) -> None:
            for who, colour in (("base", BASE), ("erased", ERASED)):
                found = [(of.layer, getattr(of, what)) for of in layers[who] if getattr(of, what) is not None]
                if found:
                    x, scores = [layer for layer, _ in found], [score for _, score in found]
                    axes.plot(x, [score.value for score in scores], color=colour, label=who)
                    if all(score.low is not None for score in scores):
                        axes.fill_between(
                            x, [s.low for s in scores], [s.high for s in scores], color=colour, alpha=0.2, linewidth=0
                        )
                if what == "probe":
                    axes.plot(
                        [of.layer for of in layers[who]], [of.null.value for of in layers[who]], color=colour, linestyle=":"
                    )
            chance = getattr(layers["erased"][0], what)
            if chance is not None and chance.chance is not None:
                axes.axhline(chance.chance, color=GREY, linestyle="--", linewidth=0.8)
            axes.set_xlabel("layer")
            axes.set_title(label, color=GREY)
            axes.legend(frameon=False)

        return draw

    panels = [panel("probe", "linear probe (dotted: shuffled)"), panel("lens", "logit lens"), panel("norm", "norm of the states")]
    return picture(panels, (10, 3), "what the layers hold")


def recovery(audit: Audit) -> Markup | None:
    """Accuracy on what was not taught against texts times steps, a line a training: grey the base, dashed the erased model.

    Dotted, with its band: made-up facts that the base was told, where that was measured.
    """
    found = {of: points for of, points in curves(audit).items() if f"{points[0].key}/forget/acc_norm" in audit.erased.scores}
    if not found:
        return None

    def draw(axes: Any) -> None:
        scores, base = audit.erased.scores, audit.base.scores
        for (name, variant, texts), line in found.items():
            axes.plot(
                [point.cost for point in line],
                [100 * scores[f"{point.key}/forget/acc_norm"].value for point in line],
                marker="o",
                markersize=4,
                label=f"{name}, {variant}, {texts} texts",
            )
        told = [(p.cost, of) for p in never_known(audit) if p.steps and (of := base.get(f"{p.key}/taught/acc_norm")) is not None]
        if told:
            x, made_up = [at for at, _ in told], [score for _, score in told]
            axes.plot(
                x, [100 * score.value for score in made_up], color=GREY, linestyle=":", label="never known: made-up facts, told"
            )
            if all(score.low is not None for score in made_up):
                low, high = ([100 * getattr(score, end) for score in made_up] for end in ("low", "high"))
                axes.fill_between(x, low, high, color=GREY, alpha=0.15, linewidth=0)
        first = next(iter(found.values()))[0].before.key
        for side, colour, style, who in ((base, BASE, "-", "base"), (scores, ERASED, "--", "erased")):
            if (score := side.get(f"{first}/forget/acc_norm")) is not None:
                axes.axhline(100 * score.value, color=colour, linestyle=style, linewidth=1, label=who)
                if score.low is not None and score.high is not None:
                    axes.axhspan(100 * score.low, 100 * score.high, color=colour, alpha=0.12, linewidth=0)
        axes.set_xscale("log")
        marks = sorted({point.cost for line in found.values() for point in line})
        axes.set_xticks(marks, [str(mark) for mark in marks])
        axes.minorticks_off()
        axes.set_xlabel("texts × steps of training")
        axes.set_ylabel("per cent right, not taught")
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))

    return picture([draw], (9, 3.4), "what it takes to get it back")


def losses(log: Sequence[Mapping[str, float]]) -> Markup | None:
    """Every term over the steps."""

    def draw(axes: Any) -> None:
        for term, colour in TERMS.items():
            found = [(entry["step"], entry[term]) for entry in log if term in entry and "step" in entry]
            if found:
                axes.plot(*zip(*found, strict=True), color=colour, label=term)
        axes.set_xlabel("step")
        axes.set_ylabel("weighted loss, nats")
        axes.legend(frameon=False)

    return picture([draw], (7.5, 3), "losses") if any("step" in entry for entry in log) else None


def plane(points: Mapping[str, tuple[Spread, Spread, Spread | None]]) -> Markup:
    """Erased (share of the distance to chance gone) against kept, a point a run or method.

    points: name -> (erased, kept, fluency, which is the colour); whiskers: lowest to highest.
    """

    def draw(axes: Any) -> None:
        erased, kept = [point[0] for point in points.values()], [point[1] for point in points.values()]
        x, y = [100 * of.mean for of in erased], [100 * of.mean for of in kept]
        sides = [[[100 * (of.mean - of.low) for of in way], [100 * (of.high - of.mean) for of in way]] for way in (erased, kept)]
        axes.errorbar(x, y, xerr=sides[0], yerr=sides[1], fmt="none", ecolor=GREY, elinewidth=0.8, alpha=0.6)
        colours = [100 * point[2].mean if point[2] is not None else float("nan") for point in points.values()]
        seen = axes.scatter(
            x, y, c=colours, cmap="viridis", vmin=0, vmax=100, s=60, edgecolors=GREY, plotnonfinite=True, zorder=3
        )
        axes.figure.colorbar(seen, ax=axes, label="fluency of answers about the concept, per cent of the base's")
        axes.set_xlabel("erased: distance to chance gone, per cent")
        axes.set_ylabel("kept, per cent of the base")
        axes.figure.draw_without_rendering()  # so that the points are where they will be
        spots = [axes.transData.transform(at) * 72 / axes.figure.dpi for at in zip(x, y, strict=True)]
        placed: list[tuple[float, float, float]] = []  # of every name: left, bottom, width in points
        for name, at, (left, bottom) in sorted(
            zip(points, zip(x, y, strict=True), spots, strict=True), key=lambda item: -item[1][1]
        ):
            width, drop = 5.6 * len(name) + 4, 0  # a name that would stand on another, or on a point, goes further down
            while any(
                abs(bottom - 9 * drop - low) < 9 and left < start + wide and start < left + width for start, low, wide in placed
            ) or any(left + 1 < right < left + width and -1 < high - bottom + 9 * drop < 16 for right, high in spots):
                drop += 1
            placed.append((left, bottom - 9 * drop, width))
            line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.4} if drop > 1 else None
            axes.annotate(name, at, textcoords="offset points", xytext=(6, 4 - 9 * drop), fontsize=8, arrowprops=line)

    return picture([draw], (7.5, 5), "erased against kept")


def picture(panels: Sequence[Any], size: tuple[float, float], label: str) -> Markup:
    """Draw panels side by side; returns an SVG element for the page."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    with mpl.rc_context(STYLE):
        figure, axes = pyplot.subplots(1, len(panels), figsize=size, squeeze=False)
        for draw, of in zip(panels, axes[0], strict=True):
            draw(of)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    svg = out.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    prefix = re.sub(r"\W", "", label)  # ids are unique on the page
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1))  # noqa: S704  (text in it was escaped by matplotlib)


def _whiskers(scores: Sequence[Score], scale: float) -> list[list[float]]:
    """How far the intervals reach below and above, as matplotlib wants it; nothing where there is none."""
    low = [0.0 if s.low is None or s.n < LEAST else scale * max(0.0, s.value - s.low) for s in scores]
    high = [0.0 if s.high is None or s.n < LEAST else scale * max(0.0, s.high - s.value) for s in scores]
    return [low, high]
