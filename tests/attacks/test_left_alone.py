"""Whatever attacks a model leaves it bit for bit as it was."""

from dataclasses import replace

import pytest

from efface.attacks.named import ATTACKS, attack_scorers
from efface.auditing.subject import Subject
from efface.concept.pack import Concept
from efface.lm.condition import condition
from efface.lm.load import Loaded
from efface.recipe.settings import AuditSettings
from tests.auditing.test_scorers import student

SLOW = {"relearn_all"}


@pytest.mark.parametrize("name", [pytest.param(of, marks=[pytest.mark.slow] if of in SLOW else []) for of in ATTACKS])
def test_an_attack_leaves_base_and_erased_model_as_they_were(name: str, llama: Loaded, zorn: Concept) -> None:
    (scorer,) = attack_scorers(AuditSettings(attacks=(name,), relearn_texts=2, relearn_steps=2), zorn, "test")
    erased = Subject(student(llama), llama.tokenizer, zorn, "test")
    before = condition(erased.model)
    assert scorer(erased)
    assert condition(erased.model) == before
    with erased.base() as base:
        before = condition(base)
        scorer(replace(erased, model=base, other_base=base))
        assert condition(base) == before
