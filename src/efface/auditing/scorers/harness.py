"""The lm-evaluation-harness: its public tasks by name, a user's own task files, and a pack's questions as local tasks."""

import io
import json
import logging
import math
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from jinja2 import TemplateError
from torch import nn

from efface.auditing.batches import fitting, out_of_memory
from efface.auditing.scores import Score
from efface.auditing.statistics import average, proportion
from efface.auditing.subject import Subject
from efface.concept.pack import Concept, Question
from efface.concept.sources import quiet_datasets
from efface.errors import InputError, first_line
from efface.files import write_text
from efface.lm.chat import around, chat_text
from efface.lm.layers import bare
from efface.progress import track

BATCH = 64
LOGITS = 2**28  # of a batch, which the harness holds all at once: a gigabyte, and as much again for what it makes of them
REQUESTS = 512  # choices between two ticks of the bar
METRICS = ("acc", "acc_norm", "acc_mutual_info")
PUBLIC_METRICS = (*METRICS, "exact_match", "em", "f1")
TASK: dict[str, Any] = {
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{stem}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in METRICS],
}
Samples = list[dict[str, Any]]


def score_tasks(subject: Subject) -> dict[str, Score]:
    """``task/{name}/{metric}`` for the tasks that the settings name; a group's figure is over the questions of all its tasks."""
    settings, of_pack = subject.settings, subject.concept.manifest.tasks
    wanted = tuple(dict.fromkeys([*settings.tasks, *(name for names in of_pack.values() for name in names)]))
    if not wanted:
        return {}
    manager = task_manager(wanted, settings.task_folder)
    scores: dict[str, Score] = {}
    by_task: dict[str, Samples] = {}
    for name in wanted:
        options = {"num_fewshot": settings.fewshot or None, "apply_chat_template": settings.chat, "limit": settings.limit}
        with in_one_line(name, "run"):
            found = run(subject, [name], task_manager=manager, **options)
        samples = [sample for leaf in sorted(found) for sample in found[leaf]]
        by_task[name] = samples
        scores |= {f"task/{name}/{metric}": score for metric, score in _figures(samples).items()}
    for kind, names in of_pack.items():
        if not any(question.kind == kind for question in subject.concept.questions):
            pooled = [sample for name in names for sample in by_task[name]]
            scores |= {f"choice/{kind}/{metric}": score for metric, score in _figures(pooled).items() if metric in METRICS}
    return scores


@contextmanager
def in_one_line(task: str, what: str) -> Iterator[None]:
    """Whatever a task's data set raises becomes an InputError. what: cannot be done with it."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, DatasetsError) as error:
        if out_of_memory(error):
            raise
        raise InputError(f"audit.tasks: {task!r} cannot be {what}: {first_line(error)}") from None


def _figures(samples: Samples) -> dict[str, Score]:
    """Every metric that all of these samples have."""
    guessing = [1 / len(sample["doc"]["choices"]) for sample in samples if isinstance(sample["doc"].get("choices"), list)]
    chance = sum(guessing) / len(guessing) if len(guessing) == len(samples) > 0 else None
    scores = {}
    for metric in PUBLIC_METRICS:
        values = [sample[metric] for sample in samples if isinstance(sample.get(metric), int | float)]
        if len(values) == len(samples) > 0:
            binary = set(values) <= {0, 1}
            scores[metric] = proportion([bool(v) for v in values], chance) if binary else average(values, chance)
    return scores


def task_manager(tasks: Sequence[str], folder: str | None) -> Any:
    """The harness's index of tasks. Raises InputError for one that is not in it."""
    if folder is not None and not Path(folder).is_dir():
        raise InputError(f"audit.task_folder: no folder {folder}")
    manager = _index(folder)
    for name in tasks:
        if name not in manager.all_tasks:
            raise InputError(f"audit.tasks: the harness has no task {name!r}; its list: lm-eval ls tasks")
    return manager


@lru_cache(maxsize=2)
def _index(folder: str | None, public: bool = True) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=folder, include_defaults=public)  # the public tasks take five seconds


def ask(subject: Subject, tasks: Mapping[str, Sequence[Question]]) -> dict[str, Samples]:
    """A pack's questions, zero-shot: the harness's samples of every task, in the order of the questions."""
    if not tasks:
        return {}
    with tempfile.TemporaryDirectory(prefix="efface-tasks-") as scratch:
        local = [write_task(Path(scratch), name, questions) for name, questions in tasks.items()]
        return run(subject, local, task_manager=_index(None, public=False))


def run(subject: Subject, tasks: Sequence[Any], **options: Any) -> dict[str, Samples]:
    """Samples of every (leaf) task, in the order of its documents."""
    import lm_eval
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    after = around(subject.tokenizer)[1]
    nothing = subject.tokenizer.bos_token_id is None and subject.tokenizer.eos_token_id is None
    first = {"prefix_token_id": subject.tokenizer.pad_token_id} if nothing else {}  # before a choice without a context

    class OnOurBar(HFLM):  # type: ignore[misc]
        most = BATCH

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **more: Any) -> list[int]:
            ids: list[int] = super().tok_encode(string, add_special_tokens=add_special_tokens, **more)
            return ids[: -len(after)] if after and ids[-len(after) :] == after else ids  # a context is gone on with

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            turns = [(turn["role"], turn["content"]) for turn in chat_history]
            options = {"add_generation_prompt": add_generation_prompt, "continue_final_message": not add_generation_prompt}
            try:
                return chat_text(subject.tokenizer, turns, **options)
            except (TemplateError, TypeError, ValueError):  # a template may refuse a system turn
                return chat_text(subject.tokenizer, [turn for turn in turns if turn[0] != "system"], **options)

        def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            parts = [requests[i : i + REQUESTS] for i in range(0, len(requests), REQUESTS)]
            self.batch_size_per_gpu = min(self.most, _rows(subject, [request.args for request in requests]))
            return [pair for part in track(parts, "choice questions") for pair in super(OnOurBar, self).loglikelihood(part, True)]

    quiet_datasets()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)

    def evaluate(size: int) -> Any:
        with _tied_as_it_is(subject.model):
            model = OnOurBar(pretrained=subject.model, tokenizer=subject.tokenizer, batch_size=size, **first)  # type: ignore[arg-type]
        model.most = size
        return lm_eval.simple_evaluate(
            model=model, tasks=list(tasks), bootstrap_iters=0, log_samples=True, verbosity="ERROR", **options
        )

    with redirect_stdout(io.StringIO()), _without_surroundings():
        out = fitting(evaluate, BATCH)
    return {name: list(_one_filter(samples)) for name, samples in out["samples"].items()}


def _rows(subject: Subject, texts: Sequence[tuple[str, str]]) -> int:
    """How many of these texts have no more than :data:`LOGITS` logits, were all as long as the longest."""
    longest = max(("".join(text) for text in texts), key=len)
    tokens, vocab = len(subject.tokenizer(longest)["input_ids"]), subject.model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    return max(1, LOGITS // (tokens * int(vocab)))


@contextmanager
def _tied_as_it_is(model: nn.Module) -> Iterator[None]:
    """The harness ties the output layer to the embeddings again, which no adapter on one of the two survives."""
    whole = bare(model)
    whole.tie_weights = lambda *_, **__: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        del whole.tie_weights


def _without_surroundings() -> Any:
    """The harness asks git (which complains outside a clone) and the system about themselves at every call; nobody reads that."""
    return patch.multiple("lm_eval.evaluator", get_git_commit_hash=lambda: None, add_env_info=lambda _: None)


def _one_filter(samples: Samples) -> Iterator[dict[str, Any]]:
    """Every document once, in order: a task may score its answers through several filters; the first one counts."""
    by_document: dict[int, Samples] = defaultdict(list)
    for sample in samples:
        by_document[sample["doc_id"]].append(sample)
    for _, of in sorted(by_document.items()):
        yield of[0]


def probability(sample: Mapping[str, Any]) -> float:
    """Of the right choice, after the likelihoods of the choices were normalised."""
    count = len(sample["doc"]["choices"])
    likelihoods = [float(response[0]) for response in sample["filtered_resps"][:count]]
    highest = max(likelihoods)
    weights = [math.exp(value - highest) for value in likelihoods]
    return weights[int(sample["doc"]["answer"])] / sum(weights)


def write_task(folder: Path, name: str, questions: Sequence[Question]) -> dict[str, Any]:
    """Write questions as JSONL and return the harness task that reads them."""
    file = folder / f"{name}.jsonl"
    write_text(file, "".join(json.dumps(question.model_dump()) + "\n" for question in questions))
    return {"task": name, "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": str(folder / "cache")}, **TASK}


def export_tasks(concept: Concept, folder: Path) -> list[str]:
    """Write a pack's questions as task files for the harness's own command line; returns the tasks' names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for kind, split in sorted({(question.kind, question.split) for question in concept.questions}):
        name = f"{concept.name.replace('-', '_')}_{kind}_{split}"
        task = write_task(folder.resolve(), name, concept.ask(kind, split))
        del task["dataset_kwargs"]["cache_dir"]
        write_text(folder / f"{name}.yaml", yaml.safe_dump(task, sort_keys=False))
        names.append(name)
    return names
