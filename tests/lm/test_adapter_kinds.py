"""Every kind of adapter that peft can load is read as what it is, or refused in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel, PeftType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from efface.auditing.likelihoods import Branches, log_likelihoods
from efface.data.sample import sample
from efface.errors import ModelError
from efface.lm.adapters import read_adapter
from efface.lm.layers import teacher
from efface.lm.load import Loaded
from efface.lm.states import output_head, output_states
from tests.conftest import tiny_model

pytestmark = pytest.mark.filterwarnings("ignore")  # peft's own, of kinds that cannot be merged

IDS = torch.tensor([[5, 9, 33, 70, 8, 41, 2, 60]])
QV: dict[str, Any] = {"target_modules": ["q_proj", "v_proj"]}
#: what a kind needs besides a pair of modules
NEEDS: dict[str, dict[str, Any]] = {
    "ADALORA": {**QV, "total_step": 10},
    "ADAPTION_PROMPT": {"adapter_len": 4, "adapter_layers": 2},
    "C3A": {**QV, "block_size": 8},
    "CARTRIDGE": {"num_virtual_tokens": 4, "num_layers": 3, "token_dim": 16, "num_attention_heads": 2},
    "CPT": {"cpt_token_ids": [5, 6], "cpt_mask": [1, 1], "cpt_tokens_type_mask": [1, 1]},
    "FOURIERFT": {**QV, "n_frequency": 10},
    "IA3": {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    "LN_TUNING": {"target_modules": ["norm", "input_layernorm"]},
    "MISS": {**QV, "r": 4},
    "MULTITASK_PROMPT_TUNING": {"num_virtual_tokens": 4, "num_tasks": 2},
    "OFT": {**QV, "oft_block_size": 4},
    "POLY": {**QV, "n_tasks": 2},
    "PSOFT": {**QV, "r": 4},
    "PREFIX_TUNING": {"num_virtual_tokens": 4},
    "PROMPT_TUNING": {"num_virtual_tokens": 4},
    "P_TUNING": {"num_virtual_tokens": 4, "encoder_hidden_size": 8},
    "RANDLORA": {**QV, "r": 4},
    "ROAD": {**QV, "group_size": 8},
    "SHADOW": {},
    "SHIRA": {**QV, "r": 4},
    "TRAINABLE_TOKENS": {"token_indices": [5, 9], "target_modules": ["embed_tokens"]},
    "VBLORA": {**QV, "num_vectors": 8, "vector_length": 8},
    "WAVEFT": {**QV, "n_frequency": 10},
    "XLORA": {"hidden_size": 32, "adapters": {"0": "nowhere"}},
}
REFUSED = {
    *(
        "CARTRIDGE",
        "CPT",
        "LILY",
        "MULTITASK_PROMPT_TUNING",
        "POLY",
        "PREFIX_TUNING",
        "PROMPT_TUNING",
        "P_TUNING",
        "SHADOW",
        "XLORA",
    ),
}
KINDS = sorted(kind.value for kind in PEFT_TYPE_TO_CONFIG_MAPPING)
#: forms of LoRA that touch more than a linear module of a layer
FORMS: dict[str, dict[str, Any]] = {
    "output layer": {"target_modules": ["q_proj", "lm_head"]},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
    "whole output layer": {"modules_to_save": ["lm_head"]},
    "whole embeddings": {"modules_to_save": ["embed_tokens"]},
    "whole last norm": {"modules_to_save": ["norm"]},
    "whole layer": {"modules_to_save": ["layers.1"]},
    "some tokens": {"trainable_token_indices": [5, 9]},
    "dora": {"use_dora": True},
    "rank-stabilised": {"use_rslora": True},
    "biases of its own": {"lora_bias": True},
    "a parameter": {"target_modules": [], "target_parameters": ["layers.0.self_attn.q_proj.weight"]},
}


def model(tied: bool = False, architecture: str = "llama") -> PreTrainedModel:
    found: Any = tiny_model(architecture).eval()
    if tied:
        found.config.tie_word_embeddings = True
        found.tie_weights()
    return found


def config(kind: str) -> PeftConfig:
    return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)](task_type="CAUSAL_LM", **NEEDS.get(kind, QV))


def trained(base: PreTrainedModel, settings: PeftConfig, folder: Path) -> PeftModel:
    """An adapter that was moved away from where it began, and saved."""
    student: Any = get_peft_model(base, settings).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    student.save_pretrained(folder)
    return student


def same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def paths(of: Any, tokenizer: PreTrainedTokenizerFast) -> list[Tensor]:
    """What scorers make of a model: logits of states, likelihoods behind a shared prefix, greedy tokens with a cache."""
    rows, cols = torch.zeros(8, dtype=torch.long), torch.arange(8)
    prompt = [*IDS[0].tolist(), *range(20, 30)]
    asked = [Branches([*prompt, last], ([5, 6, 7], [8, 9])) for last in (40, 41)]
    with torch.no_grad():
        return [
            output_head(of)(output_states(of, rows, cols, input_ids=IDS)),
            torch.tensor([value for row in log_likelihoods(of, asked, 1) for value in row]),
            torch.tensor(sample(of, tokenizer, [prompt], max_new_tokens=6, do_sample=False)),
        ]


def directly(of: Any) -> list[Tensor]:
    """The same from whole forward passes alone."""

    def logits(ids: list[int]) -> Tensor:
        return of(input_ids=torch.tensor([ids]), use_cache=False).logits[0]  # type: ignore[no-any-return]

    prompt = [*IDS[0].tolist(), *range(20, 30)]
    with torch.no_grad():
        likelihoods = [
            sum(logits([*prompt, last, *more]).log_softmax(-1)[len(prompt) + i, token] for i, token in enumerate(more))
            for last in (40, 41)
            for more in ([5, 6, 7], [8, 9])
        ]
        said: list[int] = []
        while len(said) < 6 and (not said or said[-1] != 1):
            said.append(int(logits(prompt + said)[-1].argmax()))
        return [logits(IDS[0].tolist()), torch.stack(likelihoods), torch.tensor([said])]  # type: ignore[arg-type]


def check(make: Callable[[], PreTrainedModel], settings: PeftConfig, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Read again, the adapter is the one that was saved, on every way of a scorer; disabled, it is gone."""
    expected, before = directly(trained(make(), settings, folder)), directly(make())
    student = read_adapter(Loaded(make(), tokenizer, "base", "base"), folder)
    assert (expected[0] - before[0]).abs().max() > 1e-3
    for one, other in zip(paths(student, tokenizer), expected, strict=True):
        same(one, other)
    with teacher(student) as base:
        for one, other in zip(paths(base, tokenizer), before, strict=True):
            same(one, other)


@pytest.fixture(autouse=True)
def nothing_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BOFT tries to compile a kernel of its own."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))


@pytest.fixture
def tokenizer(tokenizer_folder: Path) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in REFUSED])
def test_every_kind_is_read_as_what_was_saved(kind: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    check(model, config(kind), tmp_path, tokenizer)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_lora(form: str, tied: bool, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    check(lambda: model(tied), LoraConfig(task_type="CAUSAL_LM", **{**QV, **FORMS[form]}), tmp_path, tokenizer)


@pytest.mark.parametrize("kind", sorted(REFUSED & set(KINDS)))
def test_what_is_more_than_its_weights_is_refused(kind: str, tmp_path: Path) -> None:
    config(kind).save_pretrained(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=f"{kind} changes what the model reads, not only its weights"):
        read_adapter(Loaded(model(), None, "base", "base"), tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "architecture", "holds"),
    [
        ({"init_lora_weights": "pissa"}, "llama", "other weights for the model itself"),
        ({"init_lora_weights": "olora"}, "llama", "other weights for the model itself"),
        ({"layer_replication": [(0, 2), (1, 3)]}, "llama", "other weights for the model itself"),
        ({"bias": "all"}, "qwen2", "other weights for base_model.model.model.layers.0.self_attn.k_proj.bias (and 8 more)"),
        ({"bias": "lora_only"}, "qwen2", "other weights for .*q_proj.base_layer.bias"),
    ],
)
def test_an_adapter_that_cannot_be_disabled_is_refused(
    settings: dict[str, Any], architecture: str, holds: str, tmp_path: Path
) -> None:
    trained(model(architecture=architecture), LoraConfig(task_type="CAUSAL_LM", **{**QV, **settings}), tmp_path)
    with pytest.raises(ModelError, match=f"it holds {holds}".replace("(", r"\(").replace(")", r"\)")) as caught:
        read_adapter(Loaded(model(architecture=architecture), None, "base", "base"), tmp_path)  # type: ignore[arg-type]
    assert "merge it into its base" in str(caught.value)


def test_embeddings_that_were_trained_beside_an_adapter_are_refused(tmp_path: Path) -> None:
    student = trained(model(), LoraConfig(task_type="CAUSAL_LM", **QV), tmp_path)
    with torch.no_grad():
        student.get_input_embeddings().weight[7] += 1e-3
    student.save_pretrained(tmp_path, save_embedding_layers=True)
    with pytest.raises(ModelError, match=r"it holds other weights for base_model\.model\.model\.embed_tokens\.weight, so"):
        read_adapter(Loaded(model(), None, "base", "base"), tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize("task", [None, "FEATURE_EXTRACTION", "SEQ_CLS", "TOKEN_CLS", "SEQ_2_SEQ_LM", "QUESTION_ANS"])
def test_the_task_that_an_adapter_was_made_for_changes_nothing(
    task: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    expected = directly(trained(model(), LoraConfig(task_type="CAUSAL_LM", **QV), tmp_path))
    LoraConfig(task_type=task, r=8, **QV).save_pretrained(tmp_path)
    student = read_adapter(Loaded(model(), tokenizer, "base", "base"), tmp_path)
    for one, other in zip(paths(student, tokenizer), expected, strict=True):
        same(one, other)
    file = tmp_path / "adapter_model.safetensors"
    save_file({**load_file(file), "base_model.model.score.weight": torch.zeros(2, 32)}, file, {"format": "pt"})
    with pytest.raises(ModelError, match="this model has no place for base_model.model.score.weight"):
        read_adapter(Loaded(model(), tokenizer, "base", "base"), tmp_path)
