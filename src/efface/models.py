"""Language models: load from hub, folder or GGUF; find their layers; attach an adapter; the teacher inside the student.

Nothing here looks at a model's name: decoder layers and linear modules are found from the module tree.
"""

import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from peft import LNTuningConfig, LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.ln_tuning.layer import LNTuningLayer
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D
from transformers.utils.logging import disable_progress_bar

from efface.embedded import ALIASES, fetch, mark_dequantised
from efface.errors import ModelError
from efface.memory import set_up_memory
from efface.ranks import local_rank, processes
from efface.recipe import LoraSettings

ADAPTER = "adapter_model.safetensors"

#: the day of every prompt, where a chat template wants one: targets and figures that are kept must not depend on today's
DAY = date(2024, 7, 26)
TODAY = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")


@dataclass(frozen=True)
class Loaded:
    """A model with its tokenizer; ``source`` is what the user named, ``path`` where it was read from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    path: str


def load(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    device_map: str | None = None,
    load_in_4bit: bool = False,
) -> Loaded:
    """Load a decoder-only model and its tokenizer onto the best device, ready for evaluation.

    device_map: spread the layers over all devices ("auto") instead; load_in_4bit: frozen weights in 4 bits (bitsandbytes).
    name: hub id, folder, ``.gguf`` file, or an alias (``smollm2-135m``). Raises ModelError in one line.
    """
    path = str(fetch(name)) if name in ALIASES else name
    set_up_memory()
    if not sys.stderr.isatty():  # a bar that redraws itself is no use in a log file
        disable_progress_bar()
    folder, options = path, {"revision": revision, "trust_remote_code": trust_remote_code}
    if path.endswith(".gguf"):
        if not Path(path).is_file():
            raise ModelError(f"no GGUF file {path}")
        folder, options["gguf_file"] = str(Path(path).parent), Path(path).name
    elif not Path(path).is_dir() and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path):
        raise ModelError(f"no model {name!r}: expected a hub id, a folder, a .gguf file, or one of {', '.join(ALIASES)}")
    placed = _placement(device_map, load_in_4bit, dtype)
    checked = {"output_loading_info": True, "ignore_mismatched_sizes": True, "use_safetensors": True}
    with _in_one_line(f"cannot load model {name!r}"):
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        model, found = AutoModelForCausalLM.from_pretrained(folder, dtype=resolve_dtype(dtype), **checked, **options, **placed)
        _require_all_weights(found)
        model.eval()
        if not placed:
            model = model.to(best_device())
    with _in_one_line(f"the chat template of {name!r} cannot be used"):
        chat_prompt(tokenizer, "?")
    if "gguf_file" in options:
        mark_dequantised(model)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = next((i for i in (tokenizer.eos_token_id, tokenizer.bos_token_id) if i is not None), 0)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    _whole_rows(model)
    if len(decoder_layers(model)[1]) == 0:
        raise ModelError(f"{name!r} has no list of decoder layers; expected a decoder-only language model")
    return Loaded(model, tokenizer, name, path)


@contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    """Whatever the libraries raise becomes a ModelError; a device without room for the weights is none of the model's faults."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # these have no common root
        raise ModelError(f"{what}: {next(iter(str(error).strip().splitlines()), type(error).__name__)}") from None


def _require_all_weights(found: Mapping[str, Any]) -> None:
    """Raises ModelError for a weight that transformers would draw at random: not in the file, or of another shape."""
    if missing := sorted(found["missing_keys"]):
        raise ModelError(f"its weights lack {missing[0]}{_and_more(missing)}, which its configuration asks for")
    if mismatched := sorted(found["mismatched_keys"]):
        key, came, expected = mismatched[0]
        raise ModelError(f"expected {key} of shape {list(expected)}, got {list(came)}{_and_more(mismatched)}")


def _and_more(keys: Sequence[Any]) -> str:
    return f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""


def _whole_rows(model: PreTrainedModel) -> None:
    """Hand the output layer its states without gaps.

    The states of the last positions alone are a view with gaps; for such a view and frozen weights torch copies the whole weight
    matrix once for every row (11 GB for 192 rows of a model of 135M parameters).
    """

    def close(_: nn.Module, entering: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (entering[0].contiguous(), *entering[1:])

    if (head := model.get_output_embeddings()) is not None:
        head.register_forward_pre_hook(close)


def _placement(device_map: str | None, load_in_4bit: bool, dtype: str) -> dict[str, Any]:
    """Where from_pretrained puts the weights, and in how many bits; empty: we move the whole model ourselves."""
    if device_map and processes() > 1:
        raise ModelError("device_map spreads one process over all devices; drop it, or start a single process")
    if load_in_4bit:
        if not importlib.util.find_spec("bitsandbytes"):
            raise ModelError("load_in_4bit needs bitsandbytes; try: pip install bitsandbytes")
        bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=resolve_dtype(dtype))
        return {"device_map": device_map or {"": best_device()}, "quantization_config": bits}
    return {"device_map": device_map} if device_map else {}


def best_device() -> torch.device:
    """This process's accelerator if there is one, else the processor."""
    return torch.device("cuda", local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def has_bfloat16() -> bool:
    """Whether the device computes in bfloat16 rather than emulating it."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return "AVX512" in torch.backends.cpu.get_cpu_capability() and bool(torch.cpu._is_avx512_bf16_supported())


def resolve_dtype(dtype: str) -> torch.dtype:
    """``auto`` is bfloat16 where the device computes in it, else float32."""
    if dtype == "auto":
        return torch.bfloat16 if has_bfloat16() else torch.float32
    resolved: torch.dtype = getattr(torch, dtype)
    return resolved


def decoder_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Name and content of the model's list of decoder layers: its longest ModuleList of one class that holds linear modules."""
    best: tuple[str, nn.ModuleList] = ("", nn.ModuleList())
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) > len(best[1]):
            alike = len({type(child) for child in module}) == 1
            if alike and any(_is_linear(child) for child in module[0].modules()):
                best = (name, module)
    return best


def linear_modules(model: nn.Module, layers: str = "all", modules: str = "all") -> list[str]:
    """Full names of the linear modules in the chosen layers. Raises ModelError for one that is not there."""
    prefix, blocks = decoder_layers(model)
    chosen = parse_layers(layers, len(blocks))
    by_layer = {i: [name for name, module in blocks[i].named_modules() if _is_linear(module)] for i in chosen}
    known = sorted({name.rsplit(".", 1)[-1] for names in by_layer.values() for name in names})
    wanted = known if modules == "all" else [part.strip() for part in modules.split(",")]
    for name in wanted:
        if name not in known:
            raise ModelError(f"lora.modules: no linear module {name!r} in these layers; there are: {', '.join(known)}")
    return [f"{prefix}.{i}.{name}" for i, names in by_layer.items() for name in names if name.rsplit(".", 1)[-1] in wanted]


def parse_layers(layers: str, count: int) -> list[int]:
    """``"4-7,12"`` or ``"0%-57%"`` (shares of the depth) as numbers, checked against a model of ``count`` layers."""
    if layers == "all":
        return list(range(count))
    if shares := re.fullmatch(r"\s*(\d+)%-(\d+)%\s*", layers):
        low, high = (min(int(share), 100) for share in shares.groups())
        if low > high:
            raise ModelError(f"lora.layers: expected the lower share first, got {layers!r}")
        first = min(round(low * count / 100), count - 1)
        return list(range(first, max(round(high * count / 100), first + 1)))
    chosen: set[int] = set()
    for part in layers.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise ModelError(f"lora.layers: expected 'all', numbers such as '4-7,12' or shares such as '0%-57%', got {layers!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last or last >= count:
            raise ModelError(f"lora.layers: {part.strip()!r} is out of range; this model has layers 0 to {count - 1}")
        chosen.update(range(first, last + 1))
    return sorted(chosen)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, (nn.Linear, Conv1D))


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
    with _in_one_line(f"the adapter {name} does not fit {loaded.source}"):
        model: PeftModel = PeftModel.from_pretrained(loaded.model, folder)
        with safe_open(folder / ADAPTER, framework="pt") as file:
            there = set(file.keys())
        expected = set(get_peft_model_state_dict(model, save_embedding_layers=False))
        if missing := sorted(expected - there):
            raise ModelError(f"it lacks {missing[0]}{_and_more(missing)}")
        if unknown := sorted(there - expected - model.state_dict().keys()):  # whole embeddings may be there
            raise ModelError(f"this model has no place for {unknown[0]}{_and_more(unknown)}")
    return model.eval()


def _fetched_adapter(name: str) -> Path:
    """Folder of an adapter on the hub: from a folder with safetensors peft does not unpickle."""
    with _in_one_line(f"cannot fetch adapter_config.json and {ADAPTER} of {name}"):
        hf_hub_download(name, "adapter_config.json")
        return Path(hf_hub_download(name, ADAPTER)).parent


@contextmanager
def teacher(model: PreTrainedModel | PeftModel) -> Iterator[PreTrainedModel]:
    """The frozen base model inside the student: the same weights with the adapter disabled, in evaluation mode."""
    was_training = model.training
    model.eval()
    try:
        if isinstance(model, PeftModel):
            with model.disable_adapter():
                yield model
        else:
            yield model
    finally:
        model.train(was_training)


def bare(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside whatever wraps it (adapter, distribution)."""
    while not isinstance(model, PreTrainedModel):
        model = model.get_base_model() if isinstance(model, PeftModel) else model.module  # type: ignore[assignment]
    return model


def wrapped(model: nn.Module) -> PeftModel:
    """The model with its adapter inside whatever wraps it (distribution)."""
    while not isinstance(model, PeftModel):
        model = model.module  # type: ignore[assignment]
    return model


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of all parameters (first 16 hexadecimal digits).

    Raises ModelError for weights that were left on the disk.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if tensor.is_meta:
            raise ModelError(f"the weights do not fit: {name} was left on the disk; use more devices, or --load-in-4bit")
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def chat_prompt(tokenizer: PreTrainedTokenizerBase, question: str) -> list[int]:
    """Token ids of a question in the model's chat format (or the plain question, for a model without one).

    The same on every day: a template that tells the model today's date is told :data:`DAY`.
    """
    if tokenizer.chat_template is None:
        return prefix(tokenizer) + list(tokenizer(f"{question}\n", add_special_tokens=False)["input_ids"])
    text: Any = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        tokenize=False,
        chat_template=TODAY.sub(lambda call: repr(DAY.strftime(call[2])), tokenizer.get_chat_template()),
        date_string=DAY.strftime("%d %b %Y"),  # of these a template that does not know them takes no notice
        enable_thinking=False,
    )
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def prefix(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer puts before every text (a beginning-of-text token, or nothing)."""
    with_specials = tokenizer("a")["input_ids"]
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    for i in range(len(with_specials) - len(plain) + 1):
        if with_specials[i : i + len(plain)] == plain:
            return list(with_specials[:i])
    return []


def without_prefix(ids: list[int], before: list[int]) -> list[int]:
    """The ids without a leading ``before``, so that something can be put between the two."""
    return ids[len(before) :] if before and ids[: len(before)] == before else ids
