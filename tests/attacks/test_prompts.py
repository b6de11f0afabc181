"""The questions in other words: none tells an answer, none is asked twice."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from efface.attacks import attack
from efface.attacks.attack import Attacked, AttackScorer
from efface.attacks.named import attack_scorers
from efface.attacks.prompts import PROMPTS, Prompts, rewritten
from efface.auditing.likelihoods import Branches
from efface.auditing.subject import Subject
from efface.concept.pack import Concept
from efface.errors import InputError
from efface.lm.load import Loaded
from efface.recipe.settings import AuditSettings
from efface.writing import contains

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_attack.py"


@pytest.mark.parametrize("pack", ["ancient-egypt", "harry-potter"])
@pytest.mark.parametrize("variant", PROMPTS)
def test_every_question_is_there_and_nothing_tells_its_answer(variant: str, pack: str, corpora_elsewhere: str) -> None:
    concept = Concept.load(pack)
    asked = rewritten(concept, "test", variant)
    before, after = concept.ask("forget", "test"), asked.ask("forget", "test")
    assert len(asked.questions) == len(before) == len(after)
    for one, other in zip(before, after, strict=True):
        assert other.choices == one.choices
        frame = other.stem.replace(one.stem, "")
        assert not contains(frame, one.choices) or other == one
    for one, other in zip(concept.ask_open("forget", "test"), asked.ask_open("forget", "test"), strict=True):
        frame = other.question.replace(one.question, "")
        assert not contains(frame, one.answers) or other == one
    changed = sum(one.stem != other.stem for one, other in zip(before, after, strict=True))
    assert changed > 0.9 * len(before)


def test_a_model_that_forgets_in_one_format_is_recovered(llama: Loaded, zorn: Concept, monkeypatch: pytest.MonkeyPatch) -> None:
    stems = [question.stem for question in zorn.ask("forget", "test")]
    right = [question.answer for question in zorn.ask("forget", "test")]

    def likelihoods(_: object, rows: Sequence[Branches], __: int) -> list[list[float]]:
        """Right behind anything but the bare stem."""
        shown = [str(llama.tokenizer.decode(row.context)) for row in rows]
        bare = [any(text.strip() == stem.strip() for stem in stems) for text in shown]
        return [
            [0.0 if (k == right[i]) != is_bare else -9.0 for k in range(len(row.choices))]
            for i, (row, is_bare) in enumerate(zip(rows, bare, strict=True))
        ]

    monkeypatch.setattr(attack, "log_likelihoods", likelihoods)
    monkeypatch.setattr(attack, "_said", lambda _: {})
    subject = Subject(llama.model, llama.tokenizer, zorn.model_copy(update={"open_questions": ()}), "test")
    plain = zorn.model_copy(update={"questions": tuple(zorn.ask("forget", "test"))})
    assert attack.ask(Attacked(Subject(llama.model, llama.tokenizer, plain, "test"), "x"))["forget/acc_norm"].value == 0
    found = AttackScorer("prompts", Prompts(("expert", "filler in Latin")))(subject)
    assert [score.value for key, score in found.items() if key.endswith("forget/acc_norm")] == [1.0, 1.0]
    assert not any("general" in key for key in found), "general questions are not asked again"


def test_an_attack_of_ones_own(llama: Loaded, zorn: Concept, tmp_path: Path) -> None:
    subject = Subject(llama.model, llama.tokenizer, zorn, "test")
    (scorer,) = attack_scorers(AuditSettings(attacks=(str(EXAMPLE),)), zorn, "test")
    found = scorer(subject)
    assert {tuple(key.split("/")[:3]) for key in found} == {
        ("attack", "my_attack", f"noise {share}") for share in ("0.03", "0.1")
    }
    file = tmp_path / "mine.py"
    file.write_text("def attack(subject, measure):\n    raise KeyError('oops')\n")
    (scorer,) = attack_scorers(AuditSettings(attacks=(str(file),)), zorn, "test")
    with pytest.raises(InputError, match=r"mine.py: attack: KeyError.*oops"):
        scorer(subject)
