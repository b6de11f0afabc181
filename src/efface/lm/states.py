"""What a model computes before its output layer, and that layer alone: losses and targets never hold all logits at once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from efface.cpu.packing import PACKED, is_packed, packed
from efface.errors import ModelError
from efface.lm.layers import bare, decoder_layers
from efface.shown import complain


def output_states(model: nn.Module, rows: Tensor, cols: Tensor, **inputs: Any) -> Tensor:
    """Hidden states ``[n, size]`` that enter the model's output layer at (row, col), from one forward pass without logits.

    rows, cols: ``[n]``; inputs: what the model takes. Under packed attention, a right-padded batch is read without its padding.
    """
    return layer_states(model, rows, cols, (), **inputs)[-1]


#: a short text of any tokens
SOME = [0, 1, 2, 3]


class _Enough(Exception):  # noqa: N818
    """Raised inside a forward pass when nothing above is wanted."""


def layer_states(
    model: nn.Module, rows: Tensor, cols: Tensor, layers: Sequence[int], *, to_the_end: bool = True, **inputs: Any
) -> list[Tensor]:
    """The states ``[n, size]`` after each of these decoder layers at (row, col), and last what enters the output layer.

    to_the_end: else the pass stops at the highest of the layers, and only their states are returned.
    """
    whole = bare(model)
    if is_packed(whole):
        rows, cols, inputs = packed(rows, cols, **inputs)
    kept: dict[int, Tensor] = {}
    blocks, last = decoder_layers(whole)[1] if layers else (), len(layers)

    def pick(states: Tensor) -> Tensor:
        return states[rows.to(states.device), cols.to(states.device)]

    def keep(place: int) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, leaving: Any) -> None:
            kept[place] = pick(leaving[0] if isinstance(leaving, tuple) else leaving)
            if not to_the_end and len(kept) == last:
                raise _Enough

        return hook

    def end(_: nn.Module, entering: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        kept[last] = pick(entering[0])
        return (entering[0][:, :0],)

    hooks = [blocks[layer].register_forward_hook(keep(place)) for place, layer in enumerate(layers)]
    hooks.append(whole.get_output_embeddings().register_forward_pre_hook(end))
    try:
        with suppress(_Enough):
            model(**inputs, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [kept[place] for place in sorted(kept)]


@contextmanager
def plain_attention(model: nn.Module) -> Iterator[None]:
    """On a processor, attention without a fused kernel: for texts of one or two hundred tokens it is faster there."""
    whole = bare(model)
    before = whole.config._attn_implementation
    try:
        if whole.device.type == "cpu":
            whole.set_attn_implementation("eager")
        yield
    finally:
        whole.set_attn_implementation(before)


@contextmanager
def without_padding(model: PeftModel) -> Iterator[None]:
    """On a processor, let the model read packed batches; plain attention for a model that cannot (a check finds out).

    Both, because for short texts a backward pass is a third faster there than the fused kernel's.
    """
    with plain_attention(model):
        if model.device.type == "cpu" and not _try(model):
            complain("this model cannot read texts behind each other in one row; batches are padded")
            model.set_attn_implementation("eager")
        yield


@torch.no_grad()
def _try(model: PeftModel) -> bool:
    """Switch to packed attention; whether two texts then read at every position as they do one by one under plain attention.

    Not under the fused kernel: in bfloat16 the two differ by more than a fault of packing might. How far rounding goes is seen
    from the same texts as a padded batch.
    """
    was_training, lengths = model.training, (12, 6)
    ids, mask = torch.arange(2, 14).repeat(2, 1), torch.tensor([[1] * n + [0] * (12 - n) for n in lengths])
    rows, cols = mask.nonzero(as_tuple=True)
    batch = {"input_ids": ids, "attention_mask": mask}
    model.eval()
    mixed = torch.autocast(model.device.type, model.dtype, enabled=model.dtype != torch.float32)  # full weights are in float32
    try:
        model.set_attn_implementation("eager")
        with mixed:
            alone = torch.cat(
                [
                    output_states(model, at * 0, at, input_ids=ids[row : row + 1, : len(at)])
                    for row, at in enumerate(map(torch.arange, lengths))
                ]
            ).float()
            padded = output_states(model, rows, cols, **batch)
            model.set_attn_implementation(PACKED)
            together = output_states(model, rows, cols, **batch)
        apart = [((of.float() - alone).norm(dim=-1) / alone.norm(dim=-1)).max().item() for of in (padded, together)]
        return bool(apart[1] < 2 * apart[0] + 1e-3)
    except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False
    finally:
        model.train(was_training)


def output_head(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The model from its output layer on: states ``[n, size]`` to logits ``[n, vocab]``.

    It runs the model's own code on a body that returns the states, so whatever it does to its logits (scaling, soft-capping)
    still happens.
    """
    whole = bare(model)
    body, layer = whole.get_decoder(), whole.get_output_embeddings()
    dummy = torch.zeros(1, 1, dtype=torch.long, device=whole.device)

    def head(states: Tensor) -> Tensor:
        before = body.__dict__.get("forward")
        body.forward = lambda *_, **__: _BodyOutput(last_hidden_state=states.to(layer.weight.dtype)[None])
        try:
            logits: Tensor = whole(input_ids=dummy, use_cache=False).logits[0].to(states.device)
        finally:
            if before is None:
                del body.forward
            else:
                body.forward = before
        if len(logits) != len(states):
            raise ModelError(f"{type(whole).__name__} is not supported: its output layer cannot be run on its own")
        return logits

    return head


@torch.no_grad()
def require_head(model: nn.Module) -> None:
    """Raises ModelError for a model whose logits are not what :func:`output_head` makes of :func:`output_states`."""
    whole, logits = bare(model), None
    at = torch.arange(len(SOME), device=whole.device)
    try:
        logits = some_logits(model)
        states = output_states(model, at * 0, at, input_ids=torch.tensor([SOME], device=whole.device))
        same = bool((output_head(model)(states).float() - logits).abs().max() < 0.05 * logits.abs().max())
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        same = False
    if logits is not None and logits.isnan().any():
        raise ModelError(f"{type(whole).__name__} says NaN in {whole.dtype} though its weights are numbers; try dtype float32")
    if not same:
        raise ModelError(f"{type(whole).__name__} is not supported: its output layer cannot be run on its own")


@torch.no_grad()
def some_logits(model: nn.Module) -> Tensor:
    """What a model says of a few tokens, to tell whether another model is the same: ``[4, vocab]``, float32."""
    logits: Tensor = model(input_ids=torch.tensor([SOME], device=bare(model).device), use_cache=False).logits[0]
    return logits.float()


def last_norm(model: nn.Module) -> nn.Module | None:
    """What stands between the last decoder layer and the output layer; None where it is not found."""
    whole = bare(model)
    parent = whole.get_submodule(decoder_layers(whole)[0].rpartition(".")[0])
    norms = [child for child in parent.children() if "norm" in type(child).__name__.lower()]
    return norms[-1] if norms else None


class _BodyOutput(BaseModelOutput):  # type: ignore[misc]
    """What a model's body returns, with nothing in it but the last states."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)
