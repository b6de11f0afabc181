"""Whatever standard output is: read, closed, full; no traceback, no second message."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from efface import cli
from efface.runs import pipeline
from efface.runs.pipeline import erase

COMMAND = [sys.executable, "-m", "efface", "concept", "list"]


def closed_pipe() -> int:
    """The writing end of a pipe that nobody reads."""
    reads, writes = os.pipe()
    os.close(reads)
    return writes


def test_nobody_reads_what_is_printed() -> None:
    pipe = closed_pipe()
    done = subprocess.run(COMMAND, stdout=pipe, stderr=subprocess.PIPE, text=True)
    os.close(pipe)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_what_cannot_be_printed_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(COMMAND, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("efface: ")
    assert done.stderr.endswith("No space left on device\n")
    assert done.stderr.count("\n") == 1


def test_without_standard_output_the_work_is_done() -> None:
    done = subprocess.run(["/bin/sh", "-c", '"$@" >&-', "sh", *COMMAND], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_pipe_is_no_fault_of_the_run_folder(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(*_: Any) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(pipeline, "train", unread)
    with pytest.raises(BrokenPipeError):
        erase(**job)
    assert job["to"].with_name("run.partial").is_dir(), "the same command goes on from here"


def test_a_verb_whose_messages_nobody_reads_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(_: list[str]) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(cli, "_run", unread)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    monkeypatch.setattr("sys.stdout", sys.__stdout__)
    assert cli.main(["erase"]) == 141
