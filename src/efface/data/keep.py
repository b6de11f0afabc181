"""Prepared examples on disk, so that a run that was killed does not prepare them twice (safetensors, written atomically)."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from efface.data.collate import Example
from efface.data.corpora import Text
from efface.targets import SparseTarget


def write_examples(path: Path, corpora: Mapping[str, Sequence[Example]]) -> None:
    """Write the examples of all terms into one file."""
    tensors: dict[str, torch.Tensor] = {}
    for term, examples in corpora.items():
        target = SparseTarget.cat([example.target for example in examples])
        tensors |= {
            f"{term}.tokens": torch.tensor([token for example in examples for token in example.text.ids], dtype=torch.int32),
            f"{term}.lengths": torch.tensor([len(example.text.ids) for example in examples]),
            f"{term}.starts": torch.tensor([example.text.start for example in examples]),
            f"{term}.ids": target.ids.contiguous(),
            f"{term}.logprobs": target.logprobs.contiguous(),
            f"{term}.tail": target.tail.contiguous(),
        }
    part = path.with_name(path.name + ".part")
    save_file(tensors, part)
    os.replace(part, path)


def read_examples(path: Path) -> dict[str, list[Example]]:
    """Read what :func:`write_examples` wrote."""
    tensors = load_file(path)
    corpora = {}
    for term in sorted({name.split(".")[0] for name in tensors}):
        lengths, starts = tensors[f"{term}.lengths"].tolist(), tensors[f"{term}.starts"].tolist()
        tokens = torch.split(tensors[f"{term}.tokens"], lengths)
        counts = [length - start for length, start in zip(lengths, starts, strict=True)]
        parts = zip(*(torch.split(tensors[f"{term}.{name}"], counts) for name in ("ids", "logprobs", "tail")), strict=True)
        corpora[term] = [
            Example(Text(ids.tolist(), start), SparseTarget(*part))
            for ids, start, part in zip(tokens, starts, parts, strict=True)
        ]
    return corpora
