"""Memory that a worker and a center of one host share.

A *segment* is memory without a name (Linux' `memfd_create`): another process
gets at it if it is handed the file descriptor, and in no other way. It is
sealed, so that neither end can make it shorter, which would kill the other.
"""

import contextlib
import errno
import itertools
import mmap
import os
import sys
import threading
import weakref
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np
from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster.transport import open_files

SUPPORTED = sys.platform == "linux" and hasattr(os, "memfd_create")
if SUPPORTED:
    import fcntl

ALIGNMENT = 64  # bytes; what TensorFlow takes without a copy
_HUGE_PAGE = 2 * 1024 * 1024
# Of Linux 5.14: fails if there is no memory, where a write would kill.
_MADV_POPULATE_WRITE = 23

# Of others' segments, each of which is two open files.
_FILES_OF_ONE = 2

_keys = itertools.count(1)
_opened: "weakref.WeakSet[Segment]" = weakref.WeakSet()
_refused = threading.Event()


class Segment:
    """A mapped segment; arrays over it keep it mapped.

    Args:
        descriptor: of the memory; it is closed with this object.
        nbytes: of the memory.
    """

    def __init__(self, descriptor: int, nbytes: int) -> None:
        self.key = next(_keys)  # for the other end
        self.descriptor = descriptor
        self.nbytes = nbytes
        # Whether somebody may use it whose call has failed.
        self.spoiled = False
        self._map = mmap.mmap(descriptor, nbytes)
        with contextlib.suppress(OSError, AttributeError):
            self._map.madvise(mmap.MADV_HUGEPAGE)
        self.address = np.frombuffer(self._map, np.uint8).ctypes.data
        weakref.finalize(self, os.close, descriptor)

    def populate(self) -> None:
        """Takes all of its memory now.

        Raises:
            OSError: there is not so much.
        """
        try:
            self._map.madvise(_MADV_POPULATE_WRITE)
        except OSError as error:
            if error.errno != errno.EINVAL:  # Of an older Linux.
                raise

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "typestr": "|u1",
            "shape": (self.nbytes,),
            "data": (self.address, False),
        }


class Place(NamedTuple):
    """Where an array lies."""

    segment: Segment
    offset: int  # bytes


def place_of(array: Any) -> Place | None:
    """Where a contiguous array lies, if that is in a segment."""
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, Segment):
        return None
    return Place(base, array.__array_interface__["data"][0] - base.address)


def spoil(arrays: Iterable[Any]) -> None:
    """Notes that another process may still use these arrays' memory."""
    for array in arrays:
        place = place_of(array)
        if place:
            place.segment.spoiled = True


def is_spoiled(arrays: Iterable[Any]) -> bool:
    """Whether another process may still use these arrays' memory."""
    places = map(place_of, arrays)
    return any(place.segment.spoiled for place in places if place)


def empty(
    sizes: Sequence[int], dtypes: Sequence[np.dtype]
) -> list[np.ndarray] | None:
    """Flat arrays in one new segment; None if there is none to be had."""
    if not SUPPORTED or _refused.is_set():
        return None
    offsets, end = [], 0
    for size, dtype in zip(sizes, dtypes, strict=True):
        offsets.append(end)
        end += -(-size * dtype.itemsize // ALIGNMENT) * ALIGNMENT
    try:
        memory = np.asarray(_new_segment(end))
    except OSError as error:
        _refused.set()
        logging.warning(
            "memory cannot be shared with a center of this host (%s): arrays "
            "go to it by a socket, which takes more processor time.",
            error,
        )
        return None
    return [
        memory[begin : begin + size * dtype.itemsize].view(dtype)
        for begin, size, dtype in zip(offsets, sizes, dtypes, strict=True)
    ]


def _new_segment(nbytes: int) -> Segment:
    nbytes = max(-(-nbytes // _HUGE_PAGE), 1) * _HUGE_PAGE
    descriptor = os.memfd_create(
        "tf_elastic", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    )
    with contextlib.ExitStack() as failed:
        failed.callback(os.close, descriptor)
        os.ftruncate(descriptor, nbytes)
        fcntl.fcntl(
            descriptor,
            fcntl.F_ADD_SEALS,
            fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL,
        )
        segment = Segment(descriptor, nbytes)
        failed.pop_all()
    segment.populate()
    return segment


def opened(descriptor: int) -> np.ndarray:
    """The bytes of a segment that another process has made.

    Args:
        descriptor: what it has handed over; closed in the end, or on errors.

    Raises:
        MessageError: it could be made shorter, or is no such memory, or there
            are too many.
    """
    most = open_files.for_connections() // 4 // _FILES_OF_ONE
    with contextlib.ExitStack() as failed:
        failed.callback(os.close, descriptor)
        if len(_opened) >= most:
            raise errors.MessageError(
                f"There may be {most} segments of shared memory."
            )
        try:
            seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
            if not seals & fcntl.F_SEAL_SHRINK:
                raise ValueError("it is not sealed")
            segment = Segment(descriptor, os.fstat(descriptor).st_size)
        except (OSError, ValueError) as error:
            raise errors.MessageError(
                f"What came is no memory to share: {error}."
            ) from error
        failed.pop_all()
    _opened.add(segment)
    return np.asarray(segment)
