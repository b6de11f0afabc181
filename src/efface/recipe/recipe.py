"""A recipe: every setting of an erasure (:mod:`efface.recipe.settings`), on top of a preset.

A :class:`Recipe` is what a YAML file, the flags of ``efface erase`` and the Python API all build. The class defaults *are* the
preset ``default``; ``strangers``, and ``paper`` and ``reference`` (arXiv 2410.02760 and its public code), are differences, in
:mod:`efface.recipe.presets`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from efface.errors import InputError
from efface.recipe.settings import (
    MAX_SEED,
    AuditSettings,
    DataSettings,
    EraseSettings,
    FluencySettings,
    LoraSettings,
    PublishedSettings,
    RetainSettings,
    Settings,
    TrainSettings,
)
from efface.recipe.yaml import load_yaml

#: settings that were, by section
GONE = {"erase": ("rare", "resist", "candidates"), "fluency": ("facts", "names", "ban_words")}
#: settings that have another section now
MOVED = {"erase": ("float64",), "fluency": ("sees_prompt", "deflection", "train_deflection")}
#: what a setting was before it existed
BEFORE: dict[str, Any] = {"fluency": {"target": "hard", "brief": 0, "ratio": 1}}


class RecipeSettings(Settings):
    """Everything but the names of model and concept."""

    preset: Literal["default", "strangers", "paper", "reference"] = Field("default", description="Settings to start from.")
    method: str = Field("elm", description="Erasure method: a name (see docs/methods.md), or a Python file with one of your own.")
    options: dict[str, float | int | str] = Field({}, description="Settings of the method: NAME VALUE NAME VALUE …")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of the training: order of the texts, first weights of the adapter.")
    revision: str | None = Field(None, description="Branch, tag or commit of a model on the hub.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Precision of the frozen weights; auto: bfloat16 where the device computes in it."
    )
    trust_remote_code: bool = Field(False, description="Run code that comes with the model.")
    device_map: str | None = Field(None, description="Spread the model's layers over all devices: 'auto' (see accelerate).")
    load_in_4bit: bool = Field(False, description="Keep the frozen weights in 4 bits (QLoRA; needs bitsandbytes).")
    lora: LoraSettings = LoraSettings()
    erase: EraseSettings = EraseSettings()
    retain: RetainSettings = RetainSettings()
    fluency: FluencySettings = FluencySettings()
    published: PublishedSettings = PublishedSettings()
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings()
    audit: AuditSettings = AuditSettings()

    @property
    def per_item(self) -> dict[str, int]:
        """Texts of the other terms for each forget text."""
        return {"retain": self.retain.ratio, "fluency": self.fluency.ratio}

    @model_validator(mode="after")
    def _something_to_train(self) -> "RecipeSettings":
        if not (self.erase.weight or self.retain.weight or self.fluency.weight):
            raise ValueError("at least one of erase.weight, retain.weight and fluency.weight must be above 0")
        if self.published.train_deflection and self.fluency.target == "soft":
            raise ValueError("published.train_deflection needs fluency.target hard, for that sentence is not sampled")
        return self


class Recipe(RecipeSettings):
    """Everything that decides what ``efface erase`` does."""

    model: str = Field(description="Hub id, folder, GGUF file, or the alias smollm2-135m.")
    concept: str = Field(description="Name or folder of a concept pack; several: 'wmdp-bio:2 wmdp-cyber:1'.")


def read_recipe(path: Path) -> dict[str, Any]:
    """Read the settings of a YAML file (not yet validated)."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: a {'folder' if path.is_dir() else 'device or pipe'}; expected a recipe file")
    try:
        settings = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no recipe file {path}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not readable YAML: {error}") from None
    if not isinstance(settings, dict):
        raise InputError(f"{path}: expected settings as 'name: value', got {type(settings).__name__}")
    return {name: value for name, value in settings.items() if value is not None}  # an empty section says nothing


def recorded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a finished run or search, whole: those that the version that wrote them did not have are what it did.

    Settings that are no more are left out.
    """
    whole = merge(BEFORE, settings)
    if isinstance(erase := whole.get("erase"), Mapping) and "target" not in erase:
        whole["erase"] = {**erase, "target": _target_of_old(erase)}
    for section, of in [(section, of) for section, of in whole.items() if isinstance(of, Mapping)]:
        moved = {name: of[name] for name in MOVED.get(section, ()) if name in of}
        whole[section] = {name: value for name, value in of.items() if name not in (*GONE.get(section, ()), *moved)}
        whole = merge(whole, {"published": moved}) if moved else whole
    return whole


def _target_of_old(erase: Mapping[str, Any]) -> str:
    """What a record without a target minimised: by its action and the share of the mean prediction."""
    share = erase.get("marginal", 0)
    return "tilted" if erase.get("action", "erase") != "erase" or share == 0 else "marginal" if share == 1 else "mixed"


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested union of two mappings; ``over`` wins."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def nested(settings: Mapping[str, float]) -> dict[str, Any]:
    """``{"train.lr": 1}`` as ``{"train": {"lr": 1}}``."""
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        group, _, leaf = name.partition(".")
        tree.setdefault(group, {})[leaf] = value
    return tree
