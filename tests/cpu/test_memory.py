"""What a processor's memory is set up with."""

import os

import pytest

from efface.cpu.memory import KEPT_KERNELS, set_up_memory


def test_kept_kernels_are_bounded_unless_the_user_said_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEPT_KERNELS:
        monkeypatch.setenv(name, "7")
        monkeypatch.delenv(name)
    set_up_memory()
    assert {name: os.environ[name] for name in KEPT_KERNELS} == KEPT_KERNELS
    for name in KEPT_KERNELS:
        monkeypatch.setenv(name, "7")
    set_up_memory()
    assert {os.environ[name] for name in KEPT_KERNELS} == {"7"}
