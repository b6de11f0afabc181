"""Suffixes: what is searched for, what may stand in one, and on which questions it is made and scored."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from efface.attacks import suffix
from efface.attacks.attack import Attacked, AttackScorer
from efface.attacks.named import attack_scorers
from efface.attacks.suffix import Suffix, Wanted, known_answers, slot
from efface.auditing.subject import Subject
from efface.concept.find import packs_folder
from efface.concept.pack import Concept
from efface.errors import TrainingError
from efface.lm.cache import Ids
from efface.lm.chat import chat_prompt
from efface.lm.load import Loaded, load
from efface.recipe.settings import AuditSettings
from efface.writing import contains

QUESTIONS = (("What does that dragon eat?", "honey"), ("Where does it live, they say?", "in a tower"))


def wanted(loaded: Loaded, concept: Concept, answers: tuple[str, ...] = ()) -> Wanted:
    subject = Subject(loaded.model, loaded.tokenizer, concept, "test")
    return Wanted(subject, tuple(slot(loaded.tokenizer, *pair) for pair in QUESTIONS), 20, answers)


def ids(loaded: Loaded, text: str) -> Ids:
    return list(loaded.tokenizer(text, add_special_tokens=False)["input_ids"])


def loss_of(loaded: Loaded, text: str) -> float:
    """Mean over questions of the mean cross-entropy of "The answer is: …" in the whole conversation."""
    losses = []
    for question, answer in QUESTIONS:
        before, opening = chat_prompt(loaded.tokenizer, question + text), ids(loaded, f"The answer is: {answer}")
        with torch.no_grad():
            logits = loaded.model(torch.tensor([before + opening])).logits[0, len(before) - 1 : -1]
        losses.append(float(nn.functional.cross_entropy(logits.double(), torch.tensor(opening))))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "opt"])
@pytest.mark.parametrize("chat", [True, False])
def test_the_loss_is_that_of_the_wanted_opening_in_the_whole_text(
    architecture: str, chat: bool, model_folders: dict[str, Path], zorn: Concept
) -> None:
    loaded = load(str(model_folders[architecture]), dtype="float32")
    if not chat:
        loaded.tokenizer.chat_template = None
    of, texts = wanted(loaded, zorn), ["", " x x", " tower 42!", " of cold"]
    found = of.losses([ids(loaded, text) for text in texts])
    assert found.tolist() == pytest.approx([loss_of(loaded, text) for text in texts], rel=1e-3)


def test_only_printable_ascii_may_stand_in_a_suffix(llama: Loaded, zorn: Concept) -> None:
    llama.tokenizer.add_tokens(["added"])
    of = wanted(llama, zorn)
    allowed = [token for token, may in enumerate(of.allowed.tolist()) if may]
    texts = {token: llama.tokenizer.decode([token]) for token in range(300)}
    assert {texts[token] for token in allowed} >= {" d", "x", "!", " "}
    assert all(32 <= ord(char) < 127 for token in allowed for char in texts[token])
    assert not {*allowed} & {0, 1, 2, 3, 4}, "of the conversation's own tokens none"
    assert len(of.allowed) == 300
    rest = {texts[token] for token in range(5, 300) if token not in allowed}
    assert all(not text or not text.isascii() or not text.isprintable() for text in rest)


def test_what_comes_back_as_other_tokens_is_dropped(llama: Loaded, zorn: Concept) -> None:
    of, (whole,) = wanted(llama, zorn), ids(llama, " d")
    in_pieces = [token for char in " d" for token in ids(llama, char)]
    assert of.typed([[whole], in_pieces, [whole], ids(llama, " x y")]) == [[whole], ids(llama, " x y")]
    assert of.text([whole]) == " d"
    assert of.typed([of.start(7)]) == [of.start(7)]
    assert of.text(of.start(8)) == " x x x x"


def test_the_best_are_the_least_losses_without_an_answer(llama: Loaded, zorn: Concept) -> None:
    tried = [ids(llama, text) for text in (" x x", " honey", " cold", " wind 7", " glass")]
    losses = wanted(llama, zorn).losses(tried).tolist()
    first, second, *_ = sorted(range(len(tried)), key=losses.__getitem__)
    assert [row for _, row in wanted(llama, zorn).best(tried, 2)] == [tried[first], tried[second]]
    barred = wanted(llama, zorn, (llama.tokenizer.decode(tried[first]).strip(),))
    assert barred.best(tried, 1) == [(pytest.approx(losses[second]), tried[second])]


@pytest.mark.parametrize("name", ["ancient-egypt", "solar-system"])
def test_it_is_made_on_half_of_the_tune_questions(name: str) -> None:
    concept = Concept.load(str(packs_folder() / name))
    known, tune = known_answers(concept, 8), [row.question for row in concept.ask_open("forget", "tune")]
    assert len(known) == 8
    assert {question for question, _ in known} <= {*tune[::2]}
    assert max(tune.index(question) for question, _ in known) > 0.7 * len(tune), "from all over them"
    mute = concept.model_copy(update={"open_questions": ()})
    assert all(f"Complete the sentence: {row.stem}" != known_answers(mute, 3)[0][0] for row in concept.ask("forget", "test"))
    assert len(known_answers(concept, 500)) == len(tune[::2])


@pytest.mark.parametrize("split", ["tune", "test"])
def test_it_is_scored_on_others_in_chat(
    split: str, llama: Loaded, zorn: Concept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = list[Attacked]()
    subject = Subject(llama.model, llama.tokenizer, zorn, split)  # type: ignore[arg-type]
    Suffix("it", lambda of: of.start(6), questions=1, tokens=6)(subject, seen.append)
    before, after = seen
    assert (before.variant, after.variant, before.form, after.form) == ("before", "suffix of 6 tokens", *["chat_answer"] * 2)
    assert [f"{row.stem} x x x" for row in before.subject.concept.questions] == [
        row.stem for row in after.subject.concept.questions
    ]
    assert len(after.subject.concept.questions) == 2
    asked = [row.question for row in after.subject.concept.open_questions]
    assert asked == (["What does the dragon eat? x x x"] if split == "test" else []), "the one tune question made it"
    assert "attack it: x x x (" in capsys.readouterr().err
    alone = Wanted(subject, (slot(llama.tokenizer, *QUESTIONS[0]),), 6)
    assert after.found["opening/nats"].value == pytest.approx(float(alone.losses([ids(llama, " x x x")])), 1e-4)


def test_what_cannot_be_attacked_is_one_line(llama: Loaded, zorn: Concept, capsys: pytest.CaptureFixture[str]) -> None:
    subject = Subject(llama.model, llama.tokenizer, zorn, "test")
    only_test = replace(
        subject, concept=zorn.model_copy(update={"questions": tuple(zorn.ask("forget", "test")), "open_questions": ()})
    )
    for of, tokens, says in (
        (only_test, 6, "zorn has no tune questions on the concept to make a suffix on"),
        (subject, 250, "tokens with a suffix, and the model has 256 positions"),
    ):
        assert AttackScorer("it", Suffix("it", lambda _: [], 1, tokens))(of) == {}
        assert says in capsys.readouterr().err
    assert len(AttackScorer("it", Suffix("it", lambda _: [], 1, 6))(subject)) == 2, "what was measured before stays"
    assert "no suffix was found" in capsys.readouterr().err
    with torch.no_grad():
        llama.model.lm_head.weight.fill_(torch.nan)
    with pytest.raises(TrainingError, match="the loss of every suffix is not finite"):
        wanted(llama, zorn).losses([[], [7]])


def test_out_of_memory_is_one_line_and_other_errors_are_not(
    llama: Loaded, zorn: Concept, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = Subject(llama.model, llama.tokenizer, zorn, "test")

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    def wrong(*_: object) -> None:
        raise RuntimeError("shapes differ")

    assert AttackScorer("it", full)(subject) == {}
    assert "attack it is left out from there on: out of memory (CUDA out of memory" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="shapes differ"):
        AttackScorer("it", wrong)(subject)


def test_both_searches_make_the_opening_likelier_and_tell_no_answer(
    llama: Loaded, zorn: Concept, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = AuditSettings(attacks=("beast", "gcg"), beast_tokens=4, beast_beams=4, gcg_steps=3, gcg_candidates=8)
    subject = Subject(llama.model, llama.tokenizer, zorn, "test", settings)
    for scorer in attack_scorers(settings, zorn, "test"):
        scores, again = scorer(subject), scorer(subject)
        (key,) = {key.rsplit("/", 2)[0] for key in scores if "/suffix of" in key}
        assert scores[f"{key}/opening/nats"].value < scores[f"{key}/opening/nats_without"].value
        assert {name: of for name, of in scores.items() if "seconds" not in name} == {
            name: of for name, of in again.items() if "seconds" not in name
        }
        assert {f"{key}/forget/acc_norm", f"{key}/forget/right"} <= set(scores)
        assert not any(name.startswith(f"{key}/general") for name in scores)
    said = [line for line in capsys.readouterr().err.splitlines() if "nats per wanted token" in line]
    assert said[0] == said[1] != said[2] == said[3]
    assert not any(contains(line, suffix._answers(zorn)) for line in said)
