"""The language model inside a model that also sees: its layers are trained and measured, whatever else there is."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from efface.lm.adapters import attach_adapter
from efface.lm.cache import SharedPrefixes, require_cache
from efface.lm.layers import decoder_layers, linear_modules, positions
from efface.lm.load import load
from efface.lm.states import last_norm, output_states, require_head, without_padding
from efface.recipe.settings import LoraSettings
from efface.runs.pipeline import erase
from tests.conftest import SMALL, tiny_model
from tests.lm.test_states import COLS, PADDED, ROWS
from tests.runs.conftest import SMALL as JOB

EYES = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "image_size": 16, "patch_size": 8}
LLAMA = {**SMALL, "model_type": "llama"}
ROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}}
QWEN_TOKENS = {"image_token_id": 290, "video_token_id": 291, "vision_start_token_id": 292, "vision_end_token_id": 293}
KINDS = ("gemma3", "qwen2_vl", "llava", "idefics3")


def seeing(kind: str, depth: int) -> Any:
    """A tiny model of three decoder layers behind an encoder of so many."""
    eyes = {**EYES, "num_hidden_layers": depth}
    settings: dict[str, dict[str, Any]] = {
        "gemma3": {
            "text_config": {**SMALL, "head_dim": 8, "sliding_window": 64},
            "vision_config": {**eyes, "model_type": "siglip_vision_model"},
            "mm_tokens_per_image": 4,
            "image_token_index": 290,
            "boi_token_index": 291,
            "eoi_token_index": 292,
        },
        "qwen2_vl": {
            "text_config": {**SMALL, **ROPE},
            "vision_config": {
                "depth": depth,
                "embed_dim": 32,
                "hidden_size": 32,
                "num_heads": 4,
                "patch_size": 8,
                "mlp_ratio": 2,
            },
            **QWEN_TOKENS,
        },
        "llava": {"text_config": LLAMA, "vision_config": {**eyes, "model_type": "clip_vision_model"}, "image_token_index": 290},
        "idefics3": {
            "text_config": LLAMA,
            "vision_config": {**eyes, "model_type": "idefics3_vision"},
            "image_token_id": 290,
            "pad_token_id": 1,
        },
    }
    torch.manual_seed(0)
    of = AutoModelForCausalLM if kind == "gemma3" else AutoModelForImageTextToText
    model = of.from_config(AutoConfig.for_model(kind, **settings[kind])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return model


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_the_layers_are_the_decoders(kind: str, depth: int) -> None:
    model = seeing(kind, depth)
    name, layers = decoder_layers(model)
    assert layers is model.get_decoder().layers
    assert model.get_submodule(name) is layers
    assert all(module.startswith(f"{name}.2.") for module in linear_modules(model, "2"))
    assert positions(model) == 256
    require_head(model)
    require_cache(model, [2, 3, 4, 5, 6, 7])
    assert SharedPrefixes(model, [list(range(2, 12))], 1).usable
    assert last_norm(model) is model.get_decoder().norm


@pytest.mark.parametrize("kind", KINDS)
def test_batches_without_padding_have_the_same_states_while_it_trains(kind: str) -> None:
    model: Any = attach_adapter(seeing(kind, 5), LoraSettings(rank=2, layers="all"), 0)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all("vision" not in name for name in trained)
    model.eval()
    padded = output_states(model, ROWS, COLS, **PADDED)
    with without_padding(model.train()):
        torch.testing.assert_close(output_states(model, ROWS, COLS, **PADDED), padded, rtol=1e-3, atol=1e-3)


def test_experts_that_are_more_than_the_layers_are_none() -> None:
    model: Any = tiny_model("llama")
    for layer in model.model.layers:
        layer.mlp.experts = nn.ModuleList(nn.Linear(32, 32) for _ in range(8))
    assert decoder_layers(model)[1] is model.model.layers
    model.model.adapters = nn.ModuleList(nn.Linear(32, 32) for _ in range(3))  # as many as the layers, and beside them
    assert decoder_layers(model)[0] == "model.layers"


def test_layers_of_different_kinds_are_layers() -> None:
    sizes = {**SMALL, "num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2}
    more = {"num_experts": 2, "num_experts_per_tok": 1, "mamba_d_state": 4, "mamba_dt_rank": 4, "use_mamba_kernels": False}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("jamba", **sizes, **more))
    name, layers = decoder_layers(model)
    assert (name, len(layers), len({type(layer) for layer in layers})) == ("model.layers", 4, 2)


@pytest.mark.parametrize("kind", ["gemma3", "llava"])
def test_a_model_that_sees_is_erased(kind: str, tokenizer_folder: Path, pack_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    seeing(kind, 5).save_pretrained(folder)
    shutil.copytree(tokenizer_folder, folder, dirs_exist_ok=True)
    assert type(load(str(folder)).model).__name__.endswith("ForConditionalGeneration")
    run = erase(str(folder), str(pack_folder), to=tmp_path / "run", **{**JOB, "audit": {"samples": 0}})
    assert len(run.audit.base.depth) in (0, 3)
    assert run.audit.erased.scores["drift/retain/kl"].value > 0
