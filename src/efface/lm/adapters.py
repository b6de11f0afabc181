"""Adapters: attach a new one, full weights as one, read a finished one."""

import warnings
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from peft import LNTuningConfig, LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.ln_tuning.layer import LNTuningLayer
from safetensors import safe_open
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from efface.errors import ModelError
from efface.lm.layers import and_more, linear_modules
from efface.lm.load import Loaded, in_one_line
from efface.recipe.settings import LoraSettings

ADAPTER = "adapter_model.safetensors"


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


def settle(model: PeftModel) -> None:
    """Give modules that were trained as a whole the precision of the model they stand in."""
    for module in model.modules():
        if isinstance(module, LNTuningLayer):
            module.ln_tuning_layers.to(next(module.base_layer.parameters()).dtype)


def read_adapter(loaded: Loaded, name: str | Path) -> PeftModel:
    """Wrap the model with an adapter from a folder or the hub (safetensors only). Raises ModelError where they do not fit."""
    folder = Path(name) if isinstance(name, Path) or Path(name).is_dir() else _fetched_adapter(name)
    if not (folder / ADAPTER).is_file():
        raise ModelError(f"{name} holds no {ADAPTER}")
    with in_one_line(f"the adapter {name} does not fit {loaded.source}"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns of what is an error below
        model: PeftModel = PeftModel.from_pretrained(loaded.model, folder)
        with safe_open(folder / ADAPTER, framework="pt") as file:
            there = set(file.keys())
        expected = set(get_peft_model_state_dict(model, save_embedding_layers=False))
        if missing := sorted(expected - there):
            raise ModelError(f"it lacks {missing[0]}{and_more(missing)}")
        if unknown := sorted(there - expected - model.state_dict().keys()):  # whole embeddings may be there
            raise ModelError(f"this model has no place for {unknown[0]}{and_more(unknown)}")
    return model.eval()


def _fetched_adapter(name: str) -> Path:
    """Folder of an adapter on the hub: from a folder with safetensors peft does not unpickle."""
    with in_one_line(f"cannot fetch adapter_config.json and {ADAPTER} of {name}"):
        hf_hub_download(name, "adapter_config.json")
        return Path(hf_hub_download(name, ADAPTER)).parent
