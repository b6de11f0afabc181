"""A model's decoder layers and linear modules, found from the module tree; the teacher inside the student.

Nothing here looks at a model's name.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from efface.errors import ModelError

#: rows of a table of positions beyond the last position
SPARE_ROWS = 8
#: models whose modules of these names enter fused kernels, past any adapter; peft refuses them
MAMBA, NOT_OF_MAMBA = {"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"}, {"out_proj", "conv1d"}


def and_more(keys: Sequence[Any]) -> str:
    """How many there are besides the first one."""
    return f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""


def decoder_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """Name and content of the language model's list of decoder layers; an empty list where none is found.

    Of the lists in its decoder that hold linear modules: the outermost, as many as its configuration says, the largest.
    """
    depth = getattr(text_config(model), "num_hidden_layers", None)

    def rank(found: tuple[str, nn.ModuleList]) -> tuple[int, bool, int]:
        return -found[0].count("."), len(found[1]) == depth, sum(map(_is_linear, found[1].modules()))

    lists = [(name, of) for name, of in model.get_decoder().named_modules() if isinstance(of, nn.ModuleList)]
    _, best = max((found for found in lists if rank(found)[2]), key=rank, default=("", nn.ModuleList()))
    return next((name for name, module in model.named_modules() if module is best), ""), best


def positions(model: nn.Module) -> int | None:
    """How many tokens the model was made to read; None where its configuration does not say."""
    found: int | None = getattr(text_config(model), "max_position_embeddings", None)
    return found


def table_of_positions(model: nn.Module) -> int | None:
    """How many tokens a model can read that looks their positions up in a table; None for one that computes them.

    A table is an embedding besides that of the tokens, or a buffer, with as many rows, or a few more that stand for padding.
    """
    whole, count = bare(model), positions(model)
    if count is None:
        return None
    tables = [of.weight for of in whole.get_decoder().modules() if isinstance(of, nn.Embedding)]
    tables += [of for of in whole.get_decoder().buffers() if of.ndim == 2]
    tokens = whole.get_input_embeddings().weight
    return count if any(table is not tokens and 0 <= len(table) - count <= SPARE_ROWS for table in tables) else None


def with_room(model: nn.Module, before: int, ids: list[int]) -> list[int]:
    """The ids of a text, as many as the model has positions for behind so many tokens."""
    room = table_of_positions(model)
    return ids if room is None else ids[: max(0, room - before)]


def text_config(model: nn.Module) -> Any:
    """The configuration of the language model, inside one that sees too."""
    return bare(model).config.get_text_config()


def linear_modules(model: PreTrainedModel, layers: str = "all", modules: str = "all") -> list[str]:
    """Full names of the linear modules in the chosen layers. Raises ModelError for one that is not there."""
    prefix, blocks = decoder_layers(model)
    chosen = parse_layers(layers, len(blocks))
    refused = NOT_OF_MAMBA if text_config(model).model_type in MAMBA else set()
    by_layer = {
        i: [name for name, module in blocks[i].named_modules() if _is_linear(module) and name.rsplit(".", 1)[-1] not in refused]
        for i in chosen
    }
    known = sorted({name.rsplit(".", 1)[-1] for names in by_layer.values() for name in names})
    wanted = known if modules == "all" else [part.strip() for part in modules.split(",")]
    for name in wanted:
        if name not in known:
            raise ModelError(f"lora.modules: no linear module {name!r} in these layers; there are: {', '.join(known)}")
    return [f"{prefix}.{i}.{name}" for i, names in by_layer.items() for name in names if name.rsplit(".", 1)[-1] in wanted]


def reached(model: PreTrainedModel, names: Sequence[str]) -> float:
    """Share of the weights of the layers that hold these modules which is theirs."""
    prefix, blocks = decoder_layers(model)
    within = len(prefix.split("."))
    layers = {int(name.split(".")[within]) for name in names}
    of = {name: weight.numel() for i in layers for name, weight in blocks[i].named_parameters(f"{prefix}.{i}")}
    return sum(n for name, n in of.items() if name.rpartition(".")[0] in set(names)) / sum(of.values())


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
