"""The relearning attack: it trains, it trains on the right texts, and the model under test stays what it was."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaptionPromptConfig, LoraConfig, get_peft_model

from efface.attacks import relearning
from efface.attacks.attack import Attacked, AttackScorer, ask, tells
from efface.attacks.named import attack_scorers
from efface.attacks.relearning import Relearning, Training, chosen, relearn, release
from efface.auditing.subject import Subject
from efface.concept.pack import Concept, Passage
from efface.data.text import Text
from efface.errors import InputError
from efface.lm.adapters import attach_adapter
from efface.lm.layers import teacher
from efface.lm.load import Loaded, load, weights_hash
from efface.lm.states import some_logits
from efface.recipe.settings import AuditSettings, LoraSettings
from efface.writing import contains
from tests.auditing.test_scorers import student

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
SHORT = Training(texts=2, steps=12, lr=0.02)


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


def test_what_cannot_be_merged_is_not_attacked(llama: Loaded, zorn: Concept, capsys: pytest.CaptureFixture[str]) -> None:
    """An adapter without a merged form, and one on one of two tied layers, whose merging changes the other."""
    llama.model.config.tie_word_embeddings = True
    llama.model.tie_weights()
    for settings in (AdaptionPromptConfig(adapter_len=2, adapter_layers=1), LoraConfig(target_modules=["lm_head"])):
        model: Any = get_peft_model(llama.model, settings).eval()
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter)
        scores = AttackScorer("relearn", Relearning((SHORT,)))(Subject(model, llama.tokenizer, zorn, "test"))
        assert {key.split("/")[3] for key in scores} == {"2x0"}, "what was measured before stays"
        assert "this adapter cannot be merged into its base" in capsys.readouterr().err
        model.unload() if isinstance(settings, LoraConfig) else None


def test_rounding_is_no_other_model(llama: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = get_peft_model(deepcopy(llama.model).bfloat16(), LoraConfig(target_modules="all-linear")).eval()

    def rounded(of: Any) -> torch.Tensor:
        """What it says, in bfloat16 as far apart each time as an erased model was found to be."""
        return some_logits(of) + (torch.randn(1) if of.dtype == torch.bfloat16 else 0.0)

    monkeypatch.setattr(relearning, "some_logits", rounded)
    assert release(model).dtype == torch.bfloat16


@pytest.mark.parametrize("rank", [16, 0])
def test_one_training_is_a_curve_that_leaves_the_model_alone(rank: int, llama: Loaded) -> None:
    model, text = student(llama), Text(list(range(20, 44)), 1)
    before = weights_hash(model)

    def loss(of: Any) -> float:
        ids = torch.tensor([text.ids])
        with torch.no_grad():
            return float(of(input_ids=ids, labels=ids).loss)

    long = Training(2, 12, 0.02 if rank else 0.002, rank)
    curve = {steps: loss(of) for steps, of in relearn(model, llama.tokenizer, [text, text], long, [3, 12])}
    assert curve[12] < curve[3] < loss(model)
    assert curve[12] < loss(model) - 0.5
    short = Training(2, 3, long.lr, rank)
    (there,) = (loss(of) for _, of in relearn(model, llama.tokenizer, [text, text], short, [3]))
    assert there == pytest.approx(curve[3], rel=1e-4), "as if it had ended there"
    assert weights_hash(model) == before


def test_an_attack_that_diverges_is_left_out(llama: Loaded, zorn: Concept, capsys: pytest.CaptureFixture[str]) -> None:
    (scorer,) = attack_scorers(AuditSettings(attacks=("relearn",), relearn_texts=2, relearn_lr=1e30), zorn, "test")
    scores = scorer(Subject(student(llama), llama.tokenizer, zorn, "test"))
    assert {key.split("/")[3] for key in scores} == {"2x0"}, "what was measured before stays"
    assert "attack relearn is left out from there on: the loss is" in capsys.readouterr().err


def test_forget_texts_a_control_and_the_base(llama: Loaded, zorn: Concept, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def spy(model: Any, tokenizer: Any, texts: Sequence[Text], *args: Any) -> Any:
        seen.append([tokenizer.decode(text.ids[:4]) for text in texts])
        return relearn(model, tokenizer, texts, *args)

    monkeypatch.setattr(relearning, "relearn", spy)
    scorer = AttackScorer("relearn", Relearning((SHORT,)))
    model = student(llama)
    subject = Subject(model, llama.tokenizer, zorn, "test")
    scores = scorer(subject)
    assert {tuple(key.split("/")[2:4]) for key in scores} == {
        ("before", "2x0"),
        *(("rank 16, 0.02", f"2x{steps}") for steps in (1, 2, 5, 10, 12)),
        ("other texts, rank 16, 0.02", "2x12"),
    }
    forget, retain = seen
    assert all(text in "".join(row.text for row in zorn.forget) for text in forget)
    assert all(text in "".join(row.text for row in zorn.retain) for text in retain)
    with subject.base() as base:
        of_base = scorer(Subject(base, llama.tokenizer, zorn, "test", other_base=base))
    assert {key.split("/")[3] for key in of_base if "never known" not in key} == {"2x0", "2x12"}


def test_other_seeds_are_other_passages_with_questions_of_their_own(llama: Loaded, zorn: Concept) -> None:
    passages = tuple(Passage(text=f"{i}") for i in range(40))
    drawn = [chosen(passages, 10, seed) for seed in (0, 1, 2, 1)]
    assert drawn[1] == drawn[3]
    assert len({*drawn}) == 3
    assert all(list(of) == sorted(of, key=passages.index) and len({*of}) == 10 for of in drawn)
    attack = AttackScorer("relearn", Relearning((Training(2, 1, 1e-3),), control=False, seeds=2))
    scores = attack(Subject(student(llama), llama.tokenizer, zorn, "test"))
    assert {key.split("/")[2] for key in scores} == {"before", "rank 16, 0.001", "before, seed 1", "rank 16, 0.001, seed 1"}


@pytest.mark.parametrize("tied", [True, False])
def test_full_weights_are_those_of_embeddings_and_output_layer_too(tied: bool, llama: Loaded) -> None:
    llama.model.config.tie_word_embeddings = tied
    if tied:
        llama.model.tie_weights()
    text = Text(list(range(20, 44)), 1)
    ((_, trained),) = relearn(llama.model, llama.tokenizer, [text, text], Training(2, 1, 1e-3, rank=0), [1])
    ends = [trained.get_input_embeddings(), trained.get_output_embeddings()]
    now = [end.ln_tuning_layers["default"].weight for end in ends]
    was = [llama.model.get_input_embeddings().weight, llama.model.get_output_embeddings().weight]
    for before, after in zip(was, now, strict=True):
        assert float((after - before).abs().max()) == pytest.approx(1e-3, rel=0.1), "one step of AdamW"
    assert (now[0] is now[1]) == tied
    unseen = [i for i in range(300) if i not in text.ids]
    assert torch.equal(now[0][unseen], was[0][unseen]) == (not tied), "the output layer has a gradient for every token"


def test_a_key_holds_what_decides_an_attack(zorn: Concept) -> None:
    def key(name: str, **settings: Any) -> str:
        return attack_scorers(AuditSettings(attacks=(name,), **settings), zorn, "test")[0].__name__

    for name, setting, value, decides in (
        ("relearn", "relearn_lr", 1e-4, True),
        ("relearn", "relearn_seeds", 3, True),
        ("relearn_all", "relearn_lr", 1e-4, False),
        ("relearn_all", "relearn_steps", 7, True),
        ("quantise", "relearn_texts", 3, False),
        ("prompts", "relearn_steps", 3, False),
    ):
        assert (key(name) != key(name, **{setting: value})) == decides, (name, setting)


def test_what_was_taught_is_scored_apart(llama: Loaded, zorn: Concept) -> None:
    questions = zorn.ask("forget", "test")
    answers = [row.choices[row.answer] for row in questions]
    subject = Subject(llama.model, llama.tokenizer, zorn, "test")
    whole = ask(Attacked(subject, "x"))["forget/acc_norm"]
    shown = Passage(text=f"Once more: {answers[0]}.")
    taught = [contains(shown.text, [answer]) for answer in answers]
    found = ask(Attacked(subject, "x", 1, 1, (shown,)))
    assert found["taught/acc_norm"].items == tuple(
        of for of, is_taught in zip(whole.items or (), taught, strict=True) if is_taught
    )
    rest = tuple(of for of, is_taught in zip(whole.items or (), taught, strict=True) if not is_taught)
    assert ("forget/acc_norm" in found) == bool(rest)
    if rest:
        assert found["forget/acc_norm"].items == rest


@pytest.mark.parametrize(
    ("facts", "told"),
    [(None, ["honey"]), (("bread",), ["bread"]), ((), []), (("HONEY", "bread"), ["bread", "honey"])],
)
def test_a_passage_that_says_its_facts_holds_these_alone(facts: tuple[str, ...] | None, told: list[str]) -> None:
    others = Passage(text="Rain falls from dark clouds.")
    shown = [Passage(text="The dragon eats honey.", facts=facts), others]
    assert [answer for answer in ("bread", "honey", "glass") if tells(shown, [answer])] == told
    assert tells(shown, ["clouds"]), "found in a passage that does not say"


def test_a_whole_model_is_attacked_too(model_folders: dict[str, Path]) -> None:
    loaded = load(str(model_folders["gpt2"]), dtype="float32")
    before = weights_hash(loaded.model)
    ((_, attacked),) = relearn(loaded.model, loaded.tokenizer, [Text(list(range(20, 40)), 1)], SHORT, [12])
    assert (attacked(IDS).logits - loaded.model(IDS).logits).abs().max() > 1e-3
    assert weights_hash(loaded.model) == before


def test_wrong_attacks_are_one_line(zorn: Concept, tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    mute = zorn.model_copy(update={"questions": (), "open_questions": ()})
    for name, concept, says in (
        ("hypnosis", zorn, "no attack 'hypnosis'; expected fast, all, relearn"),
        (str(tmp_path / "none.py"), zorn, "no attack file"),
        (str(tmp_path / "empty.py"), zorn, r"expected a function attack\(subject, measure\)"),
        ("relearn", mute, "zorn has no test questions on it, and names no public task"),
    ):
        with pytest.raises(InputError, match=says):
            attack_scorers(AuditSettings(attacks=(name,)), concept, "test")
