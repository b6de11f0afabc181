from pathlib import Path

import pytest

from efface.auditing.files import read_json
from efface.errors import InputError, RunError
from efface.recipe.presets import PRESETS
from efface.recipe.recipe import build_recipe, read_recipe
from efface.recipe.record import RunRecord
from efface.recipe.settings import EraseSettings

NAMES = {"model": "m", "concept": "c"}


def test_preset_paper_is_the_papers() -> None:
    recipe = build_recipe({**NAMES, "preset": "paper"})
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
    recipe = build_recipe({**NAMES, "preset": "reference"})
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


@pytest.mark.parametrize(
    ("erase", "target"),
    [
        ({"eta": 10.0}, "tilted"),
        ({"eta": 1000.0}, "tilted"),  # though that is what it would be without
        ({"top_k": None}, "tilted"),
        ({"action": "enhance"}, "tilted"),
        ({"action": "random", "marginal": 1.0}, "tilted"),
        ({"marginal": 0.0}, "tilted"),
        ({"marginal": 0}, "tilted"),
        ({"marginal": 1.0}, "marginal"),
        ({"marginal": 0.5}, "mixed"),
        ({"marginal": 0.5, "eta": 10.0}, "mixed"),
        ({"target": "tilted", "marginal": 1.0}, "tilted"),  # what is named is not overruled
        ({"target": "stranger", "marginal": 0.3}, "stranger"),
    ],
)
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_settings_without_a_target_say_which_one_they_mean(preset: str, erase: dict[str, object], target: str) -> None:
    if preset == "paper" and target in ("marginal", "stranger"):  # the preset's eta would do nothing
        with pytest.raises(InputError, match=f"does nothing with erase.target {target}"):
            build_recipe({**NAMES, "preset": preset, "erase": erase})
        return
    recipe = build_recipe({**NAMES, "preset": preset, "erase": erase})
    assert recipe.erase.target == target
    assert {name: getattr(recipe.erase, name) for name in erase} == erase
    assert EraseSettings(**erase).target == target


@pytest.mark.parametrize("erase", [{}, {"weight": 3.0}, {"keyness": 0.0}])
def test_other_settings_leave_the_target_as_it_is(erase: dict[str, object]) -> None:
    assert build_recipe({**NAMES, "erase": erase}).erase.target == build_recipe(NAMES).erase.target
    assert build_recipe({**NAMES, "preset": "paper", "erase": erase}).erase.target == "tilted"


@pytest.mark.parametrize(
    "erase",
    [
        {"marginal": 1, "eta": 500.0},
        {"target": "marginal", "temperature": 1.2},
        {"target": "stranger", "top_k": None},
        {"target": "stranger", "top_k": 20},
        {"target": "marginal", "action": "enhance"},
        {"target": "stranger", "action": "random"},
    ],
)
def test_what_does_nothing_with_the_target_is_one_line(erase: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"^recipe: erase: .*(stranger|marginal)") as caught:
        build_recipe({**NAMES, "erase": erase})
    assert "tilted" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("was", "target"),
    [({"marginal": 1.0}, "marginal"), ({"marginal": 0.0, "eta": 500.0}, "tilted"), ({"marginal": 0.25}, "mixed"), ({}, "tilted")],
)
def test_a_record_from_before_there_were_targets_says_what_was_minimised(was: dict[str, object], target: str) -> None:
    settings = build_recipe({**NAMES, "preset": "reference", "erase": {"temperature": 1.0}}).model_dump()
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
    recipe = build_recipe({**NAMES, "preset": preset})
    assert type(recipe).model_validate_json(recipe.model_dump_json()) == recipe
    assert build_recipe(recipe.model_dump()) == recipe


def test_settings_win_over_the_preset() -> None:
    recipe = build_recipe({**NAMES, "preset": "paper", "lora": {"rank": 9}})
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
        build_recipe({**NAMES, **settings})
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
    assert build_recipe(read_recipe(file)).train.lr == 1e-4
    for wrong in ("model: [", "seed: 2024-13-45", "seed: 0x_", "seed: " + "9" * 5000, "[" * 3000, "seed: !!timestamp x"):
        file.write_text(wrong)
        with pytest.raises(InputError, match="not readable YAML") as caught:
            read_recipe(file)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no recipe file"):
        read_recipe(tmp_path / "other.yaml")


def test_a_record_of_an_older_version_says_what_it_did() -> None:
    recipe = build_recipe({**NAMES, "preset": "reference"})
    record = {"versions": {}, "hashes": {}, "tokens": {}, "seconds": {}, "losses": []}
    for was in (recipe, build_recipe({**NAMES, "fluency": {"target": "hard", "brief": 0, "ratio": 1}})):
        settings = was.model_dump()
        for name in ("target", "brief", "ratio"):
            del settings["fluency"][name]
        settings["erase"] |= {"resist": 0.0, "candidates": None, "float64": settings["published"]["float64"]}
        of_fluency = ("sees_prompt", "deflection", "train_deflection")
        settings["fluency"] |= {"names": 0.0, **{name: settings["published"][name] for name in of_fluency}}
        del settings["published"]
        assert RunRecord.model_validate({**record, "recipe": settings}).recipe == was
    assert RunRecord(**record, recipe=build_recipe(NAMES)).recipe.fluency.target == "soft"
