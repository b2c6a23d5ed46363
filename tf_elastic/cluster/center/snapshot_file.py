"""The file of one snapshot: written, checked and read.

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

import io
import json
import os
import pathlib
import struct
import sys
import zlib
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import ml_dtypes
import numpy as np

from tf_elastic.cluster.transport import json_text

MAGIC = b"TFECSNAP"
VERSION = 1

_PREFIX = struct.Struct("<8sI4xQQ")
_CHECKSUM = struct.Struct("<I")
_ALIGNMENT = 64
_PIECE = 1 << 18  # bytes written or read at once: still cached for the CRC
OWNER = 0o600  # reads and writes, and nobody else
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


class DamagedError(Exception):
    """Why a file is no whole snapshot."""


class Contents(NamedTuple):
    """What a file is to hold."""

    start: bytes
    arrays: list[tuple[int, np.ndarray]]  # (offset, array)
    length: int


def contents(state: Mapping[str, Any], generation: int) -> Contents:
    """The contents of the file for a state; see `SnapshotStore.save`.

    Raises:
        TypeError: a value that can be neither stored nor put in JSON.
    """
    values, entries, placed, offset = {}, [], [], 0
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
            offset = _aligned(offset)
            placed.append((offset, value))
            entries.append(
                {
                    "name": name,
                    "dtype": value.dtype.name,
                    "shape": value.shape,
                    "offset": offset,
                    "nbytes": value.nbytes,
                }
            )
            offset += value.nbytes
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
    return Contents(
        prefix.ljust(start, b"\0"),
        [(start + offset, array) for offset, array in placed],
        length,
    )


def write(path: str | os.PathLike[str], what: Contents) -> None:
    """Writes a file that nobody but its owner can read."""
    with open(path, "wb", buffering=0, opener=_open_as_owner) as file:
        crc = _write_all(file, memoryview(what.start), 0)
        position = len(what.start)
        for offset, array in what.arrays:
            crc = _write_all(file, memoryview(bytes(offset - position)), crc)
            crc = _write_all(file, _little_endian_bytes(array), crc)
            position = offset + array.nbytes
        _write_all(file, memoryview(_CHECKSUM.pack(crc)), crc)
        if file.tell() != what.length:
            raise OSError(
                f"{file.tell()} bytes written instead of {what.length}"
            )


def _open_as_owner(path: str, flags: int) -> int:
    descriptor = os.open(path, flags, OWNER)
    os.fchmod(descriptor, OWNER)  # It may have been there before.
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


def read(path: pathlib.Path, generation: int) -> dict[str, Any]:
    """The state of a file. Raises a `DamagedError` if it is not whole."""
    with open(path, "rb", buffering=0) as file:
        length = os.fstat(file.fileno()).st_size
        start = file.read(_PREFIX.size)
        if len(start) < _PREFIX.size:
            raise DamagedError(f"it is cut short, after {length} bytes")
        magic, version, header_length, expected = _PREFIX.unpack(start)
        if magic != MAGIC:
            raise DamagedError("it does not begin as a snapshot does")
        if version != VERSION:
            raise DamagedError(
                f"its format is version {version}; this program reads {VERSION}"
            )
        if length != expected:
            raise DamagedError(
                f"it has {length} bytes and should have {expected}"
            )
        smallest = _aligned(_PREFIX.size + header_length) + _CHECKSUM.size
        if length < smallest:
            raise DamagedError("its header is longer than the file")
        data = np.empty(length, np.uint8)
        data[: _PREFIX.size] = np.frombuffer(start, np.uint8)
        crc = _read_all(file, data.data, zlib.crc32(start))
    (saved_crc,) = _CHECKSUM.unpack(data[-_CHECKSUM.size :].tobytes())
    if crc != saved_crc:
        raise DamagedError("its checksum does not match its content")
    try:
        return _parse(data, header_length, generation)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"its header is wrong: {error}") from error


def _read_all(file: io.FileIO, data: memoryview, crc: int) -> int:
    """Fills `data` after the prefix; returns the CRC-32 up to the checksum."""
    position = _PREFIX.size
    while position < len(data):
        piece = data[position : position + _PIECE]
        count = file.readinto(piece)
        if not count:
            raise DamagedError(f"it is cut short, after {position} bytes")
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


def _aligned(position: int) -> int:
    return -(-position // _ALIGNMENT) * _ALIGNMENT
