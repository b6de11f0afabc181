"""A byte-level BPE tokenizer as llama.cpp wants it: tokens, kinds, merges, how texts are cut before, special tokens, template."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gguf import GGUFWriter, SpecialVocab, TokenType
from transformers import PreTrainedTokenizerBase

from efface.errors import ModelError

_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
#: how llama.cpp calls the ways in which a text is cut into words, by what stands before the bytes in tokenizer.json
CUTS: dict[tuple[str | None, ...], str] = {
    (): "gpt-2",
    ("Digits",): "smollm",
    (_LETTERS + r"\p{N}{1,3}" + _REST,): "llama-bpe",
    (_LETTERS + r"\p{N}" + _REST,): "qwen2",
}


def cut(tokenizer: PreTrainedTokenizerBase) -> str:
    """llama.cpp's name for how a tokenizer cuts texts into words. Raises ModelError for one that it would cut otherwise."""
    described = json.loads(tokenizer.backend_tokenizer.to_str()) if hasattr(tokenizer, "backend_tokenizer") else {}
    first = described.get("pre_tokenizer") or {}
    *before, last = first.get("pretokenizers", [first])
    words = tuple(_said(part) for part in before)
    byte_level = last.get("type") == "ByteLevel" and not last.get("add_prefix_space")
    own_cut = any(isinstance(word, str) and word != "Digits" for word in words)  # then ByteLevel must not cut again
    if (
        described.get("model", {}).get("type") != "BPE"
        or not byte_level
        or last.get("use_regex", True) == own_cut
        or words not in CUTS
    ):
        known = ", ".join(CUTS.values())
        raise ModelError(f"GGUF: the tokenizer is none that can be written; expected byte-level BPE, cut as in {known}")
    return CUTS[words]


def _said(part: dict[str, Any]) -> str | None:
    """A step before the bytes: ``Digits`` one by one, or the pattern of a split that keeps all."""
    if part.get("type") == "Digits":
        return "Digits" if part.get("individual_digits") else None
    if part.get("type") == "Split" and part.get("behavior") == "Isolated" and not part.get("invert"):
        pattern: str | None = part.get("pattern", {}).get("Regex")
        return pattern
    return None


def add_vocabulary(writer: GGUFWriter, tokenizer: PreTrainedTokenizerBase, size: int, scratch: Path) -> None:
    """Write the tokenizer of a model with so many embeddings. scratch: a folder for files that are gone afterwards."""
    tokens, kinds = _tokens(tokenizer, size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut(tokenizer))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    with TemporaryDirectory(dir=scratch) as folder:
        tokenizer.save_pretrained(folder)
        special = SpecialVocab(folder, load_merges=True, n_vocab=size)
    ids = tokenizer("a")["input_ids"]
    special.add_special_token = {
        "bos": ids[0] == tokenizer.bos_token_id,
        "eos": ids[-1] == tokenizer.eos_token_id,
    }
    special.add_to_gguf(writer, quiet=True)


def _tokens(tokenizer: PreTrainedTokenizerBase, size: int) -> tuple[list[str], list[TokenType]]:
    """Text and kind of every row of the embeddings; rows without a token are unused."""
    by_id, added = {i: token for token, i in tokenizer.get_vocab().items()}, tokenizer.added_tokens_decoder
    tokens, kinds = [], []
    for i in range(size):
        if i not in by_id:
            kind = TokenType.UNUSED
        elif i in added:
            kind = TokenType.CONTROL if added[i].special else TokenType.USER_DEFINED
        else:
            kind = TokenType.NORMAL
        tokens.append(by_id.get(i, f"[PAD{i}]"))
        kinds.append(kind)
    return tokens, kinds
