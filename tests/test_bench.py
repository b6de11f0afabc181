"""The ratios and the table of the benchmark, from made-up measurements."""

from typing import Any

import pytest
from benchmarks.bench import EFFACE, all_ratios, report


def measurement(seconds: list[float], amount: int, **more: Any) -> dict[str, Any]:
    return {"seconds": seconds, "amount": amount, "peak_mib": 100.0, **more}


def measured() -> dict[str, dict[str, dict[str, Any]]]:
    fast = {name: measurement([4.0], 40, again=[2.0], tflops=[0.3], peak_mib=150.0) for name in EFFACE}
    parts = {part: {"straightforward": measurement([10.0, 20.0], 10), **fast} for part in ("targets", "fluency", "training_step")}
    jobs = {part: {"straightforward": measurement([30.0], 10), **fast} for part in ("whole_job", "default_job")}
    return {**parts, **jobs, "limit": {name: measurement([1.0], 8, tflops=[0.6]) for name in EFFACE}}


def test_ratios_are_of_work_a_second() -> None:
    found = all_ratios(measured())
    assert found["targets"]["efface"] == {"mean": 15.0, "low": 10.0, "high": 20.0}
    assert found["whole_job"]["efface"]["mean"] == pytest.approx(30.0)
    assert found["second_run"]["efface"]["mean"] == pytest.approx(60.0), "beside the other's whole job"
    assert found["memory"]["efface"] == 1.5
    assert found["of_limit"]["efface"] == 0.5


def test_the_table_says_how_much_of_a_job_was_done() -> None:
    shown = report({"ratios": all_ratios(measured()), "measured": measured()})
    assert "| targets | 15.0 (10.0–20.0) | 15.0 (10.0–20.0) |" in shown
    assert "| targets | 0.667 tokens; 100 MiB | 10 tokens; 150 MiB | 10 tokens; 150 MiB |" in shown
    assert "efface 4 s, a second run 2 s; the straightforward one 30 s for 25% of it" in shown
