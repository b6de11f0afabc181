"""The presets: what differs from the class defaults of :mod:`efface.recipe.settings`, which are the preset ``default``."""

from typing import Any

#: how both published forms sample: plainly, a deflection after cut passages
_SAMPLING: dict[str, Any] = {
    "weight": 1.0,
    "target": "hard",
    "ratio": 1,
    "texts": 64,
    "min_p": 0.0,
    "temperature": 1.0,
    "no_repeat": 0,
    "keyness": 0.0,
    "brief": 0,
    "questions": 0.0,
    "cloze": 0.0,
}
#: What differs from the class defaults, by preset. Sources of the published ones: the paper's section 4 and appendix; its code.
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "strangers": {
        "retain": {"ratio": 3},
        "fluency": {"source": "strangers", "texts": 384, "tokens": 56},
        "data": {"mentioned": 0.25, "kept": 320, "neighbours": 64},
    },
    "paper": {
        "lora": {"rank": 4, "alpha": 4.0, "layers": "4-7"},
        "erase": {
            "weight": 1.0,
            "target": "tilted",
            "marginal": 0.0,
            "keyness": 0.0,
            "eta": 500.0,
            "schedule": "constant",
            "top_k": None,
        },
        "retain": {"weight": 1.0, "ratio": 1},
        "fluency": {**_SAMPLING, "eta": None, "tokens": 48},
        "published": {"deflection": True},
        "data": {"chat": 0.0},
        "train": {"batch_size": 1, "accumulation": 4, "lr": 5e-5, "schedule": "constant", "warmup_steps": 0, "clip": 0.0},
    },
    "reference": {
        "dtype": "float32",
        "lora": {"rank": 256, "alpha": 16.0, "dropout": 0.05, "layers": "4-7"},
        "erase": {"weight": 1.0, "target": "tilted", "marginal": 0.0, "keyness": 0.0, "temperature": 1.2},
        "retain": {"weight": 1.0, "ratio": 1, "target": "hard"},
        "fluency": {**_SAMPLING, "eta": 3.0, "tokens": 100},
        "published": {"float64": True, "sees_prompt": False, "deflection": True, "train_deflection": True},
        "data": {"chat": 0.0},
        "train": {
            "batch_size": 1,
            "accumulation": 4,
            "lr": 5e-5,
            "schedule": "constant",
            "warmup_steps": 0,
            "weight_decay": 0.01,
            "clip": 0.0,
        },
    },
}
