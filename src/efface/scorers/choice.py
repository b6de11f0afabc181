"""Multiple choice: the pack's questions as local tasks of the lm-evaluation-harness, zero-shot.

``acc``: the likeliest choice is right; ``acc_norm``: likeliest per byte; ``acc_mutual_info``: the one whose likelihood the
question raises most. Chance is one over the number of choices.
"""

import contextlib
import io
import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from efface.concept import Kind, Question
from efface.progress import track
from efface.results import Score, proportion
from efface.scorers.scorer import Subject

REQUESTS = 512  # choices between two ticks of the bar
METRICS = ("acc", "acc_norm", "acc_mutual_info")
TASK: dict[str, Any] = {
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{stem}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in METRICS],
}


def score_choices(subject: Subject) -> dict[str, Score]:
    """``choice/{kind}/{metric}`` for forget, neighbour and general questions."""
    asked = {kind: subject.concept.ask(kind, subject.split) for kind in get_args(Kind)}
    scores: dict[str, Score] = {}
    for kind, hits in evaluate(subject, {kind: questions for kind, questions in asked.items() if questions}).items():
        guessing = chance(asked[kind])
        scores |= {f"choice/{kind}/{metric}": proportion(values, guessing) for metric, values in hits.items()}
    return scores


def chance(questions: Sequence[Question]) -> float:
    """Accuracy of guessing: the mean of one over the number of choices."""
    return sum(1 / len(question.choices) for question in questions) / len(questions)


def score_without_question(subject: Subject) -> dict[str, Score]:
    """``choice_only/{kind}/{metric}``: the same choices after "It is". Far from chance: they give the answer away."""
    bare = {
        kind: [question.model_copy(update={"stem": "It is"}) for question in subject.concept.questions if question.kind == kind]
        for kind in get_args(Kind)
    }
    hits = evaluate(subject, {kind: questions for kind, questions in bare.items() if questions})
    return {f"choice_only/{kind}/{m}": proportion(hits[kind][m]) for kind in hits for m in ("acc", "acc_norm")}


def evaluate(subject: Subject, tasks: dict[str, Sequence[Question]]) -> dict[str, dict[str, list[bool]]]:
    """Run questions through the harness: for every task and metric, whether each question was answered right, in order."""
    import datasets
    import lm_eval
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    class OnOurBar(HFLM):  # type: ignore[misc]
        def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            parts = [requests[i : i + REQUESTS] for i in range(0, len(requests), REQUESTS)]
            return [pair for part in track(parts, "choice questions") for pair in super(OnOurBar, self).loglikelihood(part, True)]

    datasets.disable_progress_bars()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="efface-tasks-") as scratch, contextlib.redirect_stdout(io.StringIO()):
        model = OnOurBar(pretrained=subject.model, tokenizer=subject.tokenizer, batch_size=64)  # type: ignore[arg-type]
        out: Any = lm_eval.simple_evaluate(
            model=model,
            tasks=[write_task(Path(scratch), name, questions) for name, questions in tasks.items()],
            bootstrap_iters=0,
            log_samples=True,
            verbosity="ERROR",
        )
    hits: dict[str, dict[str, list[bool]]] = {}
    for name in tasks:
        samples = sorted(out["samples"][name], key=lambda sample: sample["doc_id"])
        hits[name] = {metric: [bool(sample[metric]) for sample in samples] for metric in METRICS}
    return hits


def write_task(folder: Path, name: str, questions: Sequence[Question]) -> dict[str, Any]:
    """Write questions as JSONL and return the harness task that reads them."""
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(question.model_dump()) + "\n" for question in questions), encoding="utf-8")
    arguments = {"data_files": {"test": str(file)}, "cache_dir": str(folder / "cache")}
    return {"task": name, "dataset_kwargs": arguments, **TASK}
