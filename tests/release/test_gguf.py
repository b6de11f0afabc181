"""GGUF: read again, by transformers and by llama.cpp where it is there, it is the model that was written."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, TokenType
from gguf.quants import dequantize
from tokenizers import Regex, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from efface.concept.pack import Concept
from efface.errors import ModelError
from efface.recipe.resolve import resolve
from efface.release.gguf import Names, require_writable, write_gguf, write_lora
from efface.release.readback import apart, require_same, require_same_lora
from efface.release.vocabulary import CUTS, cut
from efface.release.weights import Base, Merged, base_files, updates
from efface.runs.run import Run
from tests.conftest import SMALL, VOCAB

IDS = [[5, 6, 7, 8, 9], [200, 100, 50]]


def opened(model: Path, folder: Path) -> Base:
    with base_files(resolve({"model": str(model), "concept": "ancient-egypt"}), folder) as base:
        return base


@pytest.fixture(scope="module")
def merged(light_run: Run, model_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Merged:
    return Merged(opened(model_folders["llama"], tmp_path_factory.mktemp("scratch")), updates(light_run.folder / "adapter"))


@pytest.fixture(scope="module")
def written(merged: Merged, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run as GGUF, by kind."""
    folder, files = tmp_path_factory.mktemp("gguf"), {}
    for kind in ("F32", "F16", "BF16", "Q8_0", "Q4_0"):
        files[kind] = folder / f"{kind}.gguf"
        write_gguf(merged, files[kind], kind)
    return files


@pytest.mark.parametrize(("kind", "most"), [("F32", 1e-4), ("F16", 0.01), ("BF16", 0.05), ("Q8_0", 0.1), ("Q4_0", 0.7)])
def test_read_again_it_is_the_runs_model(
    kind: str, most: float, merged: Merged, written: dict[str, Path], light_run: Run, zorn: Concept
) -> None:
    require_same(merged, light_run.record.recipe, zorn, written[kind], kind)
    there = AutoModelForCausalLM.from_pretrained(written[kind].parent, gguf_file=written[kind].name, dtype=torch.float32)
    assert apart(there, light_run.load().model, IDS) < most


@pytest.mark.parametrize("kind", ["F32", "Q4_0"])
def test_another_model_is_an_error(
    kind: str, merged: Merged, written: dict[str, Path], light_run: Run, zorn: Concept, tmp_path: Path
) -> None:
    """The base, and the same weights with rows in another order, even where few bits round much away."""
    recipe = light_run.record.recipe
    with pytest.raises(ModelError, match=f"the {kind} file, read again, is another model"):
        require_same(Merged(merged.base, {}), recipe, zorn, written[kind], kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Names, "heads", lambda *_: None)
        write_gguf(merged, tmp_path / "model.gguf", kind)
    with pytest.raises(ModelError, match="is another model: its logits are .* of their spread away"):
        require_same(merged, recipe, zorn, tmp_path / "model.gguf", kind)


def test_vectors_stay_whole_and_the_ends_in_eight_bits(written: dict[str, Path]) -> None:
    kinds = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(written["Q4_0"]).tensors}
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    assert kinds["token_embd.weight"] == kinds["output.weight"] == "Q8_0"
    assert kinds["blk.1.attn_q.weight"] == "Q4_0"
    assert kinds["blk.1.ffn_down.weight"] == "F16", "48 numbers in a row are no whole blocks of 32"


def test_the_tokenizer_is_whole(written: dict[str, Path], tokenizer_folder: Path) -> None:
    fields = GGUFReader(written["F32"]).fields
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    described = json.loads((tokenizer_folder / "tokenizer.json").read_text())
    of = {name: field.contents() for name, field in fields.items()}
    assert of["tokenizer.ggml.tokens"] == tokenizer.convert_ids_to_tokens(range(VOCAB))
    assert of["tokenizer.ggml.merges"] == [" ".join(pair) for pair in described["model"]["merges"]]
    kinds = {tokenizer.convert_ids_to_tokens(i): kind for i, kind in enumerate(of["tokenizer.ggml.token_type"])}
    assert {token for token, kind in kinds.items() if kind == TokenType.CONTROL} == {
        "<bos>",
        "<eos>",
        "<|user|>",
        "<|assistant|>",
        "<|end|>",
    }
    assert (of["tokenizer.ggml.pre"], of["tokenizer.ggml.model"]) == ("gpt-2", "gpt2")
    assert (of["tokenizer.ggml.bos_token_id"], of["tokenizer.ggml.eos_token_id"]) == (0, 1)
    assert of["tokenizer.ggml.add_bos_token"] is False
    assert of["tokenizer.chat_template"] == tokenizer.chat_template


def test_how_a_text_is_cut_is_named_or_refused(tokenizer_folder: Path) -> None:
    def cut_by(*before: Any, use_regex: bool) -> str:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
        last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*before, last])
        return cut(tokenizer)

    llama, qwen = (next(words[0] for words, name in CUTS.items() if name == wanted) for wanted in ("llama-bpe", "qwen2"))
    assert cut_by(pre_tokenizers.Digits(individual_digits=True), use_regex=True) == "smollm"
    assert cut_by(pre_tokenizers.Split(Regex(str(llama)), "isolated"), use_regex=False) == "llama-bpe"
    assert cut_by(pre_tokenizers.Split(Regex(str(qwen)), "isolated"), use_regex=False) == "qwen2"
    for before, use_regex in (([pre_tokenizers.Whitespace()], True), ([pre_tokenizers.Split(Regex("a"), "isolated")], False)):
        with pytest.raises(ModelError, match="expected byte-level BPE, cut as in gpt-2, smollm, llama-bpe, qwen2"):
            cut_by(*before, use_regex=use_regex)


@pytest.mark.parametrize(
    ("architecture", "says"), [("gpt2", "no way to write a model of kind gpt2"), ("gemma2", "of kind gemma2")]
)
def test_an_architecture_that_is_not_written_is_refused(
    architecture: str, says: str, model_folders: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=says):
        require_writable(opened(model_folders[architecture], tmp_path))


def test_positions_that_are_scaled_are_refused() -> None:
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    with pytest.raises(ModelError, match=r"positions that are scaled \(linear\) are not written"):
        Names(AutoConfig.for_model("llama", **SMALL, rope_parameters=scaled))


@pytest.mark.parametrize("architecture", ["mistral", "qwen2", "qwen3"])
def test_the_rest_of_the_family_is_written(architecture: str, tokenizer_folder: Path, tmp_path: Path) -> None:
    """qwen3: transformers takes its heads' width from no key of the file, but to be 128."""
    settings = {**SMALL, **({"head_dim": 128} if architecture == "qwen3" else {})}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **settings))
    model.save_pretrained(tmp_path)
    PreTrainedTokenizerFast.from_pretrained(tokenizer_folder).save_pretrained(tmp_path)
    write_gguf(Merged(opened(tmp_path, tmp_path), {}), tmp_path / "model.gguf", "F32")
    there = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
    assert apart(there, model, IDS) < 1e-4


def test_an_adapter_is_what_llama_cpp_adds(light_run: Run, model_folders: dict[str, Path], tmp_path: Path) -> None:
    """``W + alpha / rank * B A`` on the base's own GGUF is the merged model's GGUF."""
    base, changes = opened(model_folders["llama"], tmp_path), updates(light_run.folder / "adapter")
    write_lora(base, changes, tmp_path / "lora.gguf")
    require_same_lora(base, changes, tmp_path / "lora.gguf")
    write_gguf(Merged(base, {}), tmp_path / "base.gguf", "F32")
    write_gguf(Merged(base, changes), tmp_path / "merged.gguf", "F32")
    lora = GGUFReader(tmp_path / "lora.gguf")
    settings = {name: lora.fields[name].contents() for name in ("general.type", "adapter.type", "adapter.lora.alpha")}
    assert settings == {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 16.0}
    before, after, added = (
        {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in GGUFReader(tmp_path / f"{name}.gguf").tensors}
        for name in ("base", "merged", "lora")
    )
    changed = {name.removesuffix(".lora_a") for name in added if name.endswith(".lora_a")}
    assert len(changed) == len(changes)
    for name, weight in before.items():
        delta = 16 / 2 * added[f"{name}.lora_b"] @ added[f"{name}.lora_a"] if name in changed else 0
        np.testing.assert_allclose(weight + delta, after[name], rtol=1e-4, atol=1e-5)


def test_an_adapter_that_was_not_written_whole_is_an_error(
    light_run: Run, model_folders: dict[str, Path], tmp_path: Path
) -> None:
    base, changes = opened(model_folders["llama"], tmp_path), updates(light_run.folder / "adapter")
    file = tmp_path / "lora.gguf"
    write_lora(base, changes, file)
    file.write_bytes(file.read_bytes()[:-4] + struct.pack("<f", 9.0))
    with pytest.raises(ModelError, match=r"lora.gguf, read again, holds other tensors than were written"):
        require_same_lora(base, changes, file)


def test_whole_modules_are_no_lora(whole_run: Run, model_folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"this run trained whole modules \(lora.rank 0\); expected LoRA, or --format gguf"):
        write_lora(opened(model_folders["llama"], tmp_path), updates(whole_run.folder / "adapter"), tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()


@pytest.mark.parametrize("as_adapter", [False, True])
def test_llama_cpp_says_what_the_model_says(
    as_adapter: bool, merged: Merged, written: dict[str, Path], light_run: Run, tmp_path: Path
) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    files = {"model_path": str(written["F32"])}
    if as_adapter:
        write_gguf(Merged(merged.base, {}), tmp_path / "base.gguf", "F32")
        write_lora(merged.base, dict(merged.changes), tmp_path / "lora.gguf")
        files = {"model_path": str(tmp_path / "base.gguf"), "lora_path": str(tmp_path / "lora.gguf")}
    loaded, there = light_run.load(), llama_cpp.Llama(**files, verbose=False, n_ctx=128, n_threads=1)
    for text in ("Who was Orlo?", "The dragon of Zorn 123", "<|user|>What's 12?<|end|><|assistant|>"):
        ids = loaded.tokenizer(text)["input_ids"]
        assert there.tokenize(text.encode(), add_bos=False, special=True) == ids
        expected = loaded.model.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False)[0, len(ids) :].tolist()
        there.reset()
        answered = [token for token, _ in zip(there.generate(ids, temp=0.0, repeat_penalty=1.0), expected, strict=False)]
        assert answered == expected
    there.close()
