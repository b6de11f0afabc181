"""States without logits, the output layer alone, and batches without padding."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from efface.cpu.packing import is_packed, packed_attention
from efface.errors import ModelError
from efface.lm.adapters import attach_adapter
from efface.lm.load import load
from efface.lm.states import output_head, output_states, require_head, without_padding
from efface.recipe.settings import LoraSettings
from tests.conftest import ARCHITECTURES

IDS = torch.tensor([[5, 9, 33, 70, 8, 41, 2, 60]])
LENGTHS = torch.tensor([8, 3, 6])
BATCH = torch.stack([IDS[0], IDS[0].flip(0), IDS[0].roll(2)])
PADDED: dict[str, Any] = {"input_ids": BATCH, "attention_mask": (torch.arange(8) < LENGTHS[:, None]).long()}
ROWS, COLS = torch.tensor([0, 0, 1, 1, 2]), torch.tensor([2, 7, 0, 2, 5])


def student(folder: Path) -> Any:
    model = attach_adapter(load(str(folder), dtype="float32").model, LoraSettings(layers="all"), 0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_head_alone_sees_the_chosen_positions(architecture: str, model_folders: dict[str, Path]) -> None:
    model = load(str(model_folders[architecture]), dtype="float32").model
    ids, rows, cols = torch.cat([IDS, IDS.flip(1)]), torch.tensor([0, 1, 1]), torch.tensor([7, 0, 3])
    everywhere = model(ids).logits
    chosen = output_head(model)(output_states(model, rows, cols, input_ids=ids))
    torch.testing.assert_close(chosen, everywhere[rows, cols])
    torch.testing.assert_close(model(ids).logits, everywhere)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_batch_without_padding_has_the_same_states_and_gradients(architecture: str, model_folders: dict[str, Path]) -> None:
    model, found = student(model_folders[architecture]), []
    model.set_attn_implementation("eager")
    for packing in (False, True):
        model.zero_grad()
        if packing:
            with without_padding(model):
                assert is_packed(model.get_base_model())
                states = output_states(model, ROWS, COLS, **PADDED)
                states.square().sum().backward()
        else:
            states = output_states(model, ROWS, COLS, **PADDED)
            states.square().sum().backward()
        found.append([states, *(p.grad for p in model.parameters() if p.requires_grad)])
    assert model.config._attn_implementation == "eager"
    assert len(found[0]) > 1
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_packed_text_looks_back_no_further_than_the_window(model_folders: dict[str, Path]) -> None:
    model = student(model_folders["mistral"])
    model.config.sliding_window = 3
    model.set_attn_implementation("eager")
    padded, whole = output_states(model, ROWS, COLS, **PADDED), None
    with without_padding(model):
        torch.testing.assert_close(output_states(model, ROWS, COLS, **PADDED), padded, rtol=1e-3, atol=1e-4)
        model.config.sliding_window = 64
        whole = output_states(model, ROWS, COLS, **PADDED)
    assert (whole - padded).abs().max() > 1e-2


def test_a_model_that_cannot_read_packed_batches_reads_padded_ones(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = student(model_folders["gpt2"])
    padded = output_states(model, ROWS, COLS, **PADDED)
    body: PreTrainedModel = model.get_base_model().transformer
    forward = body.forward
    monkeypatch.setattr(body, "forward", lambda *args, position_ids=None, **options: forward(*args, **options))
    with without_padding(model):
        assert model.config._attn_implementation == "eager"
        torch.testing.assert_close(output_states(model, ROWS, COLS, **PADDED), padded, rtol=1e-3, atol=1e-4)


def test_a_model_that_mixes_neighbours_without_attention_reads_padded_batches(capsys: pytest.CaptureFixture[str]) -> None:
    """Short convolutions see over the end of a text."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = AutoConfig.for_model("lfm2", **sizes, num_hidden_layers=3, layer_types=["conv", "full_attention", "conv"])
    model = attach_adapter(AutoModelForCausalLM.from_config(config), LoraSettings(layers="all", modules="q_proj"), 0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    with without_padding(model.eval()):
        assert not is_packed(model.get_base_model())
    assert "batches are padded" in capsys.readouterr().err


def test_a_model_with_something_before_its_output_layer_is_refused(model_folders: dict[str, Path]) -> None:
    require_head(load(str(model_folders["llama"])).model)
    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2}
    config = AutoConfig.for_model("bert", **sizes, is_decoder=True)
    with pytest.raises(ModelError, match="its output layer cannot be run on its own"):
        require_head(AutoModelForCausalLM.from_config(config).eval())


def test_a_model_that_says_no_numbers_is_said_to(model_folders: dict[str, Path]) -> None:
    model = load(str(model_folders["llama"]), dtype="float32").model
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.fill_(3e38)
    with pytest.raises(ModelError, match="says NaN in torch.float32 though its weights are numbers"):
        require_head(model)


def test_attention_of_an_unknown_kind_is_refused() -> None:
    states = torch.randn(1, 2, 8, 4)
    with pytest.raises(NotImplementedError, match="s_aux"):
        packed_attention(torch.nn.Identity(), states, states, states, torch.tensor([[[[8]]]]), s_aux=torch.zeros(2))
