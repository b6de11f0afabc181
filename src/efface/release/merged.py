"""Merged weights in transformers' own layout: shards of safetensors, configuration, generation settings, tokenizer."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors.torch import save_file
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file

from efface.files import write_text, writing
from efface.progress import track
from efface.release.weights import INDEX, Base, Merged

PATTERN, SHARD, GENERATION = "model{suffix}.safetensors", "5GB", "generation_config.json"


def write_merged(merged: Merged, folder: Path, dtype: torch.dtype, shard: str = SHARD) -> None:
    """Write a whole model; in memory are at most one shard and one tensor."""
    sizes = {name: merged.bytes(name, dtype) for name in merged.names}
    plan = split_state_dict_into_shards_factory(
        sizes, get_storage_size=lambda size: size, filename_pattern=PATTERN, max_shard_size=shard
    )
    for file, names in track(list(plan.filename_to_tensors.items()), "shards"):
        tensors = {name: merged.tensor(name, dtype) for name in names}
        with writing(folder):
            save_file(tensors, folder / file, metadata={"format": "pt"})
            (folder / file).chmod(folder.stat().st_mode & 0o666)  # safetensors lets nobody else read them
        del tensors
    if plan.is_sharded:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": plan.tensor_to_filename}
        write_text(folder / INDEX, json.dumps(index, indent=2) + "\n")
    _write_about(merged.base, folder, dtype)


def _write_about(base: Base, folder: Path, dtype: torch.dtype) -> None:
    config = deepcopy(base.config)
    config.dtype = dtype
    with writing(folder):
        config.save_pretrained(folder)
        tokenizer(base).save_pretrained(folder)
        options = {"revision": base.revision, "_raise_exceptions_for_missing_entries": False}
        if (settings := cached_file(base.place, GENERATION, **options)) is not None:
            shutil.copyfile(settings, folder / GENERATION)


def tokenizer(base: Base) -> PreTrainedTokenizerBase:
    """The base's tokenizer with its chat template."""
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base.place, revision=base.revision, trust_remote_code=False)
    return found
