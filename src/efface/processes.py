"""Jobs of several processes, as ``accelerate launch`` and ``torchrun`` start them: who I am, how many we are."""

import os
from typing import Any

from efface.errors import InputError


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", 0))


def local_rank() -> int:
    """Number of this process on its machine, from 0: the accelerator it takes."""
    return int(os.environ.get("LOCAL_RANK", 0))


def processes() -> int:
    """How many processes share the job."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this is the process that writes files and speaks."""
    return rank() == 0


def wait() -> None:
    """Return when every process has come here."""
    if processes() > 1:
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available()).wait_for_everyone()


def from_first(tensor: Any) -> None:
    """Make a tensor what it is in the first process."""
    if processes() > 1:
        import torch

        torch.distributed.broadcast(tensor, 0)


def require_whole_model() -> None:
    """Raises InputError where a launcher would split the weights: targets and audit read the whole model in one process."""
    kinds = ("DEEPSPEED", "FSDP", "MEGATRON_LM", "PARALLELISM_CONFIG")
    asked = {kind for kind in kinds if os.environ.get(f"ACCELERATE_USE_{kind}") == "true"}
    if os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") in ("0", "1", "2"):
        asked -= {"DEEPSPEED"}
    if asked:
        raise InputError(
            "weights in pieces (FSDP, ZeRO-3, tensor or pipeline parallelism) are not supported; "
            "keep the model whole in each process (DDP), or use --device-map"
        )


def require_one_process(verb: str) -> None:
    """Raises InputError under a launcher, for work that is many runs one after the other."""
    if processes() > 1:
        raise InputError(f"{verb} runs in one process; start it without a launcher, its runs one by one with: efface erase")
