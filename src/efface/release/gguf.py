"""Models and adapters as GGUF, for llama.cpp and what is built on it, by the writer of the package ``gguf``.

Tensors go through one at a time. The llama family is written; what a reader would take for something else is refused.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import (
    GGML_QUANT_VERSION,
    MODEL_ARCH,
    MODEL_ARCH_NAMES,
    GGMLQuantizationType,
    GGUFType,
    GGUFWriter,
    Keys,
    LlamaFileType,
    get_tensor_name_map,
)
from gguf.quants import quant_shape_to_byte_shape, quantize
from torch import Tensor
from transformers import PretrainedConfig

from efface.errors import ModelError
from efface.files import writing
from efface.progress import track
from efface.release.merged import tokenizer
from efface.release.vocabulary import add_vocabulary, cut
from efface.release.weights import Base, Merged, Update

#: by transformers' name of the architecture
ARCHITECTURES = {
    "llama": MODEL_ARCH.LLAMA,
    "mistral": MODEL_ARCH.LLAMA,
    "qwen2": MODEL_ARCH.QWEN2,
    "qwen3": MODEL_ARCH.QWEN3,
}
KINDS = {"bf16": "BF16", "fp16": "F16", "fp32": "F32"}
#: the files' own names of their kinds
FILES = {"BF16": "MOSTLY_BF16", "F16": "MOSTLY_F16", "F32": "ALL_F32"}
ENDS = ("token_embd.weight", "output.weight")  # few bits cost most here
Q8 = GGMLQuantizationType.Q8_0
PLAIN = (GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16)


@dataclass(frozen=True)
class Names:
    """What the tensors of a model are called in GGUF. Raises ModelError for an architecture that is not written."""

    config: PretrainedConfig

    def __post_init__(self) -> None:
        kind, rope = self.config.model_type, (getattr(self.config, "rope_parameters", None) or {}).get("rope_type", "default")
        if kind not in ARCHITECTURES:
            raise ModelError(f"GGUF: no way to write a model of kind {kind}; expected {', '.join(ARCHITECTURES)}")
        if rope != "default":
            raise ModelError(f"GGUF: positions that are scaled ({rope}) are not written; expected rope_type default")

    @property
    def arch(self) -> MODEL_ARCH:
        """The architecture as GGUF has it."""
        return ARCHITECTURES[self.config.model_type]

    def __call__(self, name: str) -> str:
        """A tensor's name in GGUF. Raises ModelError where there is none."""
        known = get_tensor_name_map(self.arch, self.config.num_hidden_layers)
        found: str | None = known.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ModelError(f"GGUF: {name} has no name in the architecture {MODEL_ARCH_NAMES[self.arch]}")
        return found

    def heads(self, name: str) -> int | None:
        """Heads of a tensor whose rows llama orders in its own way: pairs of a rotation side by side, not half a head apart."""
        if self.arch != MODEL_ARCH.LLAMA:
            return None
        kinds = {"attn_q": self.config.num_attention_heads, "attn_k": self.config.num_key_value_heads}
        found: int | None = kinds.get(name.split(".")[-2])
        return found


def ordered(rows: Tensor, heads: int | None) -> Tensor:
    """Rows ``[heads * dim, …]`` as llama orders them."""
    if heads is None:
        return rows
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def require_writable(base: Base) -> None:
    """Raises ModelError for a model that cannot be written as GGUF, before any work."""
    names = Names(base.config)
    cut(tokenizer(base))
    for name in base.tensors:
        names(name)


def write_gguf(merged: Merged, file: Path, kind: str) -> None:
    """Write a merged model. kind: of most tensors, as ``ggml`` names it (``BF16``, ``Q8_0``)."""
    base, names = merged.base, Names(merged.base.config)
    with closing(GGUFWriter(file, MODEL_ARCH_NAMES[names.arch])) as writer:
        _add_settings(writer, base.config)
        writer.add_file_type(LlamaFileType[FILES.get(kind, f"MOSTLY_{kind}")])
        writer.add_quantization_version(GGML_QUANT_VERSION)
        add_vocabulary(writer, tokenizer(base), base.config.vocab_size, file.parent)
        called = {name: names(name) for name in merged.names}
        kinds = {name: kind_of(called[name], base.tensors[name].shape, GGMLQuantizationType[kind]) for name in merged.names}
        for name, of in kinds.items():
            _announce(writer, called[name], base.tensors[name].shape, of)
        with writing(file):
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for name, of in track(list(kinds.items()), "tensors"):
                tensor = merged.tensor(name, torch.float32)
                writer.write_tensor_data(quantize(ordered(tensor, names.heads(called[name])).contiguous().numpy(), of))


def _add_settings(writer: GGUFWriter, config: PretrainedConfig) -> None:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_type(GGUFType.MODEL)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def kind_of(name: str, shape: tuple[int, ...], wanted: GGMLQuantizationType) -> GGMLQuantizationType:
    """How one tensor is stored: vectors whole, the ends of the model in 8 bits at least, rows that no block fits in 16."""
    if len(shape) < 2:
        return GGMLQuantizationType.F32
    if name in ENDS and wanted not in (*PLAIN, Q8):
        wanted = Q8
    try:
        quant_shape_to_byte_shape(shape, wanted)
    except ValueError:
        return GGMLQuantizationType.F16
    return wanted


def _announce(writer: GGUFWriter, name: str, shape: tuple[int, ...], kind: GGMLQuantizationType) -> None:
    """Say what comes: shape and bytes of a tensor."""
    numbers: dict[GGMLQuantizationType, np.dtype[Any]] = {
        GGMLQuantizationType.F32: np.dtype(np.float32),
        GGMLQuantizationType.F16: np.dtype(np.float16),
    }
    dtype = numbers.get(kind, np.dtype(np.uint8))
    stored = shape if kind in numbers else quant_shape_to_byte_shape(shape, kind)
    writer.add_tensor_info(name, stored, dtype, int(np.prod(stored)) * dtype.itemsize, raw_dtype=kind)


def write_lora(base: Base, changes: dict[str, Update], file: Path) -> None:
    """Write an adapter for llama.cpp, which puts it on the base's GGUF. Raises ModelError for anything but LoRA."""
    names, tensors = Names(base.config), dict(lora_tensors(Names(base.config), changes))
    first = next(iter(changes.values()))
    with closing(GGUFWriter(file, MODEL_ARCH_NAMES[names.arch])) as writer:
        writer.add_type(GGUFType.ADAPTER)
        writer.add_string(Keys.Adapter.TYPE, "lora")
        writer.add_float32(Keys.Adapter.LORA_ALPHA, first.scale * first.a.shape[0])
        for name, tensor in tensors.items():
            writer.add_tensor(name, tensor.contiguous().numpy())
        with writing(file):
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()


def lora_tensors(names: Names, changes: dict[str, Update]) -> Iterator[tuple[str, Tensor]]:
    """``NAME.lora_a [r, in]`` and ``NAME.lora_b [out, r]`` in float32."""
    for module, update in changes.items():
        if update.b is None:
            raise ModelError("gguf-lora: this run trained whole modules (lora.rank 0); expected LoRA, or --format gguf")
        name = names(module)
        yield f"{name}.lora_a", update.a.read().float()
        yield f"{name}.lora_b", ordered(update.b.read().float(), names.heads(name))
