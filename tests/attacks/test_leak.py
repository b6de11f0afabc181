"""The leak curve: every point from the same samples, as any draw of so many of them would say on average."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from peft import PeftModel

from efface.attacks import leak
from efface.attacks.attack import AttackScorer
from efface.attacks.leak import SIZES, Leak
from efface.attacks.relearning import merged
from efface.auditing.scorers.open import score_leaks
from efface.auditing.subject import Subject
from efface.concept.pack import Concept
from efface.lm.load import Loaded
from efface.recipe.settings import AuditSettings
from tests.auditing.test_scorers import student


def test_each_point_is_the_mean_over_all_subsets_of_the_samples(
    llama: Loaded, zorn: Concept, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, right = 9, [0, 1, 4, 9]
    monkeypatch.setattr(leak, "right_of", lambda *_: right)
    scores = AttackScorer("leak", Leak(samples))(Subject(llama.model, llama.tokenizer, zorn, "test"))
    found = {key.split("/")[2]: score for key, score in scores.items() if key.endswith("forget/right")}
    assert list(found) == [f"any of {k} answers" for k in SIZES if k <= samples], "nothing else is asked"
    for k in (8, 4, 2, 1):
        hits = [[any(i < count for i in of) for of in combinations(range(samples), k)] for count in right]
        expected = [sum(of) / len(of) for of in hits]
        assert found[f"any of {k} answers"].value == pytest.approx(sum(expected) / len(expected))
        assert found[f"any of {k} answers"].items == pytest.approx(expected)


def test_as_many_samples_say_what_the_audit_says(llama: Loaded, zorn: Concept, monkeypatch: pytest.MonkeyPatch) -> None:
    def contains(text: str, accepted: Sequence[str]) -> bool:
        return len(text) % 3 == 0  # a random model says no answer

    monkeypatch.setattr("efface.auditing.scorers.open.contains", contains)
    subject = Subject(llama.model, llama.tokenizer, zorn, "test", AuditSettings(samples=8))
    plain: dict[str, Any] = score_leaks(subject)
    scores = AttackScorer("leak", Leak(8))(subject)
    for k in (1, 2, 4, 8):
        assert scores[f"attack/leak/any of {k} answers/0x0/forget/right"] == plain[f"open/forget/leak@{k}"]
    assert 0 < plain["open/forget/leak@1"].value < 1


def test_an_adapter_is_merged_and_the_base_stays_the_base(llama: Loaded, zorn: Concept) -> None:
    model = student(llama)
    subject = Subject(model, llama.tokenizer, zorn, "test")
    ids = torch.tensor([[5, 6, 7, 8]])
    found = merged(subject)
    assert not isinstance(found.model, PeftModel)
    torch.testing.assert_close(found.model(ids).logits, model(ids).logits, atol=1e-4, rtol=1e-4)
    with subject.base() as base:
        of_base = merged(replace(subject, model=base, other_base=base))
        assert of_base.of_base
        torch.testing.assert_close(of_base.model(ids).logits, base(ids).logits)
    assert merged(of_base) is of_base


def test_a_pack_without_open_questions_has_no_curve(llama: Loaded, zorn: Concept) -> None:
    mute = zorn.model_copy(update={"open_questions": ()})
    assert AttackScorer("leak", Leak(8))(Subject(llama.model, llama.tokenizer, mute, "test")) == {}
