"""The training loop: transformers.Trainer with the loss of a method. The only subclass."""

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import PeftModel
from peft.helpers import disable_input_dtype_casting
from torch import nn
from torch.utils.data import Sampler, SequentialSampler
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint, set_seed

from efface.cpu.memory import give_back
from efface.cpu.norms import lean
from efface.data.batches import Collator, Example, Schedule
from efface.errors import TrainingError
from efface.files import damaged, seal, writing
from efface.lm.adapters import settle
from efface.lm.load import has_bfloat16
from efface.lm.states import without_padding
from efface.losses import LossTerms
from efface.processes import is_main, processes, wait
from efface.progress import Bar
from efface.recipe.recipe import Recipe
from efface.shown import complain


class Objective(Protocol):
    """What is minimised; see :class:`efface.methods.method.Method`."""

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> LossTerms:
        """Terms of the loss for a batch of :class:`efface.data.batches.Collator`."""
        ...

    def constrain(self, model: PeftModel, batches: Callable[[], Any]) -> Callable[[], None] | None:
        """Called before training; what it returns is called after every optimiser step."""
        ...


class EraseTrainer(Trainer):  # type: ignore[misc]
    """Minimises the terms of a method, logs each of them, stops at the first loss that is not finite."""

    def __init__(self, method: Objective, **options: Any) -> None:
        super().__init__(**options)
        self.method = method
        self.model_accepts_loss_kwargs = False  # the loss is a mean over texts: accumulation averages it
        self._sums: dict[str, float] = {}
        self._counted = 0

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> torch.Tensor:
        """Sum of the method's terms for one batch."""
        terms = self.method.loss(model, {**inputs, "progress": self.state.global_step / max(1, self.state.max_steps)})
        total = terms.total()
        if not math.isfinite(total.item()):
            raise TrainingError(f"the loss is {total.item()} at step {self.state.global_step}; try a smaller train.lr")
        self._count(terms)
        return total

    def _count(self, terms: LossTerms) -> None:
        self._counted += 1
        for name, value in terms.named().items():
            self._sums[name] = self._sums.get(name, 0.0) + value.item()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of every term since the last log line."""
        if "loss" in logs and self._counted:
            means = torch.tensor([value / self._counted for value in self._sums.values()], device=self.args.device)
            logs.update(zip(self._sums, self.accelerator.reduce(means, "mean").tolist(), strict=True))
            self._sums, self._counted = {}, 0
        super().log(logs, start_time)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Its checksums are written when every process has written its part."""
        with writing(Path(self.args.output_dir)):
            super()._save_checkpoint(model, trial)
        wait()
        if is_main():
            seal(Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)


class _Progress(TrainerCallback):  # type: ignore[misc]
    """The Trainer's steps on our bar, with the latest terms beside it."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.bar.start_at(state.global_step)

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            shown = (f"{name} {logs[name]:.3f}" for name in ("erase", "retain", "fluency") if name in logs)
            self.bar.step("  ".join(shown))


class _AfterStep(TrainerCallback):  # type: ignore[misc]
    """What is done after every step."""

    def __init__(self, works: Sequence[Callable[[], None]]) -> None:
        self.works = works

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for work in self.works:
            work()


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint; one that a kill cut short, or that is damaged, is removed, and the one before it serves."""
    while folder.is_dir() and (newest := get_last_checkpoint(str(folder))) is not None:
        if (bad := damaged(Path(newest))) is None:
            return str(newest)
        if is_main():
            complain(f"{newest} is not whole ({bad} is missing or damaged); it is dropped")
        shutil.rmtree(newest)
    return None


def schedule(corpora: Mapping[str, Sequence[Example]], recipe: Recipe) -> Schedule:
    """What the recipe's steps will see, in order; as many steps as ``train.tokens`` asks for, if it is set.

    Each process of a job takes a batch of its own in every pass.
    """
    per_step, ratio = recipe.train.batch_size * recipe.train.accumulation * processes(), recipe.per_item
    steps = recipe.train.steps
    if recipe.train.tokens is not None:
        sizes = {term: sum(example.tokens for example in rows) / len(rows) for term, rows in corpora.items() if rows}
        steps = max(1, round(recipe.train.tokens / per_step / sum(size * ratio.get(term, 1) for term, size in sizes.items())))
    return Schedule(corpora, steps * per_step, recipe.seed, ratio)


@contextmanager
def ready(model: PeftModel, autocast: bool) -> Iterator[None]:
    """The model as it reads a training batch. autocast: the passes run under it, so the adapter's own casts would repeat it."""
    with without_padding(model), lean(model), disable_input_dtype_casting(model, active=autocast):
        yield


def _arguments(recipe: Recipe, model: PeftModel, steps: int, folder: Path) -> TrainingArguments:
    """What transformers' Trainer is told; one device a process, whatever a launcher's configuration says."""
    settings, on_cpu = recipe.train, model.device.type == "cpu"
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        activation_checkpointing=settings.checkpointing,
        ddp_find_unused_parameters=False,
        learning_rate=settings.lr,
        lr_scheduler_type=settings.schedule if settings.schedule != "constant" else "constant_with_warmup",
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.clip,
        bf16=recipe.dtype != "float32" and (has_bfloat16() or model.dtype == torch.bfloat16),
        save_steps=settings.checkpoint_steps,
        save_total_limit=2,  # the last may not be whole
        logging_steps=1,
        use_cpu=on_cpu,
        ddp_backend="gloo" if processes() > 1 and on_cpu else None,
        report_to="none",
        disable_tqdm=True,
        use_cache=True,  # the Trainer writes it into the model's configuration, where it stays; no pass here uses one
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        seed=recipe.seed,
    )
    arguments.mixed_precision = "bf16" if arguments.bf16 else "no"  # whatever a launcher's configuration says
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # several devices are used by one process each, never by torch's DataParallel
    return arguments


def train(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    method: Objective,
    corpora: Mapping[str, Sequence[Example]],
    recipe: Recipe,
    folder: Path,
    adapter: Path | None = None,
) -> list[dict[str, float]]:
    """Train the adapter, going on from the last checkpoint in ``folder`` if there is one; returns the log of losses.

    Under accelerate every process calls this; the first of them writes the adapter to ``adapter``.
    Raises TrainingError when the loss is not finite, or when there is nothing to train on.
    """
    if not corpora:
        raise TrainingError(f"method {recipe.method} has nothing to train on: expected a term with a weight and texts")
    settings = recipe.train
    set_seed(recipe.seed)
    planned = schedule(corpora, recipe)
    steps = len(planned) // (settings.batch_size * settings.accumulation * processes())
    if is_main():
        last_checkpoint(folder)  # removes one that is not whole
    wait()
    arguments = _arguments(recipe, model, steps, folder)
    with Bar("training", steps) as bar, ready(model, arguments.bf16):
        trainer = EraseTrainer(
            method,
            model=model,
            args=arguments,
            train_dataset=planned,
            data_collator=Collator(tokenizer.pad_token_id),
            callbacks=[_Progress(bar)],
        )
        trainer.remove_callback(PrinterCallback)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=arguments.bf16):
            constrain = method.constrain(model, trainer.get_train_dataloader)
        # passes of other lengths leave blocks in a processor's heap that fit no other: step by step it would grow
        works = (constrain, give_back if arguments.use_cpu else None)
        trainer.add_callback(_AfterStep([work for work in works if work is not None]))
        trainer.train(resume_from_checkpoint=last_checkpoint(folder))
        settle(model)
        if adapter is not None:
            with writing(adapter):
                trainer.save_model(str(adapter))
                (adapter / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing reads
        trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # no autocast after training
    return [entry for entry in trainer.state.log_history if "loss" in entry]
