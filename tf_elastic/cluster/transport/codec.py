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

from typing import Any

import numpy as np

from tf_elastic.cluster.transport import codec_pieces as pieces

CODECS = ("none", "bfloat16", "int8")

_DTYPES = (
    np.dtype(np.float16),
    pieces.BFLOAT16,
    np.dtype(np.float32),
    np.dtype(np.float64),
)


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
        return as_bytes(values)
    data = np.empty(encoded_nbytes(codec, values.size, values.dtype), np.uint8)
    size, work = values.size, pieces.workspace(values.size)
    for piece in pieces.cut(size):
        pieces.encode_piece(codec, values[piece], data, piece, size, work)
    return data


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
    dtype = np.dtype(dtype)
    data = checked_data(codec, data, dtype, size)
    codec = effective(codec, dtype)
    if out is None:
        if codec == "none":
            whole: np.ndarray = data.view(dtype)
            return whole
        out = np.empty(size, dtype)
    else:
        check_flat("out", out, dtype, size)
    if codec == "none":
        np.copyto(out, data.view(dtype))
        return out
    work = pieces.workspace(size)
    for piece in pieces.cut(size):
        pieces.decode_piece(codec, data, piece, size, out[piece], work)
    return out


def encoded_nbytes(codec: str, size: int, dtype: Any) -> int:
    """How many bytes `encode` makes of `size` values of `dtype`.

    Raises:
        ValueError: unknown codec or dtype.

    Example:

    >>> encoded_nbytes("int8", 1025, "float32")
    1033
    """
    dtype = np.dtype(dtype)
    codec = effective(codec, dtype)
    if codec == "int8":
        return size + pieces.SCALE.itemsize * pieces.num_blocks(size)
    itemsize: int = (pieces.BFLOAT16 if codec == "bfloat16" else dtype).itemsize
    return size * itemsize


def as_bytes(values: np.ndarray) -> np.ndarray:
    """The bytes of a flat array, not a copy."""
    return values.view(np.uint8)


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
    if codec == "bfloat16" and dtype.itemsize <= pieces.BFLOAT16.itemsize:
        return "none"
    return codec


def check_flat(
    name: str, array: np.ndarray, dtype: np.dtype, size: int
) -> None:
    """Raises a `ValueError` for an array that is not as it should be."""
    if (
        array.shape == (size,)
        and array.dtype == dtype
        and array.flags.c_contiguous
    ):
        return
    raise ValueError(
        f"{name} must be a contiguous array of shape ({size},) and dtype "
        f"{dtype}. Received: shape={array.shape}, dtype={array.dtype}, "
        f"contiguous={array.flags.c_contiguous}."
    )


def checked_data(
    codec: str, data: Any, dtype: np.dtype, size: int
) -> np.ndarray:
    """`data` as uint8, of the right length and with sound scales."""
    message: np.ndarray = np.frombuffer(data, np.uint8)
    expected = encoded_nbytes(codec, size, dtype)
    if message.size != expected:
        raise ValueError(
            f"{size} values of {dtype} in codec {codec!r} take {expected} "
            f"bytes. Received: {message.size} bytes. The message is cut short, "
            "or the two ends differ in codec, dtype or size."
        )
    if codec == "int8":
        scales, _ = pieces.split(message, size)
        sound = np.abs(scales) <= pieces.LARGEST_SCALE
        if not sound.all():
            raise ValueError(
                "The scales of an int8 message must be finite, and 127 of "
                f"them as well. Received: {np.count_nonzero(~sound)} of "
                f"{sound.size} are not. The message is damaged, or of another "
                "codec."
            )
    return message
