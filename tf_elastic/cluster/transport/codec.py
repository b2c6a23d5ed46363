"""Lossy compression of the arrays that travel between worker and center.

Three codecs turn a flat array of n values into bytes:

| codec | bytes | error of a value |
|---|---|---|
| `none` | n * itemsize | none |
| `bfloat16` | 2 n | at most 2^-8 of its size |
| `int8` | n + 4 ceil(n / 1024) | at most 1/254 of its block's largest |

`int8` cuts the array into blocks of 1024 values. Each has one float32 scale,
1/127 of its largest size, and each value becomes the nearest whole number of
scales. The message holds all scales first, then all numbers. A block whose
values are all below 1.5e-36 becomes zeros. `bfloat16` leaves values of 16 bits
as they are, as it would save nothing.

Numbers are in the byte order of the machine: little-endian wherever both ends
can be expected to run. `decode` gives the same bits on every such machine, so
two ends that decode the same message stay equal to the bit.

What a codec drops need not be lost: see `reference_codec`.
"""

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

CODECS = ("none", "bfloat16", "int8")
BLOCK = 1024  # values with one scale
PIECE = 64 * BLOCK  # values worked on at once: they stay in the cache

_DTYPES = [
    np.dtype(known)
    for known in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)
]
_LEVELS = np.float32(127)
# Blocks with a smaller scale count as zero: below this, float32 loses bits.
_SMALLEST_SCALE = np.finfo(np.float32).tiny
# Rounded down, so that 127 of them are still finite.
_LARGEST_SCALE = np.nextafter(np.finfo(np.float32).max / _LEVELS, np.float32(0))


def encode(codec: str, values: np.ndarray) -> np.ndarray:
    r"""Turns a flat array into the bytes to send.

    Args:
        codec: one of `CODECS`.
        values: shape (n,), contiguous; float16, bfloat16, float32 or float64.

    Returns:
        uint8, shape (`encoded_nbytes(codec, n, values.dtype)`,). Where the
        codec changes nothing this is a view of `values`, not a copy: send it
        before they change.

    Raises:
        ValueError: unknown codec or dtype; or, with int8, a value that is NaN,
            infinite or too large for float32.

    Example:

    >>> data = encode("int8", np.array([1.0, -127.0, 0.4], np.float32))
    >>> decode("int8", data, "float32", size=3)
    array([   1., -127.,    0.], dtype=float32)
    """
    codec = effective(codec, values.dtype)
    check_flat("values", values, values.dtype, values.size)
    if codec == "none":
        return values.view(np.uint8)
    message = Message(codec, values.dtype, values.size)
    for piece in pieces(values.size):
        message.write(piece, values[piece])
    return message.data


def decode(
    codec: str,
    data: Any,
    dtype: Any,
    size: int,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Turns the bytes of `encode` into values again.

    Args:
        codec: one of `CODECS`, that of `encode`.
        data: anything with the buffer interface, such as bytes.
        dtype: of the values that were encoded.
        size: n, how many values they were.
        out: where to write them, shape (n,), contiguous, of `dtype`; by
            default a new array.

    Returns:
        `out`, or an array of shape (n,). Where the codec changes nothing and
        `out` is not given, it is a view of `data`, read-only if `data` is.

    Raises:
        ValueError: unknown codec or dtype, `data` of another length than
            `size` values take, or with a scale that is not finite. `out` is
            then as it was.
    """
    message = Message(codec, dtype, size, data)
    if out is not None:
        check_flat("out", out, np.dtype(dtype), size)
    elif message.codec == "none":
        return message.numbers
    else:
        out = np.empty(size, dtype)
    for piece in pieces(size):
        message.read(piece, out[piece])
    return out


def encoded_nbytes(codec: str, size: int, dtype: Any) -> int:
    """How many bytes `encode` makes of `size` values of `dtype`.

    Raises:
        ValueError: unknown codec or dtype.

    Example:

    >>> encoded_nbytes("int8", 1025, "float32")
    1033
    """
    codec = effective(codec, np.dtype(dtype))
    if codec == "int8":
        return size + 4 * -(-size // BLOCK)
    return size * (2 if codec == "bfloat16" else np.dtype(dtype).itemsize)


def room(codec: str, size: int, dtype: Any) -> np.ndarray:
    """What `size` values of `dtype` are received in, as they are or encoded."""
    if codec == "none":
        return np.empty(size, dtype)
    return np.empty(encoded_nbytes(codec, size, dtype), np.uint8)


def effective(codec: str, dtype: np.dtype) -> str:
    """The codec that is at work: "none" where bfloat16 would save nothing."""
    if codec not in CODECS:
        raise ValueError(
            f"codec must be one of {', '.join(map(repr, CODECS))}. "
            f"Received: codec={codec!r}."
        )
    if dtype not in _DTYPES:
        raise ValueError(
            "dtype must be one of "
            f"{', '.join(known.name for known in _DTYPES)}, in the byte order "
            f"of the machine. Received: dtype={dtype}."
        )
    return "none" if codec == "bfloat16" and dtype.itemsize == 2 else codec


def check_flat(
    name: str, array: np.ndarray, dtype: np.dtype, size: int
) -> None:
    """Raises a `ValueError` for an array that is not as it should be."""
    contiguous = array.flags.c_contiguous
    if array.shape != (size,) or array.dtype != dtype or not contiguous:
        raise ValueError(
            f"{name} must be a contiguous array of shape ({size},) and dtype "
            f"{dtype}. Received: shape={array.shape}, dtype={array.dtype}, "
            f"contiguous={contiguous}."
        )


def check_finite(values: np.ndarray, piece: slice) -> None:
    """Raises a `ValueError` if what a piece has become is not finite."""
    if not np.isfinite(values).all():
        raise ValueError(
            "A lossy codec can only send finite values that fit it. Received: "
            f"NaN, an infinity or one too large among values {piece.start} to "
            f"{piece.stop - 1}. Find the step that made it; to send it as it "
            "is, use codec 'none'."
        )


def pieces(size: int) -> Iterator[slice]:
    """Cuts an array of `size` values into parts that stay in the cache.

    They are whole blocks, but for the last one: that is what is left.
    """
    whole = size - size % BLOCK
    for start in range(0, whole, PIECE):
        yield slice(start, min(start + PIECE, whole))
    if whole < size:
        yield slice(whole, size)


class Message:
    """What is sent, to be written or read in `pieces`.

    Args:
        codec: one of `CODECS`.
        dtype: of the values.
        size: n, how many they are.
        data: what has come; None for a new message, whose content is
            undefined.

    Raises:
        ValueError: as of `decode`.
    """

    def __init__(
        self, codec: str, dtype: Any, size: int, data: Any = None
    ) -> None:
        dtype = np.dtype(dtype)
        nbytes = encoded_nbytes(codec, size, dtype)
        self.codec = effective(codec, dtype)
        self.numbers: np.ndarray
        self.data: np.ndarray = (
            np.empty(nbytes, np.uint8)
            if data is None
            else np.frombuffer(data, np.uint8)
        )
        if self.data.size != nbytes:
            raise ValueError(
                f"{size} values of {dtype} in codec {codec!r} take {nbytes} "
                f"bytes. Received: {self.data.size} bytes. The message is cut "
                "short, or the two ends differ in codec, dtype or size."
            )
        if self.codec != "int8":
            self.numbers = self.data.view(
                dtype if self.codec == "none" else ml_dtypes.bfloat16
            )
            return
        self.numbers = self.data[nbytes - size :].view(np.int8)
        self._scales = self.data[: nbytes - size].view(np.float32)
        sound = np.abs(self._scales) <= _LARGEST_SCALE
        if data is not None and not sound.all():
            raise ValueError(
                "The scales of an int8 message must be finite, and 127 of "
                f"them as well. Received: {np.count_nonzero(~sound)} of "
                f"{sound.size} are not. The message is damaged, or of another "
                "codec."
            )

    def write(self, piece: slice, values: np.ndarray) -> None:
        """Encodes the values of one piece."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self.codec != "int8":
                self.numbers[piece] = values
                return
            scales = self._scales_of(piece)
            rows = values.astype(np.float32, copy=False)
        rows = rows.reshape(len(scales), -1)
        largest = np.abs(rows).max(axis=1, keepdims=True)
        check_finite(largest, piece)
        np.minimum(largest / _LEVELS, _LARGEST_SCALE, out=scales)
        scales[scales < _SMALLEST_SCALE] = 0
        inverse = np.zeros_like(scales)
        np.divide(np.float32(1), scales, out=inverse, where=scales > 0)
        levels = rows * inverse
        self.numbers[piece] = np.rint(levels, out=levels).reshape(-1)

    def read(self, piece: slice, out: np.ndarray) -> None:
        """Decodes one piece into an array, of whatever dtype."""
        numbers = self.numbers[piece]
        with np.errstate(over="ignore"):
            if self.codec != "int8":
                out[:] = numbers
                return
            scales = self._scales_of(piece)
            np.multiply(
                numbers.reshape(len(scales), -1),
                scales,
                out=out.reshape(len(scales), -1),
                dtype=np.float32,
                casting="unsafe",
            )

    def _scales_of(self, piece: slice) -> np.ndarray:
        """Those of a piece's blocks, in a column."""
        first, end = piece.start // BLOCK, -(-piece.stop // BLOCK)
        scales: np.ndarray = self._scales[first:end, np.newaxis]
        return scales
