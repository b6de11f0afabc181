"""Merged weights: what peft would merge, cast once, in transformers' layout, a shard at a time."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from efface.errors import ModelError
from efface.lm.adapters import full_weights
from efface.lm.load import weights_hash
from efface.recipe.resolve import resolve
from efface.release.identity import hashes, require_base
from efface.release.merged import write_merged
from efface.release.weights import Base, Merged, base_files, updates
from efface.runs.run import Run
from tests.conftest import tiny_model

MODULES = {"llama": ["q_proj", "down_proj"], "gpt2": ["c_attn"], "gpt_neox": ["query_key_value"]}


def adapter(model: torch.nn.Module, folder: Path, architecture: str, **settings: object) -> torch.nn.Module:
    """A model with an adapter that does something, which is saved."""
    config = LoraConfig(
        **{"r": 2, "lora_alpha": 5, "target_modules": MODULES[architecture], "fan_in_fan_out": architecture == "gpt2", **settings}
    )
    student = get_peft_model(model, config)
    for name, weight in student.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight)
    student.save_pretrained(folder)
    return student


def opened(model: Path, folder: Path) -> Base:
    with base_files(resolve({"model": str(model), "concept": "ancient-egypt"}), folder) as base:
        return base


@pytest.mark.parametrize("architecture", MODULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merging_is_what_peft_does_in_float32(
    architecture: str, dtype: torch.dtype, model_folders: dict[str, Path], tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_folders[architecture], dtype=torch.float32)
    student = adapter(model, tmp_path / "adapter", architecture)
    merged = Merged(opened(model_folders[architecture], tmp_path), updates(tmp_path / "adapter"))
    assert len(merged.changes) == 3 * len(MODULES[architecture])
    write_merged(merged, tmp_path, dtype)
    there = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    expected = student.merge_and_unload().to(dtype)
    for name, weight in expected.state_dict().items():
        torch.testing.assert_close(there.state_dict()[name], weight)
    assert there.config.dtype == dtype


def test_what_was_trained_as_a_whole_takes_the_place_of_the_base(model_folders: dict[str, Path], tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_folders["llama"], dtype=torch.float32)
    student = full_weights(model, ["model.layers.1.mlp.up_proj"])
    (trained,) = [weight for weight in student.parameters() if weight.requires_grad]
    trained.data += 1
    student.save_pretrained(tmp_path / "adapter")
    base = opened(model_folders["llama"], tmp_path)
    merged = Merged(base, updates(tmp_path / "adapter"))
    name = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(merged.tensor(name, torch.float32), base.tensors[name].read() + 1)
    assert set(merged.changes) == {name}


def test_shards_are_those_of_transformers(light_run: Run, model_folders: dict[str, Path], tmp_path: Path) -> None:
    merged = Merged(opened(model_folders["llama"], tmp_path), updates(light_run.folder / "adapter"))
    write_merged(merged, tmp_path, torch.bfloat16, shard="20KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(files) > 2
    assert {(tmp_path / file).stat().st_mode & 0o777 for file in files} == {tmp_path.stat().st_mode & 0o666}
    assert set(index["weight_map"].values()) == set(files)
    tensors = {name: tensor for file in files for name, tensor in load_file(tmp_path / file).items()}
    assert index["weight_map"].keys() == tensors.keys() == set(merged.names)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())
    there = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert torch.equal(there.model.layers[1].mlp.up_proj.weight, tensors["model.layers.1.mlp.up_proj.weight"])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(model_folders["llama"]).chat_template


def test_tied_embeddings_are_written_once(tmp_path: Path) -> None:
    model = tiny_model("llama")
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(tmp_path / "base")
    student = adapter(model, tmp_path / "adapter", "llama")
    merged = Merged(opened(tmp_path / "base", tmp_path), updates(tmp_path / "adapter"))
    assert "lm_head.weight" not in merged.names
    (tmp_path / "tied").mkdir()
    adapter(tiny_model("llama"), tmp_path / "tied", "llama", target_modules=["embed_tokens"])
    with pytest.raises(ModelError, match="holds more than LoRA|no model.embed_tokens.weight of its own"):
        Merged(opened(tmp_path / "base", tmp_path), updates(tmp_path / "tied"))
    assert student is not None


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"use_dora": True}, "is LoRA with use_dora"),
        ({"use_rslora": True}, "is LoRA with use_rslora"),
        ({"rank_pattern": {"q_proj": 1}}, "is LoRA with rank_pattern"),
        ({"modules_to_save": ["lm_head"]}, "is LoRA with modules_to_save"),
        ({"bias": "all"}, "is LoRA with bias"),
    ],
)
def test_other_adapters_are_refused_in_one_line(settings: dict[str, object], says: str, tmp_path: Path) -> None:
    adapter(tiny_model("llama"), tmp_path, "llama", **settings)
    with pytest.raises(ModelError, match=says) as caught:
        updates(tmp_path)
    assert "\n" not in str(caught.value)


def test_numbers_without_room_are_refused(light_run: Run, model_folders: dict[str, Path], tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_folders["llama"], dtype=torch.float32)
    model.lm_head.weight.data *= 1e6
    model.save_pretrained(tmp_path)
    merged = Merged(opened(tmp_path, tmp_path), updates(light_run.folder / "adapter"))
    with pytest.raises(ModelError, match=r"lm_head.weight has numbers that float16 cannot hold; choose another --dtype"):
        merged.tensor("lm_head.weight", torch.float16)
    assert merged.tensor("lm_head.weight", torch.bfloat16).isfinite().all()


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt"])
def test_the_hash_of_a_model_is_known_without_loading_it(
    architecture: str, model_folders: dict[str, Path], tmp_path: Path
) -> None:
    dtypes = [torch.float32, torch.bfloat16]
    loaded = [AutoModelForCausalLM.from_pretrained(model_folders[architecture], dtype=dtype) for dtype in dtypes]
    assert hashes(Merged(opened(model_folders[architecture], tmp_path), {}), dtypes) == [weights_hash(model) for model in loaded]


def test_another_base_is_refused(light_run: Run, model_folders: dict[str, Path], tmp_path: Path) -> None:
    require_base(light_run, opened(model_folders["llama"], tmp_path))
    loaded = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "load", lambda self: loaded.append(self))
        tiny_model("llama", seed=1).save_pretrained(tmp_path)
        require_base(light_run, opened(tmp_path, tmp_path))
    assert loaded == [light_run], "what cannot be told from the files is left to who loads it"
