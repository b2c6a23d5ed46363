"""Snapshots of a center on disk, so that a new server goes on where one died.

A folder holds the newest few generations, a file for each. A file appears
under its name only when it is whole and on the disk, and says by a checksum
whether it still is. Nothing is pickled: reading a file runs no code of it.

The file ``center-000123.snapshot``, all numbers little-endian:

| bytes | what |
|---|---|
| 8 | magic, ``TFECSNAP`` |
| 4 | format version, unsigned, 1 |
| 4 | zero |
| 8 | length of the header, unsigned |
| 8 | length of the file, unsigned |
| | header, JSON in UTF-8 |
| | zeros up to a multiple of 64 |
| | the arrays one after another, each begun at a multiple of 64 |
| 4 | CRC-32 of all bytes before it, unsigned |

The header is an object with `generation` (an integer), `names` (all keys of
the state, in order), `values` (those that are not arrays) and `arrays` (for
each array its `name`, `dtype`, `shape`, `offset` from the end of those zeros
and `nbytes`, in C order).
"""

import contextlib
import fcntl
import io
import json
import os
import pathlib
import re
import struct
import sys
import zlib
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import ml_dtypes
import numpy as np

from tf_elastic.cluster import json_text

MAGIC = b"TFECSNAP"
VERSION = 1

_PREFIX = struct.Struct("<8sI4xQQ")
_CHECKSUM = struct.Struct("<I")
_ALIGNMENT = 64
_PIECE = 1 << 18  # bytes written or read at once: still cached for the CRC
_FILE_NAME = re.compile(r"center-(\d{6}|[1-9]\d{6,})\.snapshot")
_PARTIAL = ".partial"
_DAMAGED = ".damaged"
_LOCK_NAME = "center.lock"
_OWNER = 0o600  # reads and writes, and nobody else
_DTYPES = {
    dtype.name: dtype
    for dtype in map(
        np.dtype,
        (
            *("bool", "int8", "int16", "int32", "int64"),
            *("uint8", "uint16", "uint32", "uint64"),
            *("float16", ml_dtypes.bfloat16, "float32", "float64"),
        ),
    )
}


class SnapshotError(RuntimeError):
    """A snapshot could not be written or read, or its folder is in use."""


class Skipped(NamedTuple):
    """A damaged file that `SnapshotStore.load` passed over."""

    file: pathlib.Path
    reason: str


class Snapshot(NamedTuple):
    """What `SnapshotStore.load` found."""

    state: dict[str, Any]  # as saved; arrays are writable
    generation: int
    file: pathlib.Path
    skipped: list[Skipped]  # newer first


class SnapshotStore:
    """Saves and loads the generations of one center in one folder.

    The folder belongs to one process at a time. It is locked from here until
    `close`, or until the process ends in whatever way. (A child that was
    forked without starting another program keeps the lock as well.) If it is
    removed meanwhile, the next save makes and locks it anew. Only the user
    that writes the files can read them.

    Args:
        folder: where the files are; made if it is missing.
        keep: how many generations stay, >= 1, default 2. With 1, a snapshot
            that a failing disk has damaged has no older one behind it.

    Raises:
        ValueError: `keep` < 1.
        SnapshotError: the folder is in use by another process, or cannot be
            made or written.

    Example:

    >>> import tempfile
    >>> with (
    ...     tempfile.TemporaryDirectory() as folder,
    ...     SnapshotStore(folder) as store,
    ... ):
    ...     _ = store.save({"center": np.ones(3), "pushes": 7}, generation=1)
    ...     store.load().state
    {'center': array([1., 1., 1.]), 'pushes': 7}
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 2):
        if keep < 1:
            raise ValueError(f"keep must be >= 1. Received: keep={keep}.")
        self._folder = pathlib.Path(folder).absolute()
        self._keep = keep
        self._damaged: set[int] = set()
        self._lock: int | None = None
        try:
            self._prepare()
            # Of a process that died while it saved. Nobody else writes here.
            for file in self._folder.glob(f"center-*.snapshot{_PARTIAL}"):
                file.unlink()
        except OSError as error:
            self.close()
            raise SnapshotError(
                f"The folder of snapshots {self._folder} cannot be used: "
                f"{error.strerror or error}. Choose one that this process may "
                "write to."
            ) from error

    def __enter__(self) -> "SnapshotStore":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Gives the folder free. Calling it again does nothing."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def generations(self) -> list[int]:
        """The generations that have a file, whole or not, newest first."""
        try:
            names = os.listdir(self._folder)
        except OSError as error:
            raise SnapshotError(
                f"The folder of snapshots {self._folder} cannot be read: "
                f"{error.strerror or error}."
            ) from error
        found = map(_FILE_NAME.fullmatch, names)
        return sorted({int(match[1]) for match in found if match}, reverse=True)

    def has(self, generation: int) -> bool:
        """Whether the folder is the one that was locked, with this file."""
        with contextlib.suppress(OSError):
            return self._is_locked() and self._file(generation).exists()
        return False

    def save(self, state: Mapping[str, Any], generation: int) -> pathlib.Path:
        """Writes a generation; returns once it is on the disk.

        Older generations beyond `keep` are removed afterwards. Damaged ones
        count as none, and a damaged one with a higher number is renamed to
        end in ``.damaged``.

        Args:
            state: by name, NumPy arrays (bool, integer, floating, bfloat16;
                any shape) and values that JSON can hold. As in JSON, tuples
                come back as lists and the keys of dictionaries as text. The
                arrays must not change meanwhile.
            generation: >= 0, no smaller than that of any whole file here. A
                file of the same generation is replaced.

        Returns:
            The file that was written.

        Raises:
            TypeError: a value that can be neither stored nor put in JSON.
            ValueError: `generation` is negative, or the folder holds a newer
                one that is whole.
            SnapshotError: the file could not be written, for example because
                the disk is full. The earlier generations are as they were.
        """
        if self._lock is None:
            raise ValueError("This SnapshotStore is closed; make a new one.")
        prefix, arrays, length = _layout(state, generation)
        file = self._file(generation)
        partial = file.with_name(file.name + _PARTIAL)
        try:
            try:
                self._keep_lock()
                self._check_generation(generation)
                _write(partial, prefix, arrays, length)
                os.replace(partial, file)
                _sync_folder(self._folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    partial.unlink()
                raise
        except OSError as error:
            there = []
            with contextlib.suppress(SnapshotError):
                there = self.generations()
            raise SnapshotError(
                f"Generation {generation} of the center ({length} bytes) "
                f"could not be saved in {self._folder}: "
                f"{error.strerror or error}. "
                + (
                    f"Generation {there[0]} is still there, and training "
                    "would go on from it"
                    if there
                    else "There is no earlier one, and training would begin "
                    "anew"
                )
                + " if the server died now. The center itself is unharmed; "
                "make room or mend the disk, and the next save can succeed."
            ) from error
        self._damaged.discard(generation)
        with contextlib.suppress(SnapshotError):
            self._remove_older(generation)
        return file

    def load(self) -> Snapshot | None:
        """Reads the newest generation that is whole.

        Returns:
            A `Snapshot`, whose `skipped` names newer files that are damaged;
            None if the folder holds no snapshot at all.

        Raises:
            SnapshotError: there are snapshots, but none is whole. To begin
                anew in spite of them is for a person to decide.
        """
        skipped: list[Skipped] = []
        for generation in self.generations():
            file = self._file(generation)
            try:
                state = _read(file, generation)
            except FileNotFoundError:
                continue
            except OSError as error:
                reason = f"it cannot be read: {error.strerror or error}"
            except _DamagedError as error:
                reason = str(error)
            else:
                return Snapshot(state, generation, file, skipped)
            self._damaged.add(generation)
            skipped.append(Skipped(file, reason))
        if not skipped:
            return None
        listed = "; ".join(
            f"{item.file.name}: {item.reason}" for item in skipped
        )
        raise SnapshotError(
            f"No snapshot in {self._folder} is whole ({listed}). To begin "
            "anew, move these files away or choose another folder."
        )

    def _file(self, generation: int) -> pathlib.Path:
        return self._folder / f"center-{generation:06d}.snapshot"

    def _prepare(self) -> None:
        """Makes the folder, if there is none, and locks it."""
        self._folder.mkdir(0o700, parents=True, exist_ok=True)
        self._take_lock()

    def _is_locked(self) -> bool:
        try:
            there = os.stat(self._folder / _LOCK_NAME)
        except FileNotFoundError:
            return False
        return self._lock is not None and os.path.samestat(
            there, os.fstat(self._lock)
        )

    def _keep_lock(self) -> None:
        """Locks the folder again if it is not the one that was locked."""
        if self._is_locked():
            return
        former = self._lock
        self._prepare()
        if former is not None:
            os.close(former)

    def _take_lock(self) -> None:
        path = self._folder / _LOCK_NAME
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _OWNER)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        except BlockingIOError as error:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace")
            os.close(lock)
            raise SnapshotError(
                f"The folder of snapshots {self._folder} is in use by another "
                f"center server, process {holder or 'unknown'}. Received: "
                f"a second one, process {os.getpid()}. Give each its own "
                "folder, or stop the other first."
            ) from error
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock

    def _check_generation(self, generation: int) -> None:
        if generation < 0:
            raise ValueError(
                f"generation must be >= 0. Received: generation={generation}."
            )
        for newer in self.generations():
            if newer <= generation:
                return
            if newer not in self._damaged:
                try:
                    _read(self._file(newer), newer)
                except (OSError, _DamagedError):
                    self._damaged.add(newer)
                else:
                    raise ValueError(
                        "generation must not be smaller than the newest one "
                        f"of the folder. Received: generation={generation}; "
                        f"{self._folder} holds {newer}. Load it first, or "
                        "choose another folder."
                    )

    def _remove_older(self, generation: int) -> None:
        """Tidies up. What fails here is tried again by the next save."""
        kept = 0
        for other in self.generations():
            file = self._file(other)
            with contextlib.suppress(OSError):
                if other > generation:
                    os.replace(file, file.with_name(file.name + _DAMAGED))
                elif other not in self._damaged and kept < self._keep:
                    kept += 1
                else:
                    file.unlink()


class _DamagedError(Exception):
    """Why a file is no whole snapshot."""


def _layout(
    state: Mapping[str, Any], generation: int
) -> tuple[bytes, list[tuple[int, np.ndarray]], int]:
    """The file's start, (offset, array) of each array, and its length."""
    arrays = []
    values = {}
    for name, value in state.items():
        if not isinstance(name, str):
            raise TypeError(f"Names must be text. Received: {name!r}.")
        if isinstance(value, np.ndarray):
            if value.dtype not in _DTYPES.values():
                raise TypeError(
                    f"An array must have one of the dtypes {', '.join(_DTYPES)}"
                    ", in the byte order of the machine. Received: "
                    f"state[{name!r}] of dtype {value.dtype}."
                )
            arrays.append((name, value))
            continue
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise TypeError(
                "A value must be a NumPy array or one that JSON can hold. "
                f"Received: state[{name!r}] of type {type(value).__name__}: "
                f"{error}."
            ) from error
        values[name] = value

    offset = 0
    placed = []
    entries = []
    for name, array in arrays:
        offset = _aligned(offset)
        placed.append((offset, array))
        entries.append(
            {
                "name": name,
                "dtype": array.dtype.name,
                "shape": array.shape,
                "offset": offset,
                "nbytes": array.nbytes,
            }
        )
        offset += array.nbytes
    header = json.dumps(
        {
            "generation": generation,
            "names": list(state),
            "values": values,
            "arrays": entries,
        }
    ).encode()
    start = _aligned(_PREFIX.size + len(header))
    length = start + offset + _CHECKSUM.size
    prefix = _PREFIX.pack(MAGIC, VERSION, len(header), length) + header
    return (
        prefix.ljust(start, b"\0"),
        [(start + offset, array) for offset, array in placed],
        length,
    )


def _write(
    path: pathlib.Path,
    prefix: bytes,
    arrays: list[tuple[int, np.ndarray]],
    length: int,
) -> None:
    """Writes a file and waits until it is on the disk."""
    with open(path, "wb", buffering=0, opener=_open_as_owner) as file:
        crc = _write_all(file, memoryview(prefix), 0)
        position = len(prefix)
        for offset, array in arrays:
            crc = _write_all(file, memoryview(bytes(offset - position)), crc)
            crc = _write_all(file, _little_endian_bytes(array), crc)
            position = offset + array.nbytes
        _write_all(file, memoryview(_CHECKSUM.pack(crc)), crc)
        if file.tell() != length:
            raise OSError(f"{file.tell()} bytes written instead of {length}")
        os.fsync(file.fileno())


def _open_as_owner(path: str, flags: int) -> int:
    descriptor = os.open(path, flags, _OWNER)
    os.fchmod(descriptor, _OWNER)  # It may have been there before.
    return descriptor


def _write_all(file: io.FileIO, data: memoryview, crc: int) -> int:
    """Writes all of `data`; returns the CRC-32 that goes on from `crc`."""
    for start in range(0, len(data), _PIECE):
        piece = data[start : start + _PIECE]
        crc = zlib.crc32(piece, crc)
        while piece:
            # A disk that fills up takes a part first, and then refuses.
            piece = piece[file.write(piece) or 0 :]
    return crc


def _read(path: pathlib.Path, generation: int) -> dict[str, Any]:
    """The state of a file. Raises `_DamagedError` if it is not whole."""
    with open(path, "rb", buffering=0) as file:
        length = os.fstat(file.fileno()).st_size
        start = file.read(_PREFIX.size)
        if len(start) < _PREFIX.size:
            raise _DamagedError(f"it is cut short, after {length} bytes")
        magic, version, header_length, expected = _PREFIX.unpack(start)
        if magic != MAGIC:
            raise _DamagedError("it does not begin as a snapshot does")
        if version != VERSION:
            raise _DamagedError(
                f"its format is version {version}; this program reads {VERSION}"
            )
        if length != expected:
            raise _DamagedError(
                f"it has {length} bytes and should have {expected}"
            )
        smallest = _aligned(_PREFIX.size + header_length) + _CHECKSUM.size
        if length < smallest:
            raise _DamagedError("its header is longer than the file")
        data = np.empty(length, np.uint8)
        data[: _PREFIX.size] = np.frombuffer(start, np.uint8)
        crc = _read_all(file, data.data, zlib.crc32(start))
    (saved_crc,) = _CHECKSUM.unpack(data[-_CHECKSUM.size :].tobytes())
    if crc != saved_crc:
        raise _DamagedError("its checksum does not match its content")
    try:
        return _parse(data, header_length, generation)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _DamagedError(f"its header is wrong: {error}") from error


def _read_all(file: io.FileIO, data: memoryview, crc: int) -> int:
    """Fills `data` after the prefix; returns the CRC-32 up to the checksum."""
    position = _PREFIX.size
    while position < len(data):
        piece = data[position : position + _PIECE]
        count = file.readinto(piece)
        if not count:
            raise _DamagedError(f"it is cut short, after {position} bytes")
        position += count
        beyond = max(0, position - (len(data) - _CHECKSUM.size))
        crc = zlib.crc32(piece[: max(0, count - beyond)], crc)
    return crc


def _parse(
    data: np.ndarray, header_length: int, generation: int
) -> dict[str, Any]:
    """The state in a file whose checksum is right; arrays are views."""
    end = _PREFIX.size + header_length
    header = json_text.parse(data[_PREFIX.size : end].tobytes())
    if header["generation"] != generation:
        raise ValueError(
            f"it holds generation {header['generation']}, not {generation}"
        )
    start = _aligned(end)
    state = dict(header["values"])
    for entry in header["arrays"]:
        dtype = _DTYPES[entry["dtype"]]
        first = start + entry["offset"]
        content = data[first : first + entry["nbytes"]].view(dtype)
        if sys.byteorder == "big":
            content = content.byteswap()
        state[entry["name"]] = content.reshape(entry["shape"])
    return {name: state[name] for name in header["names"]}


def _little_endian_bytes(array: np.ndarray) -> memoryview:
    """The bytes of an array in C order; no copy if it is stored so."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if sys.byteorder == "big":
        flat = flat.byteswap()
    return flat.view(np.uint8).data


def _sync_folder(folder: pathlib.Path) -> None:
    """Waits until the names in a folder are on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _aligned(position: int) -> int:
    return -(-position // _ALIGNMENT) * _ALIGNMENT
