import os
import re
from pathlib import Path

import pytest

from efface.errors import InputError, RunError
from efface.files import read_json
from efface.recipe.presets import PRESETS
from efface.recipe.recipe import read_recipe
from efface.recipe.record import RunRecord
from efface.recipe.resolve import resolve
from efface.recipe.settings import AuditSettings, EraseSettings

NAMES = {"model": "m", "concept": "c"}


def test_preset_paper_is_the_papers() -> None:
    recipe = resolve({**NAMES, "preset": "paper"})
    assert (recipe.erase.eta, recipe.erase.schedule, recipe.erase.temperature, recipe.erase.top_k) == (500, "constant", 1, None)
    assert (recipe.lora.rank, recipe.lora.layers, recipe.lora.modules) == (4, "4-7", "all")
    assert (recipe.erase.weight, recipe.retain.weight, recipe.fluency.weight) == (1, 1, 1)
    assert recipe.retain.target == "soft"
    assert recipe.fluency.eta is None  # eta of the erase term: texts are sampled from p_erased itself
    assert recipe.published.sees_prompt
    assert (recipe.fluency.target, recipe.published.train_deflection) == ("hard", False)
    assert (recipe.erase.target, recipe.fluency.source) == ("tilted", "tilted")
    assert (recipe.erase.keyness, recipe.fluency.keyness, recipe.fluency.cloze) == (0, 0, 0)
    assert (recipe.fluency.temperature, recipe.fluency.no_repeat) == (1, 0)
    assert (recipe.data.forms, recipe.data.kept, recipe.data.neighbours) == (0, 0, 0)
    assert recipe.data.max_chars == 700
    assert recipe.data.min_chars == 50


def test_preset_reference_is_the_public_codes() -> None:
    recipe = resolve({**NAMES, "preset": "reference"})
    erase, lora, train = recipe.erase, recipe.lora, recipe.train
    assert (erase.eta, erase.schedule, erase.temperature, erase.top_k) == (1000, "ramp", 1.2, 50)
    assert recipe.published.float64
    assert (lora.rank, lora.alpha, lora.dropout, lora.layers) == (256, 16, 0.05, "4-7")
    assert (erase.target, recipe.fluency.source) == ("tilted", "tilted")
    assert (erase.keyness, recipe.fluency.keyness, recipe.fluency.cloze) == (0, 0, 0)
    assert (recipe.fluency.temperature, recipe.fluency.no_repeat) == (1, 0)
    assert (recipe.data.forms, recipe.data.kept, recipe.data.neighbours) == (0, 0, 0)
    assert recipe.retain.target == recipe.fluency.target == "hard"
    assert (recipe.fluency.eta, recipe.published.sees_prompt, recipe.published.train_deflection) == (3, False, True)
    assert (train.lr, train.schedule, train.clip, train.batch_size, train.accumulation) == (5e-5, "constant", 0, 1, 4)
    assert recipe.dtype == "float32"


@pytest.mark.parametrize("erase", [{}, {"weight": 3.0}, {"keyness": 0.0}])
def test_other_settings_leave_the_target_as_it_is(erase: dict[str, object]) -> None:
    assert resolve({**NAMES, "erase": erase}).erase.target == resolve(NAMES).erase.target
    assert resolve({**NAMES, "preset": "paper", "erase": erase}).erase.target == "tilted"


@pytest.mark.parametrize(
    ("said", "idle"),
    [
        ({"erase": {"eta": 500.0}}, "erase.eta"),
        ({"erase": {"eta": 1000.0}}, "erase.eta"),  # though that is what it would be without
        ({"erase": {"marginal": 0.5}}, "erase.marginal"),
        ({"erase": {"target": "stranger", "top_k": None}}, "erase.top_k"),
        ({"preset": "paper", "erase": {"marginal": 0.5}}, "erase.marginal"),
        ({"preset": "paper", "erase": {"target": "marginal", "temperature": 1.2}}, "erase.temperature"),
        ({"published": {"float64": True}}, "published.float64"),
        ({"published": {"train_deflection": True}, "fluency": {"target": "hard"}}, "published.train_deflection"),
        ({"preset": "strangers", "fluency": {"min_p": 0.1}}, "fluency.min_p"),
        ({"data": {"forms": 2, "chat": 0.5}}, "data.chat"),
        ({"data": {"quiz": 0.5}}, "data.quiz"),
        ({"method": "npo", "fluency": {"eta": 1.0}}, "fluency.eta"),
        ({"method": "npo", "preset": "strangers", "data": {"quiz": 0.5, "kept": 0}}, "data.quiz"),
        ({"erase": {"target": "tilted", "action": "random", "eta": 4.0}}, "erase.eta"),
        ({"method": "rmu", "erase": {"keyness": 0.0}}, "erase.keyness"),
        ({"train": {"steps": 3, "tokens": 100}}, "train.steps"),
        ({"lora": {"rank": 0, "alpha": 3.0}}, "lora.alpha"),
        ({"audit": {"relearn_lr": 1e-3}}, "audit.relearn_lr"),
        ({"audit": {"endpoint_model": "x"}}, "audit.endpoint_model"),
    ],
)
def test_what_would_do_nothing_is_one_line(said: dict[str, object], idle: str) -> None:
    with pytest.raises(InputError, match=rf"^recipe: {re.escape(idle)} does nothing with.*; say .*, or drop it$"):
        resolve({**NAMES, **said})
    assert resolve({**NAMES, **said}, strict=False)


@pytest.mark.parametrize(
    "said",
    [
        {"erase": {"target": "tilted", "eta": 500.0}, "published": {"float64": True}},
        {"erase": {"target": "mixed", "marginal": 0.5, "eta": 10.0}},
        {"preset": "paper", "erase": {"eta": 1000.0}},
        {"preset": "reference", "published": {"train_deflection": False}},
        {"preset": "strangers", "data": {"quiz": 0.5, "forms": 0, "chat": 0.2}},
        {"data": {"quiz": 0.5, "kept": 10}},
        {"method": "npo", "erase": {"weight": 2.0}},
        {"audit": {"attacks": ("relearn",), "relearn_lr": 1e-3}},
        {"fluency": {"eta": None}, "erase": {"eta": 100.0}},  # the fluency texts are sampled with it
        {"preset": "strangers", "erase": {"target": "tilted", "action": "enhance"}, "fluency": {"eta": 3.0}},
        {"method": "mine.py", "erase": {"target": "tilted", "eta": 5.0}, "fluency": {"texts": 5}},  # it may extend elm
        {"audit": AuditSettings().model_dump(), "erase": EraseSettings().model_dump()},  # as in the record of a run
    ],
)
def test_what_was_said_stays_known(said: dict[str, object]) -> None:
    recipe = resolve({**NAMES, **said})
    assert recipe.model_dump(exclude_unset=True) == {**NAMES, **said}
    assert resolve(recipe.model_dump(exclude_unset=True)) == recipe
    assert EraseSettings().model_fields_set == set(), "the defaults that recipes share stay as they are"


@pytest.mark.parametrize("action", ["enhance", "random"])
def test_only_the_tilted_target_has_other_actions(action: str) -> None:
    with pytest.raises(InputError, match=f"^recipe: erase: action {action} needs target tilted, got marginal"):
        resolve({**NAMES, "erase": {"action": action}})
    assert resolve({**NAMES, "erase": {"action": action, "target": "tilted"}}).erase.action == action


def test_a_setting_that_was_says_where_it_is_now() -> None:
    for said, says in (({"erase": {"float64": True}}, "is published.float64 now"), ({"erase": {"resist": 0.1}}, "is no more")):
        with pytest.raises(InputError, match=says):
            resolve({**NAMES, **said})


@pytest.mark.parametrize(
    ("was", "target"),
    [({"marginal": 1.0}, "marginal"), ({"marginal": 0.0, "eta": 500.0}, "tilted"), ({"marginal": 0.25}, "mixed"), ({}, "tilted")],
)
def test_a_record_from_before_there_were_targets_says_what_was_minimised(was: dict[str, object], target: str) -> None:
    settings = resolve({**NAMES, "preset": "reference", "erase": {"temperature": 1.0}}).model_dump()
    for name in ("target", "marginal"):
        del settings["erase"][name]
    settings["erase"].update(was)
    for section, names in {"fluency": ("source",), "data": ("forms", "kept", "quiz", "neighbours")}.items():
        for name in names:
            del settings[section][name]
    settings["erase"]["rare"], settings["fluency"]["facts"] = 0.001, 0.25  # were settings for a day
    record = RunRecord.model_validate(
        {"versions": {}, "hashes": {}, "tokens": {}, "seconds": {}, "losses": [], "recipe": settings}
    )
    assert record.recipe.erase.target == target
    assert record.recipe.fluency.source == "tilted"
    assert (record.recipe.data.forms, record.recipe.data.kept, record.recipe.data.neighbours) == (0, 0, 0)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_recipe_survives_its_own_json(preset: str) -> None:
    recipe = resolve({**NAMES, "preset": preset})
    assert type(recipe).model_validate_json(recipe.model_dump_json()) == recipe
    assert type(recipe).model_validate(recipe.model_dump()) == recipe


def test_settings_win_over_the_preset() -> None:
    recipe = resolve({**NAMES, "preset": "paper", "lora": {"rank": 9}})
    assert recipe.lora.rank == 9
    assert recipe.lora.layers == "4-7"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"preset": "best"}, "no preset 'best'; there are: default, strangers, paper, reference"),
        ({"train": {"learning_rate": 1}}, "recipe: train.learning_rate: no such setting"),
        ({"train": {"lr": -1}}, "recipe: train.lr: Input should be greater than 0, got -1"),
        ({"erase": {"action": "forget"}}, "recipe: erase.action"),
        ({"train": {"clip": float("inf")}}, "recipe: train.clip: Input should be a finite number, got inf"),
        ({"seed": 2**32}, "recipe: seed: Input should be less than or equal to 4294967295, got 4294967296"),
        ({"audit": {"endpoint": "http://me:hush@judge"}}, "recipe: audit: endpoint: expected a URL without user, password"),
        ({"seed": "x" * 5000}, "recipe: seed: Input should be a valid integer"),
    ],
)
def test_a_wrong_setting_is_one_line(settings: dict[str, object], says: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve({**NAMES, **settings})
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250
    assert "hush" not in str(caught.value)


def test_a_damaged_record_is_not_printed(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"recipe": ' * 1000)
    with pytest.raises(RunError, match="run.json: Invalid JSON") as caught:
        read_json(tmp_path / "run.json", RunRecord)
    assert len(str(caught.value)) < 250


def test_recipe_files(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("model: m\nconcept: c\ntrain: {lr: 1.0e-4}\n")
    assert resolve(read_recipe(file)).train.lr == 1e-4
    for wrong in ("model: [", "seed: 2024-13-45", "seed: 0x_", "seed: " + "9" * 5000, "[" * 3000, "seed: !!timestamp x"):
        file.write_text(wrong)
        with pytest.raises(InputError, match="not readable YAML") as caught:
            read_recipe(file)
        assert "\n" not in str(caught.value)
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(InputError, match="a device or pipe; expected a recipe file"):
        read_recipe(tmp_path / "pipe.yaml")
    with pytest.raises(InputError, match="no recipe file"):
        read_recipe(tmp_path / "other.yaml")


def test_a_record_of_an_older_version_says_what_it_did() -> None:
    recipe = resolve({**NAMES, "preset": "reference"})
    record = {"versions": {}, "hashes": {}, "tokens": {}, "seconds": {}, "losses": []}
    for was in (recipe, resolve({**NAMES, "fluency": {"target": "hard", "brief": 0, "ratio": 1}})):
        settings = was.model_dump()
        for name in ("target", "brief", "ratio"):
            del settings["fluency"][name]
        settings["erase"] |= {"resist": 0.0, "candidates": None, "float64": settings["published"]["float64"]}
        of_fluency = ("sees_prompt", "deflection", "train_deflection")
        settings["fluency"] |= {"names": 0.0, **{name: settings["published"][name] for name in of_fluency}}
        del settings["published"]
        assert RunRecord.model_validate({**record, "recipe": settings}).recipe == was
    assert RunRecord(**record, recipe=resolve(NAMES)).recipe.fluency.target == "soft"


def test_attacks_may_be_named_with_commas() -> None:
    assert AuditSettings(attacks=("relearn,prompts", "a,b.py", "leak")).attacks == ("relearn", "prompts", "a,b.py", "leak")
