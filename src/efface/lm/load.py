"""Load a language model and its tokenizer from the hub, a folder or a GGUF file; what identifies its weights."""

import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar
from transformers.utils.peft_utils import find_adapter_config_file

from efface.cpu.memory import set_up_memory
from efface.errors import ModelError, first_line
from efface.lm.bundled import ALIASES, fetch, mark_dequantised
from efface.lm.chat import around, chat_prompt
from efface.lm.layers import and_more, decoder_layers
from efface.processes import local_rank, processes


@dataclass(frozen=True)
class Loaded:
    """A model with its tokenizer; ``source`` is what the user named, ``path`` where it was read from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    path: str

    @property
    def hub(self) -> str | None:
        """The id of the model on the hub; None where it was read from somewhere else."""
        return self.source if self.source == self.path and not Path(self.path).exists() else None


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
    set_up_memory()
    if not sys.stderr.isatty():  # a bar that redraws itself is no use in a log file
        disable_progress_bar()
    path, options = _where(name, revision)
    options |= {"revision": revision, "trust_remote_code": trust_remote_code}
    placed = _placement(device_map, load_in_4bit, dtype)
    checked = {"output_loading_info": True, "ignore_mismatched_sizes": True, "use_safetensors": True}
    with in_one_line(f"cannot load model {name!r}"):
        tokenizer = AutoTokenizer.from_pretrained(**options)
        model, found = _auto_class(options).from_pretrained(dtype=resolve_dtype(dtype), **checked, **options, **placed)
        _require_all_weights(found)
        require_finite(model)
        model.eval()
        if not placed:
            model = model.to(best_device())
    if not {*tokenizer("zymurgy", add_special_tokens=False)["input_ids"]} - {tokenizer.unk_token_id}:
        raise ModelError(f"the tokenizer of {name!r} makes nothing of a text; expected its vocabulary (tokenizer.json)")
    with in_one_line(f"the chat template of {name!r} cannot be used"):
        chat_prompt(tokenizer, "?")
    if "gguf_file" in options:
        mark_dequantised(model)
    _require_embeddings(name, model, tokenizer)
    _whole_rows(model)
    if len(decoder_layers(model)[1]) == 0 or model.config.is_encoder_decoder:
        raise ModelError(f"{name!r} has no list of decoder layers; expected a decoder-only language model")
    return Loaded(model, tokenizer, name, path)


def _where(name: str, revision: str | None = None) -> tuple[str, dict[str, Any]]:
    """Path or hub id for a name as in :func:`load`, and how transformers is told. Raises ModelError for what can be neither."""
    if name in ALIASES or name.endswith(".gguf") or Path(name).is_dir():
        require_no_revision(name, revision)
    path = str(fetch(name)) if name in ALIASES else name
    if path.endswith(".gguf"):
        if not Path(path).is_file():
            raise ModelError(f"no GGUF file {path}")
        return path, {"pretrained_model_name_or_path": str(Path(path).parent), "gguf_file": Path(path).name}
    if not Path(path).is_dir() and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path):
        raise ModelError(f"no model {name!r}: expected a hub id, a folder, a .gguf file, or one of {', '.join(ALIASES)}")
    if (Path(path) / "run.json").is_file():
        raise ModelError(f"{name!r} is a run, an adapter and no whole model; write one with: efface export {name} --to DIR")
    if is_adapter(path, revision):
        merged = "expected a whole model; merge the adapter into its base (merge_and_unload of peft), and name the folder of that"
        raise ModelError(f"{name!r} is an adapter: {merged}")
    return path, {"pretrained_model_name_or_path": path}


def require_no_revision(name: str | Path, revision: str | None) -> None:
    """Raises ModelError for a revision of what has none: a folder, a file."""
    if revision is not None:
        raise ModelError(f"revision {revision}: {str(name)!r} is no model on the hub; drop it, or name one there")


def is_adapter(name: str, revision: str | None = None) -> bool:
    """Whether a folder or hub id holds an adapter rather than a whole model."""
    try:
        return find_adapter_config_file(name, revision=revision) is not None
    except (OSError, ValueError):
        return False  # what is wrong with it is said when it is loaded


def require_model(name: str) -> None:
    """Raises ModelError for a name, as in :func:`load`, behind which there is no model; no weights are read."""
    _, options = _where(name)
    if "gguf_file" not in options:
        with in_one_line(f"cannot find model {name!r}"):
            AutoConfig.from_pretrained(**options, trust_remote_code=False)  # None would ask


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Whatever the libraries raise becomes a ModelError; a device without room for the weights is none of the model's faults."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # these have no common root
        raise ModelError(f"{what}: {first_line(error)}") from None


def _require_all_weights(found: Mapping[str, Any]) -> None:
    """Raises ModelError for a weight that transformers would draw at random: not in the file, or of another shape."""
    if missing := sorted(found["missing_keys"]):
        raise ModelError(f"its weights lack {missing[0]}{and_more(missing)}, which its configuration asks for")
    if mismatched := sorted(found["mismatched_keys"]):
        key, came, expected = mismatched[0]
        raise ModelError(f"expected {key} of shape {list(expected)}, got {list(came)}{and_more(mismatched)}")


def require_finite(model: nn.Module) -> None:
    """Raises ModelError for weights that are no numbers."""
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and not weight.is_meta and not weight.isfinite().all():
            what = "NaN" if weight.isnan().any() else "infinite"
            raise ModelError(f"its weights are {what} in {name}; expected numbers")


def _auto_class(options: Mapping[str, Any]) -> Any:
    """What reads a model: one that sees too is of another class than one that only reads."""
    kind = None if "gguf_file" in options else type(AutoConfig.from_pretrained(**options))
    sees = kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and kind not in MODEL_FOR_CAUSAL_LM_MAPPING
    return AutoModelForImageTextToText if sees else AutoModelForCausalLM


def _require_embeddings(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the tokenizer a token to pad with, where it has none. Raises ModelError for tokens that the model has no place for."""
    known = range(model.get_input_embeddings().weight.shape[0])
    if tokenizer.pad_token_id not in known:
        tokenizer.pad_token_id = next((i for i in (tokenizer.eos_token_id, tokenizer.bos_token_id) if i in known), 0)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    ends = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    ordinary = set(tokenizer.get_vocab().values()) - special if len(tokenizer) > len(known) else set()
    if beyond := sorted({*chat_prompt(tokenizer, "?"), *around(tokenizer)[0], *ends, *ordinary} - set(known)):
        token = tokenizer.convert_ids_to_tokens(beyond[0])
        got = f"expected ids below {len(known)}, got {beyond[0]} for {token!r}{and_more(beyond)}"
        raise ModelError(f"the tokenizer of {name!r} does not fit: {got}")


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
            raise ModelError("load_in_4bit needs bitsandbytes; try: pip install 'efface[qlora]'")
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


def weights_hash(model: nn.Module, dtype: torch.dtype | None = None) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of all parameters (first 16 hexadecimal digits).

    dtype: as they would be in this precision. Raises ModelError for weights that were left on the disk.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if tensor.is_meta:
            raise ModelError(f"the weights do not fit: {name} was left on the disk; use more devices, or --load-in-4bit")
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
