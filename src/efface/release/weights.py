"""The tensors of a model on disk, read one at a time, and what an adapter makes of them: no model is loaded.

Merging is done in float32 and cast once: ``W + alpha / r * B A`` for LoRA, the trained weight where whole modules were trained.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from peft import LoraConfig, PeftConfig, PeftType
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig
from transformers.utils.hub import cached_file, get_checkpoint_shard_files

from efface.errors import ModelError
from efface.files import writing
from efface.lm.adapters import ADAPTER
from efface.lm.bundled import ALIASES, fetch
from efface.lm.layers import and_more
from efface.lm.load import in_one_line, load
from efface.recipe.recipe import Recipe

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
#: as safetensors names them
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64}
#: what a plain LoRA may say in its own way; anything else changes how its weights act
PLAIN = {
    *("r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "fan_in_fan_out", "init_lora_weights"),
    *("task_type", "inference_mode", "base_model_name_or_path", "peft_version", "revision", "auto_mapping", "peft_type"),
}
PREFIX, WHOLE = "base_model.model.", ".ln_tuning_layers"


@dataclass(frozen=True)
class Stored:
    """A tensor in a file."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype | None  # None: no floating-point number

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    def read(self) -> Tensor:
        """The tensor; the file is closed again, so that no more of it stays in memory."""
        with safe_open(self.file, framework="pt") as file:
            found: Tensor = file.get_tensor(self.name)
            return found


def stored(files: Mapping[Path, object]) -> dict[str, Stored]:
    """Every tensor of some files by its name, in their order."""
    found = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (it is no mapping)
                part = file.get_slice(name)
                found[name] = Stored(path, name, tuple(part.get_shape()), DTYPES.get(part.get_dtype()))
    return found


@dataclass(frozen=True)
class Base:
    """The whole model that a run was made from, as files. place: hub id or folder, with its configuration and tokenizer."""

    place: str
    revision: str | None
    tensors: Mapping[str, Stored]

    @cached_property
    def config(self) -> PretrainedConfig:
        """Its configuration."""
        return AutoConfig.from_pretrained(self.place, revision=self.revision, trust_remote_code=False)

    @cached_property
    def card(self) -> Path | None:
        """Its model card, if it has one."""
        found = cached_file(self.place, "README.md", revision=self.revision, _raise_exceptions_for_missing_entries=False)
        return None if found is None else Path(found)


@contextmanager
def base_files(recipe: Recipe, scratch: Path) -> Iterator[Base]:
    """The files of the model that a recipe names. A GGUF file is converted in a folder below ``scratch`` first.

    Raises ModelError for a model that is not in safetensors, whose weights are in few bits, or that brings code of its own.
    """
    if recipe.model.endswith(".gguf"):
        with TemporaryDirectory(dir=scratch, prefix=".base-") as folder:
            loaded = load(recipe.model, dtype="float32")
            with writing(scratch):
                loaded.model.save_pretrained(folder)
                loaded.tokenizer.save_pretrained(folder)
            del loaded
            yield _opened(recipe.model, folder, None)
        return
    place = str(fetch(recipe.model)) if recipe.model in ALIASES else recipe.model
    yield _opened(recipe.model, place, recipe.revision)


def _opened(name: str, place: str, revision: str | None) -> Base:
    with in_one_line(f"cannot read the files of {name!r}"):
        base = Base(place, revision, stored(dict.fromkeys(_files(place, revision))))
        config = base.config
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(f"the weights of {name!r} are in few bits; expected the model that they were made from")
    if getattr(config, "auto_map", None):
        raise ModelError(f"{name!r} brings code of its own, which an export does not copy; expected a model of transformers' own")
    return base


def _files(place: str, revision: str | None) -> list[Path]:
    """The safetensors files of a model in a folder or on the hub."""
    options = {"revision": revision, "_raise_exceptions_for_missing_entries": False}
    if index := cached_file(place, INDEX, **options):
        return [Path(file) for file in get_checkpoint_shard_files(place, index, revision=revision)[0]]
    if single := cached_file(place, SINGLE, **options):
        return [Path(single)]
    raise ModelError(f"expected {SINGLE} or {INDEX}")


@dataclass(frozen=True)
class Update:
    """What an adapter makes of one tensor: ``scale * B A`` on top of it, or another in its place.

    under: what another adapter made of it before.
    """

    a: Stored
    b: Stored | None = None
    scale: float = 1.0
    transposed: bool = False
    under: "Update | None" = None

    def applied(self, weight: Tensor) -> Tensor:
        """The updated tensor ``[out, in]`` (``[in, out]`` where transposed), in float32."""
        if self.b is None:
            return self.a.read().float()
        if self.under is not None:
            weight = self.under.applied(weight)
        delta = (self.b.read().float() @ self.a.read().float()) * self.scale
        return weight.float() + (delta.T if self.transposed else delta)


def updates(adapter: Path) -> dict[str, Update]:
    """What an adapter changes, by the name of the module and tensor (``model.layers.0.mlp.up_proj.weight``).

    Raises ModelError for an adapter of another kind than efface makes: plain LoRA, or modules that were trained as a whole.
    """
    with in_one_line(f"cannot read the adapter {adapter}"):
        config, tensors = PeftConfig.from_pretrained(adapter), stored({adapter / ADAPTER: None})
    if config.peft_type == PeftType.LN_TUNING and not config.modules_to_save:
        return {_module(name).replace(WHOLE, ""): Update(of) for name, of in tensors.items()}
    if config.peft_type != PeftType.LORA or (more := _more_than_plain(config)):
        kind = config.peft_type.value if config.peft_type != PeftType.LORA else f"LoRA with {more}"
        raise ModelError(f"the adapter {adapter} is {kind}; an export takes plain LoRA, or modules that were trained as a whole")
    found = {}
    for name, a in tensors.items():
        if ".lora_A." not in name:
            continue
        if (b := tensors.get(name.replace(".lora_A.", ".lora_B."))) is None:
            raise ModelError(f"the adapter {adapter} has no lora_B to {name}")
        scale = config.lora_alpha / config.r
        found[_module(name).replace(".lora_A", "")] = Update(a, b, scale, config.fan_in_fan_out)
    if 2 * len(found) != len(tensors):
        other = sorted(name for name in tensors if ".lora_" not in name)
        raise ModelError(f"the adapter {adapter} holds more than LoRA: {', '.join(other[:1])}{and_more(other)}")
    return found


def stacked(adapters: Sequence[Mapping[str, Update]]) -> dict[str, Update]:
    """What several adapters change, one on top of the other; the sum of their updates where all of them are low-rank."""
    found: dict[str, Update] = {}
    for changes in adapters:
        found |= {name: replace(update, under=found.get(name)) for name, update in changes.items()}
    return found


def _module(name: str) -> str:
    return name.removeprefix(PREFIX)


def _more_than_plain(config: PeftConfig) -> str | None:
    """The first setting of a LoRA that is not plain."""
    usual = LoraConfig()
    said = [
        of.name for of in fields(config) if of.name not in PLAIN and getattr(config, of.name) != getattr(usual, of.name, None)
    ]
    unusual = "init_lora_weights" if config.init_lora_weights not in (True, False, "gaussian") else None  # others change the base
    return next(iter(said), unusual)


@dataclass(frozen=True)
class Merged:
    """A base with an adapter merged into it; every tensor is made when it is asked for."""

    base: Base
    changes: Mapping[str, Update]
    _at: dict[str, Update] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Find the base's tensor for each change. Raises ModelError where there is none, or one of another shape."""
        names, tied = self.base.tensors, bool(self.base.config.get_text_config().tie_word_embeddings)
        for name, update in self.changes.items():
            key = next((key for key in (name, name.partition(".")[2]) if key in names), None)  # files may lack the first part
            if key is None or (tied and "embed" in name):
                raise ModelError(f"the base's files have no {name} of its own, which the adapter changes; merge it with peft")
            shape = (update.a.shape if update.b is None else (update.b.shape[0], update.a.shape[1]))[
                :: -1 if update.transposed else 1
            ]
            if names[key].shape != shape:
                raise ModelError(f"expected {key} of shape {list(shape)}, got {list(names[key].shape)}; is this the run's base?")
            self._at[key] = update

    @property
    def names(self) -> list[str]:
        """Of all tensors, in the base's order; of two that are tied the first."""
        tied = self.base.config.get_text_config().tie_word_embeddings
        return [name for name in self.base.tensors if not (tied and name.endswith("lm_head.weight"))]

    def tensor(self, name: str, dtype: torch.dtype) -> Tensor:
        """One tensor, merged in float32 and cast once. Raises ModelError for numbers that the precision has no room for."""
        before = self.base.tensors[name].read()
        if not before.is_floating_point():
            return before.clone()
        after = (self._at[name].applied(before) if name in self._at else before).to(dtype)
        if not after.isfinite().all():
            raise ModelError(f"{name} has numbers that {str(dtype).removeprefix('torch.')} cannot hold; choose another --dtype")
        return after.contiguous()

    def bytes(self, name: str, dtype: torch.dtype) -> int:
        """Of one tensor in a file."""
        of = self.base.tensors[name]
        return of.size * dtype.itemsize if of.dtype is not None else of.read().nbytes
