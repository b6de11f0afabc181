"""What decides what a model computes, to see whether code of somebody else's has left it as it was."""

from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from efface.lm.load import weights_hash


def condition(model: nn.Module) -> dict[str, Any]:
    """Weights (every bit of them), adapter, training mode, ``requires_grad`` and hooks, by name: equal where nothing changed."""
    modules = list(model.modules())
    return {
        "weights": weights_hash(model),
        "adapter": [_adapter(of) for of in modules if isinstance(of, BaseTunerLayer)],
        "training mode": [of.training for of in modules],
        "requires_grad": [of.requires_grad for of in model.parameters()],
        "hooks": [(tuple(of._forward_hooks), tuple(of._forward_pre_hooks)) for of in modules],
    }


def _adapter(layer: BaseTunerLayer) -> tuple[Any, ...]:
    """Whether it is on, which of them, merged or not, and its scale, which is no weight."""
    return layer.disable_adapters, list(layer.active_adapters), list(layer.merged_adapters), str(getattr(layer, "scaling", None))
