"""Several processes, activation checkpointing, weights in 4 bits, layers spread over devices."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from efface.concept.pack import Concept
from efface.data.batches import Collator
from efface.data.store import Store
from efface.errors import InputError, ModelError
from efface.lm.adapters import attach_adapter
from efface.lm.layers import decoder_layers
from efface.lm.load import Loaded, load
from efface.methods import make_method
from efface.recipe.resolve import resolve
from efface.runs.folder import TRAINED
from efface.runs.pipeline import erase
from efface.runs.run import Run

SMALL: dict[str, Any] = {
    "dtype": "float32",
    "data": {"max_tokens": 24},
    "fluency": {"texts": 4, "tokens": 8},
    "lora": {"layers": "1-2", "rank": 2},
    "train": {"steps": 6, "batch_size": 2, "accumulation": 2, "checkpoint_steps": 2},
}


def launched(folder: Path, recipe: dict[str, Any], *options: str) -> subprocess.CompletedProcess[str]:
    """Two processes of ``efface erase``, as a user starts them."""
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "efface", "erase"]
    return subprocess.run(
        [*command, str(folder / "recipe.yaml"), "--to", str(folder / "run"), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_two_processes_make_the_adapter_of_one_with_twice_the_batch(
    model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path
) -> None:
    recipe = {"model": str(model_folders["llama"]), "concept": str(pack_folder), **SMALL}
    one = erase(**recipe, to=tmp_path / "one")
    done = launched(tmp_path, {**recipe, "train": {**SMALL["train"], "batch_size": 1}})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report.html") == 1
    two = Run(tmp_path / "run")
    assert {path.name for path in two.folder.iterdir()} == {path.name for path in one.folder.iterdir()}
    assert two.record.processes == 2
    assert two.record.tokens == one.record.tokens
    ours, theirs = (load_file(run.folder / "adapter" / "adapter_model.safetensors") for run in (one, two))
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], atol=1e-5, rtol=1e-4)

    # killed after training: both processes go on, and none of them trains again
    record, partial = two.record, two.folder.with_name("run.partial")
    two.folder.rename(partial)
    (partial / "README.md").unlink()
    hashes = {name: record.hashes[name] for name in ("model", "concept")}
    started = {"recipe": record.recipe.model_dump(mode="json", exclude={"audit"}), "hashes": hashes, "processes": 2}
    (partial / "started.json").write_text(json.dumps(started))
    (partial / TRAINED).write_text(json.dumps({"losses": record.losses, "tokens": record.tokens}))
    done = launched(tmp_path, {**recipe, "train": {**SMALL["train"], "batch_size": 1}})
    assert done.returncode == 0, done.stderr
    assert "training" not in done.stderr
    assert two.record.hashes == record.hashes
    assert two.record.losses == record.losses
    assert not partial.exists()


@pytest.mark.parametrize("split", ["FSDP", "DEEPSPEED", "PARALLELISM_CONFIG"])
def test_a_model_in_pieces_is_one_line(split: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{split}", "true")
    with pytest.raises(InputError, match="weights in pieces .* are not supported"):
        erase("m", "ancient-egypt", to=tmp_path / "run")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("rank", [2, 0])
def test_checkpointing_changes_nothing_but_memory(rank: int, llama: Loaded, zorn: Concept) -> None:
    settings = {**SMALL, "lora": {"layers": "1-2", "rank": rank}}
    recipe = resolve({"model": "m", "concept": "c", **settings})
    method = make_method(recipe)
    corpora = method.prepare(llama, zorn, Store({"model": "llama"}))
    batch = Collator(1)([{term: [examples[0]] for term, examples in corpora.items()}])
    student = attach_adapter(llama.model, recipe.lora, 0).train()

    def gradient() -> torch.Tensor:
        student.zero_grad()
        method.loss(student, batch).total().backward()
        return torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])

    plain = gradient()
    student.activation_checkpointing_enable()
    torch.testing.assert_close(gradient(), plain)


def test_nothing_is_kept_below_the_lowest_adapted_layer(llama: Loaded) -> None:
    student = attach_adapter(llama.model, resolve({"model": "m", "concept": "c", **SMALL}).lora, 0)
    kept: list[bool] = []
    for layer in decoder_layers(student)[1]:
        layer.register_forward_hook(
            lambda *seen: kept.append((seen[2][0] if isinstance(seen[2], tuple) else seen[2]).requires_grad)
        )
    student(torch.tensor([[5, 6, 7]]))
    assert kept == [False, True, True]


def test_layers_can_be_spread_over_devices(model_folders: dict[str, Path]) -> None:
    spread = load(str(model_folders["llama"]), dtype="float32", device_map="auto").model
    whole = load(str(model_folders["llama"]), dtype="float32").model
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(spread(ids.to(spread.device)).logits.cpu(), whole(ids.to(whole.device)).logits.cpu())


def test_4_bits_without_bitsandbytes_is_one_line(model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ModelError, match="needs bitsandbytes; try: pip install"):
        load(str(model_folders["llama"]), load_in_4bit=True)
