"""Freed memory on a processor: kept for the next batch, given back between pieces of work (glibc; elsewhere nothing happens)."""

import ctypes
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_freed() -> None:
    """Keep freed blocks up to 32 MiB: else every activation pays its page faults again.

    Larger blocks go back to the system at once, or the heap would break into pieces.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 2**25)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def give_back() -> None:
    """Give the kept blocks back: the next piece of work has use for others, and would get new ones beside them."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
