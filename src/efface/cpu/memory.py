"""Memory on a processor: freed blocks are kept for the next batch and given back between pieces of work (glibc; elsewhere
nothing happens), and what oneDNN keeps for every shape that it has met is bounded."""

import ctypes
import os
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h

#: Kernels that oneDNN, and torch above it, keep for shapes that they have met. Hardly two batches of texts have one shape: of the
#: 1,024 that are the defaults most are never used again, and they take hundreds of megabytes. The layers of a pass need dozens.
KEPT_KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128", "LRU_CACHE_CAPACITY": "16"}


def set_up_memory() -> None:
    """To be called before the first model computes; what the user's environment says about kept kernels counts more.

    Freed blocks up to 32 MiB are kept, else every activation pays its page faults again; larger ones go back to the system at
    once, or the heap would break into pieces.
    """
    for name, capacity in KEPT_KERNELS.items():
        os.environ.setdefault(name, capacity)
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 2**25)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def give_back() -> None:
    """Give the kept blocks back: the next piece of work has use for others, and would get new ones beside them."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
