import math

import pytest
import torch

from efface.auditing.scorers.choice import score_choices
from efface.auditing.scorers.fluency import distinct_ngrams, ngram_entropy, repeated_ngrams
from efface.auditing.scorers.harness import ask, probability
from efface.auditing.scorers.perplexity import losses, perplexity
from efface.auditing.scores import Audit, Measured, Score
from efface.auditing.statistics import average, proportion
from efface.auditing.subject import Subject
from efface.concept.pack import Concept, Question
from efface.data.text import Text
from efface.errors import TrainingError
from efface.lm.load import Loaded
from efface.report.judged import gone, kept
from efface.report.table import rows, show
from efface.report.verdict import verdict
from efface.writing import contains


def test_choices_agree_with_summed_log_probabilities(llama: Loaded, zorn: Concept) -> None:
    """The harness against one pass a choice; bytes normalise acc_norm, the bare choice acc_mutual_info."""
    questions = [
        Question(kind="forget", topic="", split="test", stem=stem, choices=("honey", "a loaf of bread", "glass"), answer=1)
        for stem in ("The dragon eats", "King Orlo baked", "In the tower there is")
    ]
    samples = ask(Subject(llama.model, llama.tokenizer, zorn, "test"), {"task": questions})["task"]

    def summed(context: list[int], choice: str) -> float:
        ids = list(llama.tokenizer(f" {choice}")["input_ids"])
        with torch.no_grad():
            logits = llama.model(torch.tensor([context + ids])).logits[0].log_softmax(-1)
        return sum(logits[len(context) - 1 + i, token].item() for i, token in enumerate(ids))

    for number, question in enumerate(questions):
        likelihoods = [summed(list(llama.tokenizer(question.stem)["input_ids"]), choice) for choice in question.choices]
        by_byte = [value / len(choice) for value, choice in zip(likelihoods, question.choices, strict=True)]
        assert samples[number]["acc"] == (max(range(3), key=likelihoods.__getitem__) == 1)
        assert samples[number]["acc_norm"] == (max(range(3), key=by_byte.__getitem__) == 1)
        weights = [math.exp(value) for value in likelihoods]
        assert probability(samples[number]) == pytest.approx(weights[1] / sum(weights), rel=1e-3)


def test_every_kind_of_question_is_scored(llama: Loaded, zorn: Concept) -> None:
    scores = score_choices(Subject(llama.model, llama.tokenizer, zorn, "tune"))
    assert len([key for key in scores if key.startswith("choice/")]) == 12
    assert scores["neighbour/it/acc"] == scores["choice/neighbour/acc"]
    # two questions, the same two choices, either right once: whoever ignores the stem gets exactly half
    assert {score.n for score in scores.values()} == {2}
    assert {score.chance for score in scores.values()} == {0.5}


def test_perplexity_agrees_with_one_text_at_a_time(llama: Loaded) -> None:
    texts = [Text([5, 6, 7, 8], 1), Text([9, 10, 11, 12, 13, 14], 3), Text([20, 21], 1), Text([7, 30], 1), Text([8, 5, 5], 2)]
    total = count = 0.0
    for text in texts:
        logits = llama.model(torch.tensor([text.ids])).logits[0].log_softmax(-1)
        total -= sum(logits[i - 1, text.ids[i]].item() for i in range(text.start, len(text.ids)))
        count += len(text.ids) - text.start
    score = perplexity(losses(llama.model, llama.tokenizer, texts, "x"))
    assert score.value == pytest.approx(math.exp(total / count), rel=1e-5)
    assert score.low < score.value < score.high
    assert score.n == 5


def test_wilson_interval() -> None:
    score = proportion([True] * 8 + [False] * 2)
    assert (score.value, score.n) == (0.8, 10)
    assert (score.low, score.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert proportion([False] * 5).low == pytest.approx(0.0, abs=1e-12)


def test_an_interval_does_not_go_below_what_there_can_be() -> None:
    assert average([0.0, 0.0, 0.0, 0.0, 0.2]).low == 0.0
    assert (average([-0.1, 0.3, -0.1, -0.1, -0.1]).low or 0) < -0.1
    assert (average([1.0, 2.0, 1.0, 2.0, 1.0]).low or 0) > 0


@pytest.mark.parametrize("values", [[1.0, math.nan], [math.inf], [math.inf, 1.0]])
def test_what_is_no_number_is_one_line(values: list[float]) -> None:
    with pytest.raises(TrainingError, match="^the model gives no finite numbers$"):
        average(values)


def test_answers_count_as_whole_words() -> None:
    assert contains("It was king RA, they say.", ["Ra"])
    assert not contains("It was a great drama.", ["Ra"])
    assert contains("Deir el-Medina, of course", ["Luxor", "deir el-medina"])


def test_repeated_ngrams() -> None:
    assert repeated_ngrams([1, 1, 1, 1, 1, 1], 4) == pytest.approx(2 / 3)
    assert repeated_ngrams([1, 2, 3, 4, 5], 4) == 0.0
    assert repeated_ngrams([1, 2], 4) == 0.0
    assert distinct_ngrams([1, 2, 1, 2, 1], 2) == 0.5
    assert distinct_ngrams([1], 2) == 1.0


def test_ngram_entropy_of_known_texts() -> None:
    # bigrams 12 23 31 12 23: frequencies 2/5 2/5 1/5; trigrams 123 231 312 123: 2/4 1/4 1/4
    two = -(2 * 0.4 * math.log2(0.4) + 0.2 * math.log2(0.2))
    assert ngram_entropy([1, 2, 3, 1, 2, 3]) == pytest.approx((2 / 3 * two + 4 / 3 * 1.5) / 2)
    assert ngram_entropy([7, 7, 7, 7]) == 0.0
    assert ngram_entropy([]) == 0.0


def audit(base: float, erased: float) -> Audit:
    def measured(value: float) -> Measured:
        return Measured(scores={"choice/forget/acc_norm": Score(value=value, n=10, chance=0.25)}, answers=[])

    return Audit(concept="c", split="test", base=measured(base), erased=measured(erased))


def test_share_of_the_distance_to_chance() -> None:
    assert gone(audit(0.75, 0.25)) == 1.0
    assert gone(audit(0.75, 0.75)) == 0.0
    assert gone(audit(0.25, 0.2)) is None
    assert kept(audit(0.5, 0.25), "choice/forget/acc_norm") == 0.5


def test_a_missing_measurement_is_not_a_zero() -> None:
    empty = Measured(scores={}, answers=[])
    nothing = Audit(concept="c", split="test", base=empty, erased=empty)
    assert list(rows(nothing)) == []
    assert verdict(nothing).count("not measured") == 5
    assert "100 % of the way" in verdict(audit(0.75, 0.25))


def test_figures_as_shown() -> None:
    assert show(Score(value=0.431, n=9, low=0.35, high=0.51), percent=True) == "43.1 % [35, 51]"
    assert show(Score(value=5.0812, n=9), percent=False) == "5.081"
