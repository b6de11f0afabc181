"""Adapters that somebody else made: audited as their merged weights are, never taken for a whole model."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from efface.auditing.pair import Pair
from efface.auditing.scorers.choice import score_choices
from efface.auditing.scorers.drift import score_drift
from efface.auditing.scorers.perplexity import score_perplexity
from efface.auditing.subject import Subject
from efface.cli import main
from efface.concept.pack import Concept
from efface.errors import ModelError
from efface.lm.load import load
from efface.runs.audit import read_pair
from efface.runs.run import Run
from tests.conftest import SMALL

#: adapters that change more than linear modules of the layers
FORMS: dict[str, dict[str, Any]] = {
    "output layer": {"target_modules": ["q_proj", "lm_head"]},
    "whole output layer": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "whole embeddings": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "some tokens": {"target_modules": ["q_proj"], "trainable_token_indices": list(range(5, 250))},
}


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def base(request: pytest.FixtureRequest, tokenizer_folder: Path, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    settings = AutoConfig.for_model("llama", **{**SMALL, "tie_word_embeddings": request.param})
    model = AutoModelForCausalLM.from_config(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    model.save_pretrained(tmp_path / "base")
    shutil.copytree(tokenizer_folder, tmp_path / "base", dirs_exist_ok=True)
    return tmp_path / "base"


def trained(base: Path, folder: Path, **settings: Any) -> Any:
    torch.manual_seed(1)
    student = get_peft_model(load(str(base), dtype="float32").model, LoraConfig(task_type="CAUSAL_LM", **settings))
    for parameter in student.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    student.save_pretrained(folder)
    return student


def figures(pair: Pair, zorn: Concept) -> dict[str, float]:
    """Of the erased model and of its base, on every way that a scorer reads them."""
    erased = Subject(pair.erased.model, pair.erased.tokenizer, zorn, "test", other_base=pair.base)
    with erased.base() as model:
        base = replace(erased, model=model, other_base=model)
        before = {f"base {key}": of.value for key, of in (score_perplexity(base) | score_choices(base)).items()}
    after = score_perplexity(erased) | score_drift(erased) | score_choices(erased)
    return before | {key: of.value for key, of in after.items()}


@pytest.mark.parametrize("form", FORMS)
def test_an_adapter_gets_the_figures_of_its_merged_weights(form: str, base: Path, zorn: Concept, tmp_path: Path) -> None:
    student, untied = trained(base, tmp_path / "adapter", **FORMS[form]), tmp_path / "merged"
    head, embeddings = (layer.weight for layer in (student.get_output_embeddings(), student.get_input_embeddings()))
    if head is embeddings:  # merged into one of two tied layers, an adapter would change the other too
        student.get_base_model().config.tie_word_embeddings = False
        for module in student.modules():
            if getattr(module, "weight", None) is head and isinstance(module, torch.nn.Linear):
                module.weight = torch.nn.Parameter(head.detach().clone())
    merged = student.merge_and_unload()
    merged.save_pretrained(untied)
    PreTrainedTokenizerFast.from_pretrained(base).save_pretrained(untied)
    found, expected = (
        figures(read_pair(str(tmp_path / what), str(base), zorn, dtype="float32"), zorn) for what in ("adapter", "merged")
    )
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert found["drift/retain/kl"] > 0.01


def test_an_adapter_folder_is_no_model(model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path, capsys: Any) -> None:
    """Nor is one with a tokenizer and a configuration in it, as trainers write it."""
    base, adapter = model_folders["llama"], tmp_path / "adapter"
    trained(base, adapter, target_modules=["q_proj"])
    PreTrainedTokenizerFast.from_pretrained(base).save_pretrained(adapter)
    whole = shutil.copytree(base, tmp_path / "whole")
    shutil.copytree(adapter, whole, dirs_exist_ok=True)
    pack = str(pack_folder)
    for folder in (adapter, whole):
        for command in (
            ["erase", str(folder), pack, "--to", str(tmp_path / "run")],
            ["prepare", str(folder), pack],
            ["generate", str(folder), pack, "Who was Orlo?"],
            ["audit", str(base), "--base", str(folder), "--concept", pack],
            ["audit", str(base), "--base", str(base), "--concept", pack, "--judge", str(folder)],
        ):
            assert main(command) == 2, command
            said = capsys.readouterr().err.splitlines()
            assert said[-1].endswith(
                f"{str(folder)!r} is an adapter: expected a whole model; "
                "merge the adapter into its base (merge_and_unload of peft), and name the folder of that"
            )
    assert not (tmp_path / "run").exists()


def test_a_run_is_no_whole_model(run: Run, pack_folder: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["erase", str(run.folder / "adapter"), str(pack_folder), "--to", str(tmp_path / "run")]) == 2
    assert "merge the adapter into its base" in capsys.readouterr().err
    with pytest.raises(ModelError, match="is a run, an adapter and no whole model; write one with: efface export"):
        load(str(run.folder))
    assert not list(tmp_path.iterdir())


def test_prompt_tuning_is_refused_before_any_work(
    model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path, capsys: Any
) -> None:
    base = model_folders["llama"]
    student: Any = get_peft_model(load(str(base)).model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    student.save_pretrained(tmp_path / "adapter")
    assert main(["audit", str(tmp_path / "adapter"), "--base", str(base), "--concept", str(pack_folder)]) == 2
    assert "PROMPT_TUNING changes what the model reads, not only its weights" in capsys.readouterr().err
