"""The arithmetic of the codecs, on pieces that stay in the cache.

Workspace is given from outside: to make it anew for each piece costs more
than the arithmetic.
"""

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

BLOCK = 1024  # values with one scale

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
SCALE = np.dtype(np.float32)
_LEVELS = np.float32(127)
# Blocks with a smaller scale count as zero: below this, float32 loses bits.
_SMALLEST_SCALE = np.finfo(np.float32).tiny
# Rounded down, so that 127 of them are still finite.
LARGEST_SCALE = np.nextafter(np.finfo(np.float32).max / _LEVELS, np.float32(0))
PIECE = 32 * BLOCK  # values worked on at once: they stay in the cache
EXPONENT = np.uint16(0x7F80)  # of a bfloat16; all ones if it is not finite



def encode_piece(
    codec: str,
    values: np.ndarray,
    data: np.ndarray,
    piece: slice,
    size: int,
    work: np.ndarray,
) -> None:
    """Writes into the whole message `data` what `values` become."""
    with np.errstate(over="ignore", invalid="ignore"):
        if codec == "bfloat16":
            np.copyto(data.view(BFLOAT16)[piece], values, casting="unsafe")
            return
        if values.dtype != np.float32:
            np.copyto(work[: values.size], values, casting="unsafe")
            values = work[: values.size]
    scales, numbers = split(data, size)
    for blocks, rows in _rows(piece):
        block_values = values[rows].reshape(len(blocks), -1)
        largest = np.maximum(
            block_values.max(axis=1), -block_values.min(axis=1)
        )
        if not np.isfinite(largest).all():
            raise_not_finite(piece)
        scale = np.minimum(largest / _LEVELS, LARGEST_SCALE)
        scale[scale < _SMALLEST_SCALE] = 0
        scales[blocks.start : blocks.stop] = scale
        inverse = np.zeros_like(scale)
        np.divide(np.float32(1), scale, out=inverse, where=scale > 0)
        levels = work[rows].reshape(len(blocks), -1)
        np.multiply(block_values, inverse[:, np.newaxis], out=levels)
        np.rint(levels, out=levels)
        start = piece.start + rows.start
        to = numbers[start : piece.start + rows.stop]
        np.copyto(to, work[rows], casting="unsafe")


def decode_piece(
    codec: str,
    data: np.ndarray,
    piece: slice,
    size: int,
    out: np.ndarray,
    work: np.ndarray,
) -> None:
    """Writes into `out` the values of one piece of the message `data`."""
    if codec == "bfloat16":
        np.copyto(out, data.view(BFLOAT16)[piece], casting="unsafe")
        return
    scales, numbers = split(data, size)
    numbers = numbers[piece]
    target = out if out.dtype == np.float32 else work[: out.size]
    np.copyto(target, numbers)
    for blocks, rows in _rows(piece):
        levels = target[rows].reshape(len(blocks), -1)
        scale = scales[blocks.start : blocks.stop, np.newaxis]
        np.multiply(levels, scale, out=levels)
    if target is not out:
        with np.errstate(over="ignore"):
            np.copyto(out, target, casting="unsafe")


def _rows(piece: slice) -> Iterator[tuple[range, slice]]:
    """(blocks, their values within the piece): the full ones, then a rest."""
    first = piece.start // BLOCK
    count, rest = divmod(piece.stop - piece.start, BLOCK)
    if count:
        yield range(first, first + count), slice(0, count * BLOCK)
    if rest:
        last = first + count
        yield (
            range(last, last + 1),
            slice(count * BLOCK, count * BLOCK + rest),
        )


def split(data: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The scales and the numbers of an int8 message, as views."""
    end = SCALE.itemsize * num_blocks(size)
    return data[:end].view(SCALE), data[end:].view(np.int8)


def cut(size: int) -> Iterator[slice]:
    """Pieces of an array of `size` values."""
    for start in range(0, size, PIECE):
        yield slice(start, min(start + PIECE, size))


def workspace(size: int, dtype: Any = np.float32) -> np.ndarray:
    """Room for one piece; its content is undefined."""
    return np.empty(min(PIECE, size), dtype)


def computed_in(dtype: np.dtype) -> np.dtype:
    """float32 for 16 bits: far quicker there, and exact for sums of two."""
    return dtype if dtype.itemsize > 2 else np.dtype(np.float32)


def squared_norm(values: np.ndarray, exact: np.ndarray) -> float:
    """|values|^2, summed in float64. `exact` is workspace."""
    exact = exact[: values.size]
    np.copyto(exact, values)
    return float(np.einsum("i,i->", exact, exact))


def num_blocks(size: int) -> int:
    """Of `size` values in int8."""
    return -(-size // BLOCK)


def check_finite(values: np.ndarray) -> None:
    """Raises a `ValueError` for what is not finite."""
    for piece in cut(values.size):
        if not np.isfinite(values[piece]).all():
            raise_not_finite(piece)


def raise_not_finite(piece: slice) -> None:
    """Raises a `ValueError` for values of a piece."""
    raise ValueError(
        "A lossy codec can only send finite values that fit it. Received: "
        f"NaN, an infinity or one too large among values {piece.start} to "
        f"{piece.stop - 1}. Find the step that made it; to send it as it is, "
        "use codec 'none'."
    )
