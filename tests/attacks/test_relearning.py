"""The relearning attack: it trains, it trains on the right texts, and the model under test stays what it was."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from efface.attacks import relearning
from efface.attacks.relearning import relearn, release, score_relearning
from efface.auditing.scores import Audit, Measured
from efface.auditing.statistics import proportion
from efface.auditing.subject import Subject
from efface.concept.pack import Concept
from efface.data.text import Text
from efface.lm.adapters import attach_adapter
from efface.lm.layers import teacher
from efface.lm.load import Loaded, load, weights_hash
from efface.recipe.settings import AuditSettings, LoraSettings
from efface.report.judged import back, summary
from tests.auditing.test_scorers import student

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
SETTINGS = AuditSettings(relearn_steps=12, relearn_texts=2, relearn_lr=0.02)


@pytest.mark.parametrize("rank", [0, 4])
def test_what_is_released_is_what_answers(rank: int, llama: Loaded) -> None:
    base = llama.model(IDS).logits.clone()
    model = attach_adapter(llama.model, LoraSettings(rank=rank, layers="all"), 0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    before = weights_hash(model)
    logits = model(IDS).logits
    torch.testing.assert_close(release(model)(IDS).logits, logits, atol=1e-4, rtol=1e-4)
    with teacher(model) as frozen:
        torch.testing.assert_close(release(frozen)(IDS).logits, base)
    assert weights_hash(model) == before
    torch.testing.assert_close(model(IDS).logits, logits)


def test_the_attack_learns_its_texts_and_leaves_the_model_alone(llama: Loaded) -> None:
    model = student(llama)
    before, text = weights_hash(model), Text(list(range(20, 44)), 1)

    def loss(of: Any) -> float:
        ids = torch.tensor([text.ids])
        with torch.no_grad():
            return float(of(input_ids=ids, labels=ids).loss)

    attacked = relearn(model, llama.tokenizer, [text, text], SETTINGS)
    assert loss(attacked) < loss(model) - 0.5
    assert weights_hash(model) == before


def test_an_attack_that_diverges_is_left_out(llama: Loaded, zorn: Concept, capsys: pytest.CaptureFixture[str]) -> None:
    settings = SETTINGS.model_copy(update={"relearn_lr": 1e30})
    assert score_relearning(Subject(student(llama), llama.tokenizer, zorn, "test", settings)) == {}
    assert "with audit.relearn_lr 1e+30" in capsys.readouterr().err


def test_forget_texts_and_a_control(llama: Loaded, zorn: Concept, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def spy(model: Any, tokenizer: Any, texts: list[Text], settings: AuditSettings) -> Any:
        seen.append([tokenizer.decode(text.ids[:4]) for text in texts])
        return relearn(model, tokenizer, texts, settings)

    monkeypatch.setattr(relearning, "relearn", spy)
    subject = Subject(student(llama), llama.tokenizer, zorn, "test", SETTINGS)
    scores = score_relearning(subject)
    assert {key.split("/")[0] for key in scores} == {"relearned", "relearned_control"}
    assert scores["relearned/forget/acc_norm"].n == 2
    forget, retain = seen
    assert len(forget) == len(retain) == 2
    assert all(text in "".join(row.text for row in zorn.forget) for text in forget)
    assert all(text in "".join(row.text for row in zorn.retain) for text in retain)
    assert score_relearning(replace(subject, settings=AuditSettings())) == {}


def test_share_that_is_back() -> None:
    def measured(right: int, relearned: int) -> Measured:
        scores = {"choice/forget/acc_norm": right, "relearned/forget/acc_norm": relearned}
        return Measured(
            scores={key: proportion([True] * hits + [False] * (20 - hits), 0.25) for key, hits in scores.items()}, answers=[]
        )

    audit = Audit(concept="c", split="test", base=measured(16, 16), erased=measured(6, 11))
    assert back(audit) == summary(audit)["back"] == pytest.approx(0.5)
    assert back(audit.model_copy(update={"erased": measured(16, 16)})) is None


def test_a_whole_model_is_attacked_too(model_folders: dict[str, Path]) -> None:
    loaded = load(str(model_folders["gpt2"]), dtype="float32")
    before = weights_hash(loaded.model)
    attacked = relearn(loaded.model, loaded.tokenizer, [Text(list(range(20, 40)), 1)], SETTINGS)
    assert (attacked(IDS).logits - loaded.model(IDS).logits).abs().max() > 1e-3
    assert weights_hash(loaded.model) == before
