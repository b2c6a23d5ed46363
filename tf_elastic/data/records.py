"""Single records of TFRecord files, by their number (no TensorFlow)."""

import collections
import os
import struct
import threading
from collections.abc import Sequence

import numpy as np

# A record: its length and a checksum of that, its bytes and their checksum.
_LENGTH_BYTES, _HEADER_BYTES, _FOOTER_BYTES = 8, 12, 4
FRAME_BYTES = _HEADER_BYTES + _FOOTER_BYTES
_OPEN_FILES = 32
# Records that the system is asked to read at once, and how many such runs are
# remembered, so that it is asked once.
_RUN, _KNOWN_RUNS = 64, 1024


class UnreadableRecordError(ValueError):
    """A record is not there, or not whole; the message says why."""


class _File:
    """An open file, closed when nobody has it any more."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


def offsets(path: str) -> np.ndarray:
    """Where the whole records of a file are.

    Args:
        path: the file. One that is cut short is read as far as it goes.

    Returns:
        int64 [records + 1]: where each begins, and where the last one ends.
    """
    file = _File(path)
    size = os.fstat(file.descriptor).st_size
    found = [0]
    while size - found[-1] >= FRAME_BYTES:
        head = os.pread(file.descriptor, _LENGTH_BYTES, found[-1])
        end = found[-1] + FRAME_BYTES + struct.unpack("<Q", head)[0]
        if end > size:
            break
        found.append(end)
    return np.array(found, np.int64)


class Records:
    """The records of several files, one after the other.

    A file is looked through when the first of its records is asked for: of
    each record 8 bytes are read, and where it is remains known.

    Args:
        files: their paths, on a disk that is mounted.
        lengths: how many records each has.
        consecutive: whether neighbours are asked for soon after each other,
            as chunks are: then the system is told to read on, 64 records at
            a time.
    """

    def __init__(
        self,
        files: Sequence[str],
        lengths: Sequence[int],
        *,
        consecutive: bool = True,
    ) -> None:
        self.files = list(files)
        self._ends = np.cumsum(np.asarray(lengths, np.int64))
        self._consecutive = consecutive and hasattr(os, "posix_fadvise")
        self._offsets: dict[int, np.ndarray] = {}
        self._open: collections.OrderedDict[int, _File] = (
            collections.OrderedDict()
        )
        self._runs: collections.OrderedDict[tuple[int, int], None] = (
            collections.OrderedDict()
        )
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def place(self, index: int) -> tuple[str, int]:
        """The file that a record is in, and its number there, from 0."""
        number, record = self._place(index)
        return self.files[number], record

    def read(self, index: int) -> bytes:
        """Reads a record.

        Args:
            index: its number in all files, 0 <= index < len.

        Returns:
            Its bytes.

        Raises:
            UnreadableRecordError: it is not there any more.
        """
        number, record = self._place(index)
        try:
            file, ends = self._file(number)
            if record + 1 >= len(ends):
                raise UnreadableRecordError(
                    f"the file has {len(ends) - 1} whole records only"
                )
            if self._consecutive:
                self._read_on(number, record, file, ends)
            start = int(ends[record]) + _HEADER_BYTES
            length = int(ends[record + 1]) - _FOOTER_BYTES - start
            data = os.pread(file.descriptor, length, start)
        except OSError as error:
            raise UnreadableRecordError(str(error)) from error
        if len(data) != length:
            raise UnreadableRecordError("the file has become shorter")
        return data

    def _place(self, index: int) -> tuple[int, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[number - 1]) if number else 0
        return number, index - before

    def _file(self, number: int) -> tuple[_File, np.ndarray]:
        with self._lock:
            file = self._open.pop(number, None) or _File(self.files[number])
            self._open[number] = file
            if len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)
            ends = self._offsets.get(number)
        if ends is None:  # Two threads may do it: they find the same.
            ends = self._offsets[number] = offsets(self.files[number])
        return file, ends

    def _read_on(
        self, number: int, record: int, file: _File, ends: np.ndarray
    ) -> None:
        """Asks the system for the run that a record is in, once."""
        run = (number, record // _RUN)
        with self._lock:
            is_known = run in self._runs
            self._runs[run] = None
            self._runs.move_to_end(run)
            if len(self._runs) > _KNOWN_RUNS:
                self._runs.popitem(last=False)
        if not is_known:
            start = int(ends[run[1] * _RUN])
            end = int(ends[min((run[1] + 1) * _RUN, len(ends) - 1)])
            os.posix_fadvise(
                file.descriptor, start, end - start, os.POSIX_FADV_WILLNEED
            )
