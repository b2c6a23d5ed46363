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

What a codec drops need not be lost. `ReferenceSender` and `ReferenceReceiver`
keep the same reference at both ends and send only how far the values are from
it, so what one message leaves out goes with a later one.

Reference:
    Richtarik, Sokolov and Fatkhullin (2021), "EF21: A New, Simpler,
    Theoretically Better, and Practically Faster Error Feedback", Algorithm 1.
"""

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

CODECS = ("none", "bfloat16", "int8")
BLOCK = 1024  # values with one scale

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_DTYPES = (
    np.dtype(np.float16),
    _BFLOAT16,
    np.dtype(np.float32),
    np.dtype(np.float64),
)
_SCALE = np.dtype(np.float32)
_LEVELS = np.float32(127)
# Blocks with a smaller scale count as zero: below this, float32 loses bits.
_SMALLEST_SCALE = np.finfo(np.float32).tiny
# Rounded down, so that 127 of them are still finite.
_LARGEST_SCALE = np.nextafter(np.finfo(np.float32).max / _LEVELS, np.float32(0))
_PIECE = 32 * BLOCK  # values worked on at once: they stay in the cache
_EXPONENT = np.uint16(0x7F80)  # of a bfloat16; all ones if it is not finite


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
    codec = _effective(codec, values.dtype)
    _check_flat("values", values, values.dtype, values.size)
    if codec == "none":
        return _as_bytes(values)
    data = np.empty(encoded_nbytes(codec, values.size, values.dtype), np.uint8)
    work = _workspace(values.size)
    for piece in _pieces(values.size):
        _encode_piece(codec, values[piece], data, piece, values.size, work)
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
    data = _checked_data(codec, data, dtype, size)
    codec = _effective(codec, dtype)
    if out is None:
        if codec == "none":
            whole: np.ndarray = data.view(dtype)
            return whole
        out = np.empty(size, dtype)
    else:
        _check_flat("out", out, dtype, size)
    if codec == "none":
        np.copyto(out, data.view(dtype))
        return out
    work = _workspace(size)
    for piece in _pieces(size):
        _decode_piece(codec, data, piece, size, out[piece], work)
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
    codec = _effective(codec, dtype)
    if codec == "int8":
        return size + _SCALE.itemsize * _num_blocks(size)
    itemsize: int = (_BFLOAT16 if codec == "bfloat16" else dtype).itemsize
    return size * itemsize


class ReferenceSender:
    r"""Sends values that change over time, with error feedback (EF21).

    Both ends hold the same reference h, zero at first. A message is
    C(x - h), and both ends move h by it:

    .. math:: h \leftarrow h + C(x - h)

    so what the codec C dropped stays in x - h and goes with a later message.
    With a fixed x the error |x - h| shrinks with each message, by 254 times or
    more with int8, down to the rounding of the dtype. Where the codec changes
    nothing, h is x itself and no memory is taken for it.

    Every message has to arrive once and in order. If one is lost, or it is not
    known whether it arrived, call `restart`.

    Args:
        codec: C, one of `CODECS`.
        dtype: of the values: float16, bfloat16, float32 or float64.
        size: n, how many values a message carries.

    Example:

    >>> sender = ReferenceSender("int8", "float32", size=2)
    >>> receiver = ReferenceReceiver("int8", "float32", size=2)
    >>> x = np.array([100.0, 0.1], np.float32)
    >>> receiver.receive(sender.compress(x))
    array([100.,   0.], dtype=float32)
    >>> receiver.receive(sender.compress(x))
    array([100. ,   0.1], dtype=float32)

    Reference:
        Richtarik, Sokolov and Fatkhullin (2021), Algorithm 1.
    """

    def __init__(self, codec: str, dtype: Any, size: int):
        self._dtype = np.dtype(dtype)
        self._codec = _effective(codec, self._dtype)
        self._size = size
        self._error = 0.0
        self._h = None
        if self._codec != "none":
            self._h = np.zeros(size, self._dtype)

    @property
    def relative_error(self) -> float:
        """|x - h| / |x| after the last message, L2 norms in float64.

        0 before the first message, after `restart` and where h is x. Infinite
        if x is zero and h is not.
        """
        return self._error

    @property
    def reference(self) -> np.ndarray | None:
        """A read-only view of h, shape (n,); None where h is x itself."""
        return None if self._h is None else _read_only(self._h)

    def restart(self, values: np.ndarray) -> np.ndarray:
        """Begins anew: h = x, and the message to send is x as it is.

        The other end takes it with `ReferenceReceiver.restart`.

        Args:
            values: x, shape (n,), contiguous, of the sender's dtype.

        Returns:
            The bytes of x, uint8, a view of `values`. Decode with codec
            "none".

        Raises:
            ValueError: other shape or dtype, or, with a lossy codec, a value
                that is not finite. h is then as it was.
        """
        _check_flat("values", values, self._dtype, self._size)
        if self._h is not None:
            _check_finite(values)
            np.copyto(self._h, values)
        self._error = 0.0
        return _as_bytes(values)

    def compress(self, values: np.ndarray) -> np.ndarray:
        """Encodes x - h and moves h by what the receiver will decode.

        Args:
            values: x, shape (n,), contiguous, of the sender's dtype.

        Returns:
            The message, uint8, shape (`encoded_nbytes(codec, n, dtype)`,).
            Where h is x itself it is a view of `values`: send it before they
            change.

        Raises:
            ValueError: other shape or dtype, or, with a lossy codec, x - h
                has a value that the codec cannot send as a finite one. h is
                then as it was. If x is finite, `restart` helps.
        """
        _check_flat("values", values, self._dtype, self._size)
        if self._h is None:
            return _as_bytes(values)
        data = self._encode_difference(values, self._h)
        # Only now is it sure that every value can be sent.
        norms = np.zeros(2)  # |x|^2, |x - h|^2
        work = _workspace(self._size)
        exact = np.empty(min(_PIECE, self._size), np.float64)
        step = _workspace(self._size, _computed_in(self._dtype))
        for piece in _pieces(self._size):
            x, h = values[piece], self._h[piece]
            part = _move(self._codec, data, piece, self._h, step, work)
            norms[0] += _squared_norm(x, exact)
            np.subtract(x, h, out=part, dtype=part.dtype)
            norms[1] += _squared_norm(part, exact)
        size, error = np.sqrt(norms)
        self._error = float(error / size if size else np.inf if error else 0.0)
        return data

    def _encode_difference(
        self, values: np.ndarray, reference: np.ndarray
    ) -> np.ndarray:
        """encode(x - h), every value of which is finite."""
        size = self._size
        data = np.empty(encoded_nbytes(self._codec, size, self._dtype), "u1")
        difference = _workspace(size, _computed_in(self._dtype))
        work = _workspace(size)
        for piece in _pieces(size):
            part = difference[: piece.stop - piece.start]
            with np.errstate(over="ignore", invalid="ignore"):
                np.subtract(
                    values[piece], reference[piece], out=part, dtype=part.dtype
                )
            _encode_piece(self._codec, part, data, piece, size, work)
            if self._codec == "bfloat16":
                sent = data.view(np.uint16)[piece]
                if np.max(sent & _EXPONENT) == _EXPONENT:
                    _raise_not_finite(piece)
        return data


class ReferenceReceiver:
    """The other end of a `ReferenceSender`.

    Args:
        codec: one of `CODECS`, that of the sender.
        dtype: of the values, that of the sender.
        size: n, how many values a message carries.
    """

    def __init__(self, codec: str, dtype: Any, size: int):
        self._dtype = np.dtype(dtype)
        self._codec = _effective(codec, self._dtype)
        self._size = size
        self._h = None
        if self._codec != "none":
            self._h = np.zeros(size, self._dtype)

    @property
    def reference(self) -> np.ndarray | None:
        """A read-only view of h, shape (n,); None where h is x itself."""
        return None if self._h is None else _read_only(self._h)

    def restart(self, values: np.ndarray) -> np.ndarray:
        """Begins anew with values that came whole: h = x.

        Args:
            values: x, shape (n,), contiguous, of the receiver's dtype; what
                the sender's `restart` made, decoded with codec "none".

        Returns:
            h, as `receive` does.

        Raises:
            ValueError: other shape or dtype.
        """
        _check_flat("values", values, self._dtype, self._size)
        if self._h is None:
            return _read_only(values)
        np.copyto(self._h, values)
        return _read_only(self._h)

    def receive(self, data: Any) -> np.ndarray:
        """Moves h by a message.

        Args:
            data: what the sender's `compress` made; anything with the buffer
                interface.

        Returns:
            h, shape (n,), to the bit that of the sender. A read-only view:
            the next message changes it. Where h is x, a view of `data`.

        Raises:
            ValueError: `data` of another length than n values take, or with a
                scale that is not finite. h is then as it was.
        """
        data = _checked_data(self._codec, data, self._dtype, self._size)
        if self._h is None:
            return _read_only(data.view(self._dtype))
        work = _workspace(self._size)
        step = _workspace(self._size, _computed_in(self._dtype))
        for piece in _pieces(self._size):
            _move(self._codec, data, piece, self._h, step, work)
        return _read_only(self._h)


def _move(
    codec: str,
    data: np.ndarray,
    piece: slice,
    reference: np.ndarray,
    step: np.ndarray,
    work: np.ndarray,
) -> np.ndarray:
    """Moves one piece of h by decode(data). Both ends call this.

    Returns:
        The part of `step` that was used; the caller may write over it.
    """
    step = step[: piece.stop - piece.start]
    _decode_piece(codec, data, piece, reference.size, step, work)
    part = reference[piece]
    with np.errstate(over="ignore", invalid="ignore"):
        if step.dtype == part.dtype:
            np.add(part, step, out=part)
        else:
            np.add(part, step, out=step, dtype=step.dtype)
            np.copyto(part, step, casting="unsafe")
    return step


def _encode_piece(
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
            np.copyto(data.view(_BFLOAT16)[piece], values, casting="unsafe")
            return
        if values.dtype != np.float32:
            np.copyto(work[: values.size], values, casting="unsafe")
            values = work[: values.size]
    scales, numbers = _split(data, size)
    for blocks, rows in _rows(piece):
        block_values = values[rows].reshape(len(blocks), -1)
        largest = np.maximum(
            block_values.max(axis=1), -block_values.min(axis=1)
        )
        if not np.isfinite(largest).all():
            _raise_not_finite(piece)
        scale = np.minimum(largest / _LEVELS, _LARGEST_SCALE)
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


def _decode_piece(
    codec: str,
    data: np.ndarray,
    piece: slice,
    size: int,
    out: np.ndarray,
    work: np.ndarray,
) -> None:
    """Writes into `out` the values of one piece of the message `data`."""
    if codec == "bfloat16":
        np.copyto(out, data.view(_BFLOAT16)[piece], casting="unsafe")
        return
    scales, numbers = _split(data, size)
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


def _split(data: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The scales and the numbers of an int8 message, as views."""
    end = _SCALE.itemsize * _num_blocks(size)
    return data[:end].view(_SCALE), data[end:].view(np.int8)


def _pieces(size: int) -> Iterator[slice]:
    for start in range(0, size, _PIECE):
        yield slice(start, min(start + _PIECE, size))


def _workspace(size: int, dtype: Any = np.float32) -> np.ndarray:
    """Room for one piece; its content is undefined."""
    return np.empty(min(_PIECE, size), dtype)


def _computed_in(dtype: np.dtype) -> np.dtype:
    """float32 for 16 bits: far quicker there, and exact for sums of two."""
    return dtype if dtype.itemsize > 2 else np.dtype(np.float32)


def _squared_norm(values: np.ndarray, exact: np.ndarray) -> float:
    """|values|^2, summed in float64. `exact` is workspace."""
    exact = exact[: values.size]
    np.copyto(exact, values)
    return float(np.einsum("i,i->", exact, exact))


def _num_blocks(size: int) -> int:
    return -(-size // BLOCK)


def _as_bytes(values: np.ndarray) -> np.ndarray:
    return values.view(np.uint8)


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def _effective(codec: str, dtype: np.dtype) -> str:
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
    if codec == "bfloat16" and dtype.itemsize <= _BFLOAT16.itemsize:
        return "none"
    return codec


def _check_flat(
    name: str, array: np.ndarray, dtype: np.dtype, size: int
) -> None:
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


def _checked_data(
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
        scales, _ = _split(message, size)
        sound = np.abs(scales) <= _LARGEST_SCALE
        if not sound.all():
            raise ValueError(
                "The scales of an int8 message must be finite, and 127 of "
                f"them as well. Received: {np.count_nonzero(~sound)} of "
                f"{sound.size} are not. The message is damaged, or of another "
                "codec."
            )
    return message


def _check_finite(values: np.ndarray) -> None:
    for piece in _pieces(values.size):
        if not np.isfinite(values[piece]).all():
            _raise_not_finite(piece)


def _raise_not_finite(piece: slice) -> None:
    raise ValueError(
        "A lossy codec can only send finite values that fit it. Received: "
        f"NaN, an infinity or one too large among values {piece.start} to "
        f"{piece.stop - 1}. Find the step that made it; to send it as it is, "
        "use codec 'none'."
    )
