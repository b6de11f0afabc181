"""The round trip of weights through few bits, against the grid drawn by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from efface.attacks.attack import Attacked, AttackScorer
from efface.attacks.quantise import nf4, quantise, round_trip
from efface.attacks.relearning import release
from efface.auditing.subject import Subject
from efface.concept.pack import Concept
from efface.lm.layers import linear_modules
from efface.lm.load import Loaded, load, weights_hash
from tests.auditing.test_scorers import student

WEIGHTS = torch.randn(5, 150, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 1, 5)[:, None]


def nearest(row: np.ndarray, bits: int) -> np.ndarray:
    """Every weight by the nearest of all points of the grid."""
    top = 2 ** (bits - 1) - 1
    grid = np.arange(-top, top + 1) * np.abs(row).max() / top
    return np.array([grid[np.abs(grid - weight).argmin()] for weight in row])


@pytest.mark.parametrize(("bits", "group"), [(8, None), (4, 64), (4, 7), (2, 150)])
def test_every_weight_goes_to_the_nearest_point_of_its_groups_grid(bits: int, group: int | None) -> None:
    found = round_trip(WEIGHTS, bits, group)
    for row, back in zip(WEIGHTS.double().numpy(), found.numpy(), strict=True):
        size = group or len(row)
        expected = np.concatenate([nearest(row[first : first + size], bits) for first in range(0, len(row), size)])
        np.testing.assert_allclose(back, expected, rtol=1e-5, atol=1e-9)


def test_a_round_trip_is_symmetric_idempotent_and_keeps_zero() -> None:
    once = round_trip(WEIGHTS, 4, 64)
    torch.testing.assert_close(round_trip(once, 4, 64), once)
    torch.testing.assert_close(round_trip(-WEIGHTS, 4, 64), -once)
    assert not round_trip(torch.zeros(2, 9), 8).any()
    assert round_trip(WEIGHTS.bfloat16(), 8).dtype == torch.bfloat16


def distances(subject: Subject, concept: Concept) -> tuple[list[str], dict[str, list[Attacked]]]:
    seen: dict[str, list[Attacked]] = {}
    quantise(subject, lambda attacked: seen.setdefault(attacked.variant, []).append(attacked))
    return linear_modules(next(iter(seen.values()))[0].subject.model), seen


def test_the_merged_weights_of_the_layers_are_rounded_and_no_others(llama: Loaded, zorn: Concept) -> None:
    model = student(llama)
    before, merged = weights_hash(model), release(model)
    names, seen = distances(Subject(model, llama.tokenizer, zorn, "test"), zorn)
    assert list(seen)[:2] == ["int8", "int4"]
    assert weights_hash(model) == before
    for variant, (bits, group) in {"int8": (8, None), "int4": (4, 64)}.items():
        rounded = dict(seen[variant][0].subject.model.named_parameters())
        for name, weight in merged.named_parameters():
            inside = name.removesuffix(".weight") in names
            expected = round_trip(weight.detach(), bits, group) if inside else weight
            torch.testing.assert_close(rounded[name], expected)


def test_a_row_is_what_makes_one_output(model_folders: dict[str, Path], zorn: Concept) -> None:
    loaded = load(str(model_folders["gpt2"]), dtype="float32")
    names, seen = distances(Subject(loaded.model, loaded.tokenizer, zorn, "test"), zorn)
    module, rounded = (of.get_submodule(names[0]) for of in (loaded.model, seen["int8"][0].subject.model))
    assert isinstance(module, Conv1D)
    column, back = (of.weight[:, 3].detach() for of in (module, rounded))  # of a Conv1D weights are [in, out]
    np.testing.assert_allclose(back.numpy(), nearest(column.double().numpy(), 8), rtol=1e-5, atol=1e-7)


def test_nf4_is_the_quantiles_of_a_normal_by_the_largest_of_a_block() -> None:
    pytest.importorskip("bitsandbytes")
    quantiles = [0.0, *(norm.ppf(np.linspace(0.9677083, 0.5, n)[:-1]) for n in (9, 8))]
    grid = np.sort(np.concatenate([[0.0], quantiles[1], -quantiles[2]])) / norm.ppf(0.9677083)
    block = WEIGHTS[0, :64].double().numpy() / WEIGHTS[0, :64].abs().max().item()
    nearest_points = np.array([grid[np.abs(grid - weight).argmin()] for weight in block])
    found = nf4(WEIGHTS[:1, :64])[0].numpy() / WEIGHTS[0, :64].abs().max().item()
    np.testing.assert_allclose(found, nearest_points, atol=1e-4)


def test_without_bitsandbytes_nf4_is_left_out_with_a_note(
    llama: Loaded, zorn: Concept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    _, seen = distances(Subject(llama.model, llama.tokenizer, zorn, "test"), zorn)
    assert list(seen) == ["int8", "int4"]
    assert "nf4 is left out, for it needs bitsandbytes (pip install 'efface[qlora]')" in capsys.readouterr().err


def test_weights_in_few_bits_already_are_left_out(llama: Loaded, zorn: Concept, capsys: pytest.CaptureFixture[str]) -> None:
    name = linear_modules(llama.model)[0]
    packed: Tensor = torch.zeros(4, 4, dtype=torch.uint8)
    llama.model.get_submodule(name).weight = torch.nn.Parameter(packed, requires_grad=False)
    assert AttackScorer("quantise", quantise)(Subject(llama.model, llama.tokenizer, zorn, "test")) == {}
    assert "attack quantise is left out" in capsys.readouterr().err
