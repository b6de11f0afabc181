"""Adapters: attach a new one, full weights as one, read a finished one."""

import json
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from peft import LNTuningConfig, LoraConfig, PeftConfig, PeftModel, PeftType, TaskType, get_peft_model, get_peft_model_state_dict
from peft.tuners.ln_tuning.layer import LNTuningLayer
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from efface.errors import ModelError
from efface.lm.layers import and_more, linear_modules, teacher
from efface.lm.load import Loaded, in_one_line, require_finite, require_no_revision
from efface.lm.states import require_head, some_logits
from efface.recipe.settings import LoraSettings

ADAPTER = "adapter_model.safetensors"
#: kinds of adapters that ask for a task's number, for other adapters, route by the mean of a batch, or run a second model
MORE_THAN_WEIGHTS = {PeftType.POLY, PeftType.XLORA, PeftType.LILY, PeftType.SHADOW}
#: settings of LoRA that do the same: an adapter that a word calls, one that chooses among others
CALLED = ("alora_invocation_tokens", "arrow_config")


def attach_adapter(model: PreTrainedModel, settings: LoraSettings, seed: int) -> PeftModel:
    """Wrap the model with a fresh LoRA adapter, the only weights that train (float32 whatever the model's precision)."""
    targets = linear_modules(model, settings.layers, settings.modules)
    if settings.rank == 0:
        if any(not parameter.is_floating_point() for parameter in model.parameters()):
            raise ModelError("lora.rank 0 trains full weights, which a model in 4 bits does not have; give it a rank")
        return full_weights(model, targets)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # peft scales by a float just as well
        lora_dropout=settings.dropout,
        target_modules=targets,
        fan_in_fan_out=isinstance(model.get_submodule(targets[0]), Conv1D),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(model, config)  # type: ignore[return-value]


def full_weights(model: PreTrainedModel, targets: list[str]) -> PeftModel:
    """Wrap the model with copies of these modules, in float32, that train as a whole; disabled, the model is what it was.

    peft's LN tuning does that for any module, not only for the layer norms it was made for.
    """
    student: PeftModel = get_peft_model(model, LNTuningConfig(target_modules=targets, task_type="CAUSAL_LM"))  # type: ignore[assignment]
    for parameter in student.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    for module in student.modules():
        if isinstance(module, LNTuningLayer):
            module.cast_input_dtype_enabled = False  # it casts nothing; peft asks every layer of an adapter
    return student


def whole_weights(model: PreTrainedModel) -> PeftModel:
    """:func:`full_weights` of all layers' linear modules, of embeddings and output layer; what is tied stays so."""
    if any(not parameter.is_floating_point() for parameter in model.parameters()):
        raise ModelError("full weights cannot be trained in a model in 4 bits, which has none")
    ends = [of for of in (model.get_input_embeddings(), model.get_output_embeddings()) if of is not None]
    names = [name for name, module in model.named_modules() if any(module is end for end in ends)]
    student = full_weights(model, [*linear_modules(model), *names])
    copies = [student.get_base_model().get_submodule(name).ln_tuning_layers["default"] for name in names]
    if len(ends) == 2 and ends[0].weight is ends[1].weight:
        copies[1].weight = copies[0].weight
    return student


def settle(model: PeftModel) -> None:
    """Give modules that were trained as a whole the precision of the model they stand in."""
    for module in model.modules():
        if isinstance(module, LNTuningLayer):
            module.ln_tuning_layers.to(next(module.base_layer.parameters()).dtype)


def name_base(adapter: Path, hub: str | None) -> None:
    """Let a saved adapter name its base by the id on the hub alone, no path of this machine; and drop peft's empty card."""
    (adapter / "README.md").unlink(missing_ok=True)
    file = adapter / "adapter_config.json"
    config = {**json.loads(file.read_text(encoding="utf-8")), "base_model_name_or_path": hub}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_adapter(loaded: Loaded, name: str | Path, revision: str | None = None) -> PeftModel:
    """Wrap the model with an adapter from a folder or the hub (safetensors only), there at a branch, tag or commit.

    Raises ModelError where they do not fit, and for an adapter of a kind under which base or erased model could not be measured:
    one that puts tokens before a text, or that is not all gone when it is disabled.
    """
    if isinstance(name, Path) or Path(name).is_dir():
        require_no_revision(name, revision)
        folder = Path(name)
    else:
        folder = _fetched_adapter(name, revision)
    if not (folder / ADAPTER).is_file():
        raise ModelError(f"{name} holds no {ADAPTER}")
    with in_one_line(f"the adapter {name} does not fit {loaded.source}"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns of what is an error below
        _require_update_of_weights(config := PeftConfig.from_pretrained(folder))
        config.task_type = TaskType.CAUSAL_LM  # for another task peft would hand on less than this model is told
        before, changed = some_logits(loaded.model), _changed(folder / ADAPTER, loaded.model)
        model: PeftModel = PeftModel.from_pretrained(loaded.model, folder, config=config).eval()
        with safe_open(folder / ADAPTER, framework="pt") as file:
            there = set(file.keys())
        expected = set(get_peft_model_state_dict(model, save_embedding_layers=False))
        if missing := sorted(expected - there):
            raise ModelError(f"it lacks {missing[0]}{and_more(missing)}")
        if unknown := sorted(there - expected - model.state_dict().keys()):  # whole embeddings may be there
            raise ModelError(f"this model has no place for {unknown[0]}{and_more(unknown)}")
        require_finite(model)
        _require_base(model, before, changed & model.state_dict().keys())
        require_head(model)
    return model


def add_adapter(model: PeftModel, folder: Path, name: str) -> None:
    """Put one more adapter from a folder beside the one that is on, switched off. Raises ModelError where it does not fit."""
    with in_one_line(f"the adapter {folder} does not fit beside another"):
        found = model.load_adapter(folder, name, is_trainable=False)
        lost = [key for key in found.missing_keys if f".{name}." in key]
        if wrong := sorted([*lost, *found.unexpected_keys]):
            raise ModelError(f"expected the same modules as in the model, got {wrong[0]}{and_more(wrong)}")
        require_finite(model)
    model.eval()


@contextmanager
def only(model: PreTrainedModel | PeftModel, adapters: Sequence[str]) -> Iterator[PreTrainedModel]:
    """The model with these of its adapters on, whose updates add up, in evaluation mode; none: the base."""
    if not adapters:
        with teacher(model) as base:
            yield base
        return
    assert isinstance(model, PeftModel)
    before = model.active_adapters
    model.base_model.set_adapter(list(adapters), inference_mode=True)
    try:
        yield model  # type: ignore[misc]
    finally:
        model.base_model.set_adapter(before, inference_mode=True)


def _require_update_of_weights(config: PeftConfig) -> None:
    """Raises ModelError for what is more: tokens before a text, other adapters, another update from text to text."""
    called = any(getattr(config, name, None) for name in CALLED)
    if config.is_prompt_learning or config.peft_type in MORE_THAN_WEIGHTS or called:
        raise ModelError(f"{config.peft_type.value} changes what the model reads, not only its weights; that cannot be measured")


def _changed(file: Path, model: PreTrainedModel) -> set[str]:
    """The keys of an adapter's file that could be weights of the model itself (embeddings, biases) and are others."""
    own, changed = model.state_dict(), set()
    with safe_open(file, framework="pt") as tensors:
        for key in set(tensors.keys()):
            weight = own.get(key.removeprefix("base_model.model.").replace(".base_layer.", "."))
            if weight is not None and not torch.equal(tensors.get_tensor(key).to(weight), weight):
                changed.add(key)
    return changed


@torch.no_grad()
def _require_base(model: PeftModel, before: Tensor, changed: Collection[str]) -> None:
    """Raises ModelError where the model with its adapter disabled is not the model as it was. before: its logits."""
    with teacher(model) as base:
        apart = (some_logits(base) - before).abs().max()
    if changed or not apart <= 0.01 * before.abs().max():
        what = f"other weights for {min(changed)}{and_more(sorted(changed))}" if changed else "other weights for the model itself"
        raise ModelError(
            f"it holds {what}, so the base cannot be told from it; merge it into its base, and name the folder of that"
        )


def _fetched_adapter(name: str, revision: str | None) -> Path:
    """Folder of an adapter on the hub: from a folder with safetensors peft does not unpickle."""
    with in_one_line(f"cannot fetch adapter_config.json and {ADAPTER} of {name}"):
        hf_hub_download(name, "adapter_config.json", revision=revision)
        return Path(hf_hub_download(name, ADAPTER, revision=revision)).parent
