"""A tiny model with an adapter on it that changes what it says."""

import pytest
import torch

from efface.lm.adapters import attach_adapter
from efface.lm.load import Loaded
from efface.recipe.settings import LoraSettings
from efface.serve.voices import Voice, Weights, base_and_erased


@pytest.fixture
def pair(llama: Loaded) -> tuple[Voice, Voice]:
    student = attach_adapter(llama.model, LoraSettings(layers="0-2", rank=4), 0).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    return base_and_erased(Weights.of(Loaded(student, llama.tokenizer, llama.source, llama.path)))
