import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from efface.concept.pack import Concept
from efface.data.batches import Example
from efface.data.store import Store
from efface.errors import TrainingError
from efface.lm.adapters import attach_adapter
from efface.lm.load import load
from efface.losses import LossTerms
from efface.methods import make_method
from efface.methods.elm import ELM
from efface.recipe.recipe import Recipe
from efface.recipe.resolve import resolve
from efface.training import last_checkpoint, schedule, train

SETTINGS = {
    "model": "m",
    "concept": "c",
    "dtype": "float32",
    "erase": {"target": "tilted"},  # what is prepared here is trained on by other instances of the method
    "data": {"max_tokens": 24},
    "fluency": {"texts": 4, "tokens": 8},
    "lora": {"layers": "all", "dropout": 0.1},
    "train": {"steps": 6, "batch_size": 2, "accumulation": 1, "checkpoint_steps": 2, "lr": 0.01},
}


@pytest.fixture(scope="module")
def corpora(model_folders: dict[str, Path], pack_folder: Path) -> dict[str, list[Example]]:
    loaded = load(str(model_folders["llama"]), dtype="float32")
    return make_method(resolve(SETTINGS)).prepare(loaded, Concept.load(str(pack_folder)), Store({"model": "llama"}))


def trained(
    model_folder: Path,
    corpora: dict[str, list[Example]],
    folder: Path,
    method: type[ELM] = ELM,
    dropout: float = 0.1,
    **changes: Any,
) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    lora = {"layers": "all", "dropout": dropout}
    recipe: Recipe = resolve({**SETTINGS, "lora": lora, "train": {**SETTINGS["train"], **changes}})
    loaded = load(str(model_folder), dtype="float32")
    student = attach_adapter(loaded.model, recipe.lora, recipe.seed)
    losses = train(student, loaded.tokenizer, method(recipe), corpora, recipe, folder)
    return {name: p.detach().clone() for name, p in student.named_parameters() if p.requires_grad}, losses


class Killed(Exception):
    pass


class KilledAtStep(ELM):
    """Dies in the middle of step 5, after the checkpoint of step 4."""

    calls = 0

    def loss(self, model: torch.nn.Module, batch: dict[str, Any]) -> LossTerms:
        type(self).calls += 1
        if type(self).calls == 5:
            raise Killed
        return super().loss(model, batch)


def test_resume_ends_with_the_same_weights(
    model_folders: dict[str, Path], corpora: dict[str, list[Example]], tmp_path: Path
) -> None:
    undisturbed, losses = trained(model_folders["llama"], corpora, tmp_path / "one")
    with pytest.raises(Killed):
        trained(model_folders["llama"], corpora, tmp_path / "two", KilledAtStep)
    assert (tmp_path / "two" / "checkpoint-4").is_dir()
    cut_short = tmp_path / "two" / "checkpoint-6"
    cut_short.mkdir()
    (cut_short / "adapter_model.safetensors").write_bytes(b"half")
    resumed, relosses = trained(model_folders["llama"], corpora, tmp_path / "two")
    assert undisturbed.keys() == resumed.keys()
    for name, weight in undisturbed.items():
        assert torch.equal(weight, resumed[name]), name
    assert [entry["loss"] for entry in losses] == [entry["loss"] for entry in relosses]


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "flipped"])
@pytest.mark.parametrize(
    "name", ["adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]
)
def test_a_damaged_checkpoint_is_dropped_and_the_one_before_serves(
    name: str,
    damage: str,
    half_way: Path,
    model_folders: dict[str, Path],
    corpora: dict[str, list[Example]],
    undisturbed: dict[str, torch.Tensor],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(half_way, tmp_path / "checkpoints")
    file = folder / "checkpoint-4" / name
    content = file.read_bytes()
    flipped = content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 4]) + content[len(content) // 2 + 1 :]
    file.write_bytes({"empty": b"", "cut": content[:-5], "flipped": flipped}.get(damage, b""))
    if damage == "gone":
        file.unlink()
    assert last_checkpoint(folder) == str(folder / "checkpoint-2")
    assert f"{folder}/checkpoint-4 is not whole ({name} is missing or damaged); it is dropped" in capsys.readouterr().err
    if name in ("optimizer.pt", "adapter_model.safetensors") and damage == "flipped":
        resumed, _ = trained(model_folders["llama"], corpora, folder)
        assert all(torch.equal(weight, resumed[name]) for name, weight in undisturbed.items())


@pytest.fixture(scope="module")
def undisturbed(
    model_folders: dict[str, Path], corpora: dict[str, list[Example]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, torch.Tensor]:
    return trained(model_folders["llama"], corpora, tmp_path_factory.mktemp("undisturbed"))[0]


@pytest.fixture(scope="module")
def half_way(model_folders: dict[str, Path], corpora: dict[str, list[Example]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of steps 2 and 4."""
    folder, KilledAtStep.calls = tmp_path_factory.mktemp("half"), 0
    with pytest.raises(Killed):
        trained(model_folders["llama"], corpora, folder, KilledAtStep)
    return folder


def test_the_log_shows_the_three_terms_and_the_loss_falls(
    model_folders: dict[str, Path], corpora: dict[str, list[Example]], tmp_path: Path
) -> None:
    _, losses = trained(model_folders["llama"], corpora, tmp_path, steps=20, warmup_steps=0)
    assert len(losses) == 20
    for entry in losses:
        assert entry["loss"] == pytest.approx(entry["erase"] + entry["retain"] + entry["fluency"], rel=1e-3)
    early, late = (sum(entry["loss"] for entry in part) for part in (losses[:5], losses[-5:]))
    assert late < early


def test_accumulation_averages(model_folders: dict[str, Path], corpora: dict[str, list[Example]], tmp_path: Path) -> None:
    def moved(name: str, **batches: int) -> torch.Tensor:
        weights, _ = trained(model_folders["llama"], corpora, tmp_path / name, dropout=0.0, steps=2, **batches)
        return torch.cat([weights[name].flatten() for name in sorted(weights) if "lora_B" in name])  # these begin at 0

    whole, halves, other = moved("one", batch_size=4), moved("two", batch_size=2, accumulation=2), moved("half", batch_size=2)
    apart, others_apart = ((whole - of).norm() / whole.norm() for of in (halves, other))
    assert apart < 1e-4
    assert others_apart > 0.1, "a bound that can fail"


def test_a_budget_of_tokens_sets_the_steps(corpora: dict[str, list[Example]]) -> None:
    counted = sum(len(example.target) for rows in corpora.values() for example in rows) / 3
    for ratio in (1, 2):
        recipe = resolve({**SETTINGS, "retain": {"ratio": ratio}, "train": {"tokens": 2000, "batch_size": 2}})
        planned = schedule(corpora, recipe)
        seen = sum(len(e.target) for i in range(len(planned)) for rows in planned[i].values() for e in rows)
        assert abs(seen - 2000) < 2.5 * counted


@pytest.mark.parametrize("rank", [0, 2])
def test_training_under_autocast(
    rank: int, model_folders: dict[str, Path], corpora: dict[str, list[Example]], tmp_path: Path
) -> None:
    recipe = resolve({**SETTINGS, "dtype": "bfloat16", "lora": {"rank": rank, "layers": "1"}})
    loaded = load(str(model_folders["llama"]), dtype="bfloat16")
    student = attach_adapter(loaded.model, recipe.lora, recipe.seed)
    before = {name: p.detach().clone() for name, p in student.named_parameters() if p.requires_grad}
    train(student, loaded.tokenizer, ELM(recipe), corpora, recipe, tmp_path)
    moved = [not torch.equal(before[name], p.to(before[name])) for name, p in student.named_parameters() if name in before]
    assert any(moved)


def test_a_launcher_does_not_decide_the_precision(
    model_folders: dict[str, Path], corpora: dict[str, list[Example]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = trained(model_folders["llama"], corpora, tmp_path / "one", steps=2)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    other, _ = trained(model_folders["llama"], corpora, tmp_path / "two", steps=2)
    for name, weight in one.items():
        assert torch.equal(weight, other[name]), name


def test_seeds_decide(model_folders: dict[str, Path], corpora: dict[str, list[Example]], tmp_path: Path) -> None:
    one, _ = trained(model_folders["llama"], corpora, tmp_path / "one", steps=2)
    two, _ = trained(model_folders["llama"], corpora, tmp_path / "two", steps=2)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_loss_that_is_not_finite_stops(
    model_folders: dict[str, Path], corpora: dict[str, list[Example]], tmp_path: Path
) -> None:
    class Broken(ELM):
        def loss(self, model: torch.nn.Module, batch: dict[str, Any]) -> LossTerms:
            terms = super().loss(model, batch)
            return LossTerms(erase=terms.total() * math.nan)

    with pytest.raises(TrainingError, match="the loss is nan at step 0; try a smaller train.lr"):
        trained(model_folders["llama"], corpora, tmp_path, Broken)


def test_checkpoints_hold_no_copy_of_the_base(
    model_folders: dict[str, Path], corpora: dict[str, list[Example]], tmp_path: Path
) -> None:
    trained(model_folders["llama"], corpora, tmp_path)
    *_, checkpoint = tmp_path.glob("checkpoint-*")
    names = {path.name for path in checkpoint.iterdir()}
    assert "adapter_model.safetensors" in names
    assert "model.safetensors" not in names
    shutil.rmtree(checkpoint)
