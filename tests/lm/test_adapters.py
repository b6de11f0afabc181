"""Adapters: where they sit, which of them fit a model, what is read of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from efface.errors import ModelError
from efface.lm.adapters import ADAPTER, attach_adapter, read_adapter
from efface.lm.layers import decoder_layers, linear_modules, teacher
from efface.lm.load import Loaded, load
from efface.recipe.settings import LoraSettings
from tests.conftest import ARCHITECTURES
from tests.lm.test_load import rename

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_gets_an_adapter(architecture: str, model_folders: dict[str, Path]) -> None:
    loaded = load(str(model_folders[architecture]), dtype="float32")
    prefix, layers = decoder_layers(loaded.model)
    assert len(layers) == 3
    modules = linear_modules(loaded.model, "1-2")
    assert all(name.startswith((f"{prefix}.1.", f"{prefix}.2.")) for name in modules)
    expected = {"gpt_neox": 4, "gpt2": 4, "opt": 6}.get(architecture, 7)
    assert len(modules) == 2 * expected

    before = loaded.model(IDS).logits.detach()
    student = attach_adapter(loaded.model, LoraSettings(rank=2, layers="1-2"), seed=0)
    torch.testing.assert_close(student(IDS).logits, before)  # a fresh adapter changes nothing
    trained = {name for name, parameter in student.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * len(modules)
    assert all("lora_" in name for name in trained)

    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3)
    assert (student(IDS).logits - before).abs().max() > 1e-3
    with teacher(student) as base:
        torch.testing.assert_close(base(IDS).logits, before)


def test_modules_that_no_adapter_reaches_are_left_out() -> None:
    sizes = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("mamba", **sizes))
    names = {name.rsplit(".", 1)[-1] for name in linear_modules(model)}
    assert names
    assert "out_proj" not in names
    attach_adapter(model, LoraSettings(rank=2, layers="all"), seed=0)
    with pytest.raises(ModelError, match="no linear module 'out_proj'"):
        linear_modules(model, modules="out_proj")


@pytest.fixture
def adapter(model_folders: dict[str, Path], tmp_path: Path) -> Path:
    model = load(str(model_folders["llama"]), dtype="float32").model
    attach_adapter(model, LoraSettings(rank=2, layers="1-2"), seed=0).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def not_numbers(file: Path) -> None:
    save_file({key: tensor * float("nan") for key, tensor in load_file(file).items()}, file, {"format": "pt"})


def shortened(file: Path) -> None:
    tensors = load_file(file)
    save_file({key: tensor for key, tensor in tensors.items() if "layers.2." not in key}, file, {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: not_numbers(folder / ADAPTER), "its weights are NaN in base_model.model.model.layers.1."),
        (lambda folder: (folder / ADAPTER).unlink(), "holds no adapter_model.safetensors"),
        (lambda folder: (folder / ADAPTER).write_bytes(b"no tensors"), "does not fit"),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), "does not fit"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "does not fit"),
        (
            lambda folder: shortened(folder / ADAPTER),
            "it lacks base_model.model.model.layers.2.mlp.down_proj.lora_A.weight (and 13",
        ),
        (lambda folder: rename(folder / ADAPTER, "base_model.", "other."), "it lacks base_model.model.model.layers.1."),
        (
            lambda folder: fewer_targets(folder),
            "this model has no place for base_model.model.model.layers.2.mlp.down_proj.lora_A",
        ),
    ],
)
def test_an_adapter_that_does_not_fit_is_one_line(damage: Any, says: str, adapter: Path, llama: Loaded) -> None:
    damage(adapter)
    with pytest.raises(ModelError) as caught:
        read_adapter(llama, adapter)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def fewer_targets(folder: Path) -> None:
    file = folder / "adapter_config.json"
    settings = json.loads(file.read_text())
    targets = [name for name in settings["target_modules"] if ".2." not in name]
    file.write_text(json.dumps({**settings, "target_modules": targets}))


@pytest.mark.parametrize("rank", [0, 2])
def test_an_adapter_that_fits(rank: int, llama: Loaded, model_folders: dict[str, Path], tmp_path: Path) -> None:
    attach_adapter(llama.model, LoraSettings(rank=rank, layers="1-2"), seed=0).save_pretrained(tmp_path)
    again = load(str(model_folders["llama"]), dtype="float32")
    torch.testing.assert_close(read_adapter(again, tmp_path).model(IDS).logits, llama.model(IDS).logits)


def test_whole_embeddings_beside_an_adapter_are_read(llama: Loaded, model_folders: dict[str, Path], tmp_path: Path) -> None:
    student = attach_adapter(llama.model, LoraSettings(rank=2), seed=0)
    student.save_pretrained(tmp_path, save_embedding_layers=True)
    assert any("embed_tokens" in key for key in load_file(tmp_path / ADAPTER))
    read_adapter(load(str(model_folders["llama"]), dtype="float32"), tmp_path)


def test_an_adapter_of_the_hub_is_never_unpickled(adapter: Path, llama: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, file: str, **_: object) -> str:
        assert name == "somebody/adapter"
        if not (adapter / file).is_file():
            raise LocalEntryNotFoundError(file)
        return str(adapter / file)

    monkeypatch.setattr("efface.lm.adapters.hf_hub_download", download)
    assert read_adapter(llama, "somebody/adapter").peft_config["default"].r == 2
    (adapter / ADAPTER).rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match="cannot fetch .*adapter_model.safetensors of somebody/adapter"):
        read_adapter(llama, "somebody/adapter")
