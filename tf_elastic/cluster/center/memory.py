"""Keeps memory that was used, for the next arrays of the same size.

The C library gives large arrays back to the system, which then clears every
page of the next ones: for 64 MB that takes longer than to send them.
"""

import ctypes
import sys

# Numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep() -> bool:
    """Lets this process keep its memory; to be called before threads begin.

    It then stays as large as it ever was.

    Returns:
        Whether it does. Elsewhere than with glibc it does not.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(
        mallopt(ctypes.c_int(what), ctypes.c_int(value)) == 1
        for what, value in (
            # What a thread has from a part of its own is given back.
            (_M_ARENA_MAX, 1),
            (_M_MMAP_MAX, 0),
            (_M_TRIM_THRESHOLD, -1),  # never
        )
    )
