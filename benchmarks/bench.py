"""``make bench``: efface beside a straightforward implementation, in one run on one machine; prints ratios with their spread.

Same model, settings and number of threads; the same texts, or the first quarter of them. The straightforward one
(``straightforward.py``) computes in float32 as published, efface in its default precision and in float32. Every measurement has a
process of its own, and so a peak of memory; for the straightforward one torch's own settings decide what stays in memory. Loading
the model and the audit are in no figure. Writes benchmarks/out/bench.json after every part, and a plot. ``--help`` says what can
be left out; what bench.json says of other parts stays.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from efface.lm.bundled import fetch

OUT = Path("benchmarks/out")
MODEL, CONCEPT = "smollm2-135m", "ancient-egypt"
#: preset paper; for each forget text a retain text and a sampled text of 200 tokens (published: 100 to 300), and each is trained
#: 1.25 times (published: 6,000 of 5,000 texts)
JOB: dict[str, Any] = {"preset": "paper", "forget": 64, "retain": 64, "fluency": 64, "steps": 20, "fluency.tokens": 200}
#: the straightforward one does a quarter of it: its time is proportional to the texts
QUARTER: dict[str, Any] = {**JOB, "forget": 16, "retain": 16, "fluency": 16, "steps": 5}
#: an eighth of the default recipe's job with the published target: fewer and shorter sampled texts, more retain texts, more steps
DEFAULT: dict[str, Any] = {"preset": "default", "forget": 20, "retain": 60, "fluency": 24, "steps": 8, "fluency.tokens": 48}
#: what --quick does in their place
FEW: dict[str, Any] = {"forget": 4, "retain": 8, "fluency": 2, "steps": 1, "fluency.tokens": 8}
#: the columns of the table, and their precision
EFFACE = {"efface": "auto", "efface float32": "float32"}
#: what a part's work is counted in
UNITS = {"targets": "tokens", "fluency": "tokens", "training_step": "texts", "whole_job": "texts"}
PARTS = (*UNITS, "default_job", "limit", "growth")
#: efface keeps fewer kernels (efface.cpu.memory)
AS_TORCH_HAS_IT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024", "LRU_CACHE_CAPACITY": "1024"}
#: how a step grows
WAYS = {"texts": (4, 8, 16), "length": (32, 64, 128), "vocabulary": (32_768, 131_072, 262_144)}


def child(**task: Any) -> dict[str, Any]:
    """Run one measurement of ``measure.py`` in a process of its own."""
    settings = AS_TORCH_HAS_IT if task["who"] == "straightforward" else {}
    with tempfile.TemporaryDirectory(prefix="efface-bench-") as empty:
        command = [sys.executable, "-m", "benchmarks.measure", json.dumps(task)]
        env = {**os.environ, **settings, "EFFACE_CACHE": empty}
        done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"bench: {task} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    show = ", ".join(f"{seconds:.1f}" for seconds in result["seconds"])
    print(f"  {task}: {show} s, {result['peak_mib']:.0f} MiB above the weights", file=sys.stderr, flush=True)
    return result


def ratios(slow: dict[str, Any], fast: dict[str, Any], seconds: str = "seconds") -> dict[str, float]:
    """How many times as much a second as ``slow``: mean, and the range over all pairs of rounds."""
    pairs = [(a / slow["amount"]) / (b / fast["amount"]) for a in slow["seconds"] for b in fast[seconds]]
    return {"mean": statistics.mean(pairs), "low": min(pairs), "high": max(pairs)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", allow_abbrev=False)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="the parts to measure, instead of all")
    parser.add_argument("--no-float32", action="store_true", help="efface in its default precision only")
    parser.add_argument("--quick", action="store_true", help="hardly any texts, one round: to see whether it runs; kept apart")
    asked = parser.parse_args(arguments)
    model, to = {"model": str(fetch(MODEL)), "concept": CONCEPT}, OUT / "quick" if asked.quick else OUT
    columns = {name: dtype for name, dtype in EFFACE.items() if dtype != "float32" or not asked.no_float32}
    result = before(to)
    measured = result.setdefault("measured", {})
    for part in (part for part in PARTS if part in asked.only and part != "growth"):
        measured[part] = measure(part, model, columns, quick=asked.quick)
        result |= {"ratios": all_ratios(measured), "threads": torch.get_num_threads()}
        write(result, to)
    if measured:
        print(report(result), flush=True)
    if "growth" in asked.only:
        result["growth"] = grow(model, {way: values[:1] for way, values in WAYS.items()} if asked.quick else WAYS)
        write(result, to)
        plot(result["growth"], to)


def measure(part: str, model: dict[str, str], columns: dict[str, str], *, quick: bool) -> dict[str, dict[str, Any]]:
    """One part: the straightforward implementation and each of efface's columns."""
    job, quarter, default = (of | FEW if quick else of for of in (JOB, QUARTER, DEFAULT))
    rounds = 1 if quick else {"whole_job": 1, "fluency": 2}.get(part, 3)
    if part == "default_job":
        sides = (("straightforward", "float32"), ("efface", "auto"))
        return {name: child(who=name, part="whole_job", rounds=1, dtype=dtype, **model, **default) for name, dtype in sides}
    found: dict[str, dict[str, Any]] = {}
    if part != "limit":
        less: dict[str, Any] = {"targets": quarter, "fluency": {"fluency": 2}, "whole_job": quarter}.get(part, {})
        slow = child(who="straightforward", part=part, dtype="float32", rounds=min(rounds, 2), **model, **{**job, **less})
        found["straightforward"] = slow
    for name, dtype in columns.items():
        found[name] = child(who="efface", part=part, dtype=dtype, rounds=rounds, **model, **job)
    return found


def all_ratios(measured: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Every row of the table whose parts are measured, by name: a value for each of efface's columns."""

    def beside(part: str, seconds: str = "seconds") -> dict[str, Any]:
        slow, fast = measured[part]["straightforward"], {n: m for n, m in measured[part].items() if n != "straightforward"}
        return {name: ratios(slow, of, seconds) for name, of in fast.items()}

    rows: dict[str, dict[str, Any]] = {part: beside(part) for part in UNITS if part in measured}
    if "whole_job" in measured:
        jobs = measured["whole_job"]
        rows["second_run"] = beside("whole_job", "again")
        rows["memory"] = {
            name: of["peak_mib"] / jobs["straightforward"]["peak_mib"] for name, of in jobs.items() if name != "straightforward"
        }
    if "default_job" in measured:
        rows |= {"default_job": beside("default_job"), "default_second_run": beside("default_job", "again")}
    if {"limit", "training_step"} <= measured.keys():
        rows["of_limit"] = {
            name: statistics.mean(measured["training_step"][name]["tflops"]) / statistics.mean(of["tflops"])
            for name, of in measured["limit"].items()
        }
    return rows


def before(folder: Path) -> dict[str, Any]:
    """What bench.json holds."""
    file = folder / "bench.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return found


def write(result: dict[str, Any], folder: Path) -> None:
    """Write bench.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(result, indent=2) + "\n")


def grow(model: dict[str, str], of: Mapping[str, Sequence[int]]) -> dict[str, list[dict[str, Any]]]:
    """Seconds and memory of a training step as texts, length and vocabulary grow (a small random model for the last)."""
    ways: dict[str, list[dict[str, Any]]] = {}
    for way, values in of.items():
        for value in values:
            row: dict[str, Any] = {way: value}
            for who, dtype in (("straightforward", "float32"), ("efface", "auto")):
                task = {"preset": "paper", "forget": 4, "retain": 4, "fluency": 4, "steps": 1, **model, way: value}
                if way == "texts":
                    task |= dict.fromkeys(("forget", "retain", "fluency"), value)
                if way == "vocabulary":
                    task |= {"lora.layers": "2-5"}  # that model has six
                row[who] = child(who=who, part="training_step", dtype=dtype, rounds=2, **task)
            ways.setdefault(way, []).append(row)
    return ways


def report(result: dict[str, Any]) -> str:
    """Markdown table of the ratios."""
    labels = {
        "training_step": "training step, its targets stored",
        "second_run": "second run, targets and fluency texts stored, beside the other's whole job",
        "memory": "peak memory above the weights, times the straightforward one's",
        "of_limit": "FLOP/s, share of a bare forward and backward pass",
        "default_job": "whole job in the default recipe's proportions",
        "default_second_run": "second run of that job",
    }
    lines = ["| how many times as fast as the straightforward one | efface | efface in float32 |", "|---|---|---|"]
    for part, of in result["ratios"].items():
        cells = [shown(of.get(name)) for name in EFFACE]
        lines.append(f"| {labels.get(part, part.replace('_', ' '))} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| a second; peak memory above the weights | straightforward | efface | efface in float32 |",
        "|---|---|---|---|",
    ]
    for part, unit in ((part, unit) for part, unit in UNITS.items() if part in result["measured"]):
        measured = (result["measured"][part].get(who) for who in ("straightforward", *EFFACE))
        cells = [
            f"{of['amount'] / statistics.mean(of['seconds']):.3g} {unit}; {of['peak_mib']:.0f} MiB" if of else ""
            for of in measured
        ]
        lines.append(f"| {labels.get(part, part.replace('_', ' '))} | " + " | ".join(cells) + " |")
    jobs = (("whole_job", "The whole job"), ("default_job", "The default's proportions"))
    for part, name in (job for job in jobs if job[0] in result["measured"]):
        slow, fast = (result["measured"][part][who] for who in ("straightforward", "efface"))
        spent = f"efface {fast['seconds'][0]:.0f} s, a second run {fast['again'][0]:.0f} s"
        share = slow["amount"] / fast["amount"]
        lines.append(f"\n{name}: {spent}; the straightforward one {slow['seconds'][0]:.0f} s for {share:.0%} of it.")
    return "\n".join(lines)


def shown(value: dict[str, float] | float | None) -> str:
    """A cell of the table."""
    if value is None:
        return ""
    if not isinstance(value, dict):
        return f"{value:.2f}"
    spread = "one round" if value["low"] == value["high"] else f"{value['low']:.1f}–{value['high']:.1f}"
    return f"{value['mean']:.1f} ({spread})"


def plot(growth: dict[str, list[dict[str, Any]]], folder: Path) -> None:
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
    figure.savefig(folder / "growth.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
