"""Whether the files of a model are what a run was made from: the hash of the loaded model, without loading it."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from efface.lm.load import resolve_dtype
from efface.release.weights import Base, Merged, Update
from efface.runs.run import Run


def require_base(run: Run, base: Base, below: Mapping[str, Update] | None = None) -> None:
    """Raises RunError where these are not the weights that the run was made from. below: of the runs that it stands on.

    Where their hash cannot be told from the files (names that differ, weights that stay in another precision), they are loaded.
    """
    recipe, expected = run.record.recipe, run.record.hashes["model"]
    dtypes = [torch.float32, torch.bfloat16] if recipe.dtype == "auto" else [resolve_dtype(recipe.dtype)]
    if not recipe.load_in_4bit and expected in hashes(Merged(base, below or {}), dtypes):
        return
    run.load()


def hashes(merged: Merged, dtypes: list[torch.dtype]) -> list[str]:
    """What :func:`efface.lm.load.weights_hash` says of the model in each precision; nothing where a weight has no file."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(merged.base.config)
    model.tie_weights()
    own = {id(tensor): name for name, tensor in model.named_parameters()}  # of tied ones the first
    first = {name: own.get(id(tensor), name) for name, tensor in model.named_parameters(remove_duplicate=False)}
    digests = [hashlib.sha256() for _ in dtypes]
    for name, tensor in sorted(model.state_dict().items()):
        tensors, key = merged.base.tensors, _key(merged.base.tensors, first.get(name, name))
        if key is None or tensors[key].shape != tuple(tensor.shape):
            return []
        stored = merged.tensor(key, torch.float32)
        for digest, dtype in zip(digests, dtypes, strict=True):
            of = stored.to(dtype) if stored.is_floating_point() else stored
            digest.update(f"{name}{tuple(of.shape)}{of.dtype}".encode())
            digest.update(of.contiguous().flatten().view(torch.uint8).numpy().data)
    return [digest.hexdigest()[:16] for digest in digests]


def _key(tensors: Mapping[str, Any], name: str) -> str | None:
    """What a model's tensor is called in its files, which may leave the first part of the name out."""
    return next((key for key in (name, name.partition(".")[2]) if key in tensors), None)
