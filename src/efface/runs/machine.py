"""What computes: everything about a machine that can make the same run round otherwise."""

import os
import platform
import re
from contextlib import suppress
from pathlib import Path

import torch
from transformers import PreTrainedModel

from efface.cpu.memory import KEPT_KERNELS
from efface.recipe.record import Machine

#: variables that choose kernels, or how many are kept
VARIABLES = (
    *KEPT_KERNELS,
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_DEFAULT_FPMATH_MODE",
    "MKL_CBWR",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
)


def machine(model: PreTrainedModel) -> Machine:
    """What this process computes on with a model."""
    cuda = model.device.type == "cuda"
    return Machine(
        device=torch.cuda.get_device_name(model.device) if cuda else model.device.type,
        dtype=str(model.dtype).removeprefix("torch."),
        processor=f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}",
        threads=torch.get_num_threads(),
        cuda=torch.version.cuda if cuda else None,
        driver=_driver() if cuda else None,
        switches={**_settings(cuda), **{name: os.environ[name] for name in VARIABLES if name in os.environ}},
    )


def _settings(cuda: bool) -> dict[str, str]:
    """Of torch."""
    of_cuda = {"cudnn.deterministic": torch.backends.cudnn.deterministic, "cudnn.benchmark": torch.backends.cudnn.benchmark}
    common = {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "mkldnn": torch.backends.mkldnn.enabled,
    }
    return {name: str(value) for name, value in (common | of_cuda if cuda else common).items()}


def _processor() -> str:
    """Its name, as far as the system tells."""
    with suppress(OSError):
        if named := re.search(r"^model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE):
            return named[1].strip()
    return platform.processor() or platform.machine()


def _driver() -> str | None:
    """Version of the GPU's driver; None where the system does not tell."""
    with suppress(OSError):
        found = re.search(r"\d+\.\d+(\.\d+)*", Path("/proc/driver/nvidia/version").read_text(encoding="utf-8"))
        return found[0] if found else None
    return None
