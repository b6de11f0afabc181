"""``make bench``: efface beside a straightforward implementation, in one run on one machine; prints ratios with their spread.

Same model, texts, settings and number of threads. The straightforward one (``straightforward.py``) computes in float32 as
published, efface in its default precision and in float32. Every measurement has a process of its own, and so a peak of memory.
Loading the model and the audit are in no figure. Writes benchmarks/out/bench.json and a plot.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

OUT = Path("benchmarks/out")
MODEL, CONCEPT = "smollm2-135m", "ancient-egypt"
#: about an eighth of the default recipe: forget, retain and fluency texts, and steps
JOB = {"forget": 20, "retain": 60, "fluency": 8, "steps": 9}
VOCABS, LENGTHS, TEXTS = (32_768, 131_072, 262_144), (32, 64, 128), (4, 8, 16)


def child(**task: Any) -> dict[str, Any]:
    """Run one measurement of ``measure.py`` in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="efface-bench-") as empty:
        command = [sys.executable, "-m", "benchmarks.measure", json.dumps(task)]
        done = subprocess.run(command, env={**os.environ, "EFFACE_CACHE": empty}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"bench: {task} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    show = ", ".join(f"{seconds:.1f}" for seconds in result["seconds"])
    print(f"  {task}: {show} s, {result['peak_mib']:.0f} MiB above the weights", file=sys.stderr, flush=True)
    return result


def ratios(slow: dict[str, Any], fast: dict[str, Any]) -> dict[str, float]:
    """How many times the texts per second of ``slow``: mean, and the range over all pairs of rounds."""
    pairs = [
        (a / slow["texts"]) / (b / fast["texts"]) for a in slow["seconds"] for b in fast["seconds"]
    ]  # seconds a text, slow over fast
    return {"mean": statistics.mean(pairs), "low": min(pairs), "high": max(pairs)}


def main() -> None:
    """Measure, print, write."""
    from efface.embedded import fetch

    quick = "--quick" in sys.argv
    model = {"model": str(fetch(MODEL)), "concept": CONCEPT}
    if "--growth" in sys.argv:
        write_growth(model)
        return
    job = {"forget": 4, "retain": 8, "fluency": 2, "steps": 1} if quick else JOB
    rounds = 1 if quick else 3
    measured: dict[str, dict[str, dict[str, Any]]] = {}
    for part in ("targets", "fluency", "training_step", "whole_job"):
        slow_job = {**job, "fluency": min(2, job["fluency"])} if part == "fluency" else job
        fast_job = {**job, "fluency": 64} if part == "fluency" and not quick else job
        once = 1 if part == "whole_job" else rounds
        measured[part] = {
            "straightforward": child(who="straightforward", part=part, dtype="float32", rounds=min(once, 2), **model, **slow_job),
            "efface": child(who="efface", part=part, dtype="auto", rounds=once, **model, **fast_job),
            "efface float32": child(who="efface", part=part, dtype="float32", rounds=once, **model, **fast_job),
        }
    for dtype, name in (("auto", "efface"), ("float32", "efface float32")):
        limit = child(who="efface", part="limit", dtype=dtype, rounds=rounds, **model, **job)
        measured.setdefault("limit", {})[name] = limit
    table = {
        part: {name: ratios(of["straightforward"], of[name]) for name in ("efface", "efface float32")}
        for part, of in measured.items()
        if part != "limit"
    }
    table["second_run"] = {
        name: ratios(
            measured["whole_job"]["straightforward"],
            {**measured["whole_job"][name], "seconds": measured["whole_job"][name]["again"]},
        )
        for name in ("efface", "efface float32")
    }
    memory = {
        name: measured["whole_job"][name]["peak_mib"] / measured["whole_job"]["straightforward"]["peak_mib"]
        for name in ("efface", "efface float32")
    }
    of_limit = {
        name: statistics.mean(measured["training_step"][name]["tflops"]) / statistics.mean(measured["limit"][name]["tflops"])
        for name in ("efface", "efface float32")
    }
    result = {"ratios": {**table, "memory": memory, "of_limit": of_limit}, "measured": measured, "threads": os.cpu_count()}
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "bench.json").write_text(json.dumps(result, indent=2) + "\n")
    print(report(result), flush=True)
    if not quick:
        write_growth(model)


def write_growth(model: dict[str, str]) -> None:
    """Measure how a step grows, beside what bench.json holds; with ``--growth`` nothing else is measured."""
    file = OUT / "bench.json"
    OUT.mkdir(parents=True, exist_ok=True)
    growth = grow(model)
    before = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**before, "growth": growth}, indent=2) + "\n")
    plot(growth)


def grow(model: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Seconds and memory of a training step as texts, length and vocabulary grow (a small random model for the last)."""
    ways: dict[str, list[dict[str, Any]]] = {}
    for way, values in (("texts", TEXTS), ("length", LENGTHS), ("vocabulary", VOCABS)):
        for value in values:
            row: dict[str, Any] = {way: value}
            for who, dtype in (("straightforward", "float32"), ("efface", "auto")):
                task = {"forget": 4, "retain": 8, "fluency": 2, "steps": 1, **model, way: value}
                if way == "texts":
                    task |= {"forget": value, "retain": 2 * value, "fluency": value}
                row[who] = child(who=who, part="training_step", dtype=dtype, rounds=2, **task)
            ways.setdefault(way, []).append(row)
    return ways


def report(result: dict[str, Any]) -> str:
    """Markdown table of the ratios."""
    lines = ["| how many times as fast as the straightforward one | efface | efface in float32 |", "|---|---|---|"]
    for part, of in result["ratios"].items():
        cells = []
        for name in ("efface", "efface float32"):
            value = of[name]
            shown = f"{value['mean']:.1f} ({value['low']:.1f}–{value['high']:.1f})" if isinstance(value, dict) else f"{value:.2f}"
            cells.append(shown)
        label = {
            "memory": "peak memory above the weights, times the straightforward one's",
            "of_limit": "FLOP/s, share of a bare forward and backward pass",
        }.get(part, part.replace("_", " "))
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    slow = result["measured"]["whole_job"]["straightforward"]["seconds"][0]
    fast = result["measured"]["whole_job"]["efface"]
    lines.append(f"\nThe whole job: {slow:.0f} s against {fast['seconds'][0]:.0f} s; a second run {fast['again'][0]:.0f} s.")
    return "\n".join(lines)


def plot(growth: dict[str, list[dict[str, Any]]]) -> None:
    """Seconds and memory of a step over texts, length and vocabulary, both implementations."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(growth), figsize=(9, 5), layout="constrained")
    for column, (way, rows) in enumerate(growth.items()):
        for who, colour in (("straightforward", "#b0413e"), ("efface", "#2a6f97")):
            x = [row[way] for row in rows]
            axes[0][column].plot(x, [min(row[who]["seconds"]) for row in rows], "o-", color=colour, label=who)
            axes[1][column].plot(x, [row[who]["peak_mib"] for row in rows], "o-", color=colour, label=who)
        axes[1][column].set_xlabel(f"{way} of a step" if way == "texts" else way)
        for of in axes[:, column]:
            of.set_ylim(bottom=0)
    axes[0][0].set_ylabel("seconds a step")
    axes[1][0].set_ylabel("MiB above the weights")
    axes[0][0].legend()
    figure.savefig(OUT / "growth.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
