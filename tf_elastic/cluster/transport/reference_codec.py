"""Codecs with a memory: what one message drops goes with a later one.

A `Reference` is kept at both ends, and only how far the values are from it is
sent. There is one for each section, and at a center server for each worker.

Reference:
    Richtarik, Sokolov and Fatkhullin (2021), "EF21: A New, Simpler,
    Theoretically Better, and Practically Faster Error Feedback", Algorithm 1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_elastic.cluster.transport import codec

Arrays = list[np.ndarray]


class Reference:
    r"""Of values that change over time, what both ends know (EF21).

    Both ends hold the same reference h, zero at first. A message is
    C(x - h), and both ends move h by it:

    .. math:: h \leftarrow h + C(x - h)

    so what the codec C dropped stays in x - h and goes with a later message.
    With a fixed x the error |x - h| shrinks with each message, by 254 times or
    more with int8, down to the rounding of the dtype. Where the codec changes
    nothing, h is x itself and no memory is taken for it.

    Every message has to arrive once and in order. If one is lost, or it is not
    known whether it arrived, `restart` both ends.

    Args:
        name: of the codec C, one of `CODECS`.
        dtype: of the values: float16, bfloat16, float32 or float64.
        size: n, how many values a message carries.

    Example:

    >>> here, there = (Reference("int8", "float32", size=2) for _ in range(2))
    >>> x = np.array([100.0, 0.1], np.float32)
    >>> there.receive(here.compress(x))
    array([100.,   0.], dtype=float32)
    >>> there.receive(here.compress(x))
    array([100. ,   0.1], dtype=float32)

    Reference:
        Richtarik, Sokolov and Fatkhullin (2021), Algorithm 1.
    """

    def __init__(self, name: str, dtype: Any, size: int) -> None:
        self._name = codec.effective(name, np.dtype(dtype))
        self._dtype = np.dtype(dtype)
        self._size = size
        self._h = None
        if self._name != "none":
            self._h = np.zeros(size, self._dtype)
        # |x - h| / |x| after the last message was made, L2 norms in float64.
        # 0 before, after `restart` and where h is x; infinite if x alone is 0.
        self.relative_error = 0.0

    @property
    def reference(self) -> np.ndarray | None:
        """A read-only view of h, shape (n,); None where h is x itself."""
        return None if self._h is None else _read_only(self._h)

    def restart(self, values: np.ndarray) -> np.ndarray:
        """Begins anew at both ends, with values that travel whole: h = x.

        Args:
            values: x, shape (n,), contiguous, of the dtype.

        Returns:
            h, as `receive` does.

        Raises:
            ValueError: other shape or dtype, or, with a lossy codec, a value
                that is not finite. h is then as it was.
        """
        codec.check_flat("values", values, self._dtype, self._size)
        if self._h is None:
            return _read_only(values)
        for piece in codec.pieces(self._size):
            codec.check_finite(values[piece], piece)
        np.copyto(self._h, values)
        self.relative_error = 0.0
        return _read_only(self._h)

    def compress(self, values: np.ndarray) -> np.ndarray:
        """Encodes x - h and moves h by what the other end will decode.

        Args:
            values: x, shape (n,), contiguous, of the dtype.

        Returns:
            The message, uint8, shape (`encoded_nbytes(codec, n, dtype)`,).
            Where h is x itself it is a view of `values`: send it before they
            change.

        Raises:
            ValueError: other shape or dtype, or, with a lossy codec, x - h
                has a value that the codec cannot send as a finite one. h is
                then as it was. If x is finite, `restart` helps.
        """
        codec.check_flat("values", values, self._dtype, self._size)
        h = self._h
        if h is None:
            return values.view(np.uint8)
        message = codec.Message(self._name, self._dtype, self._size)
        for piece in codec.pieces(self._size):
            message.write(piece, _difference(values[piece], h[piece]))
            if self._name == "bfloat16":  # It would send any value.
                sent = message.numbers[piece].astype(np.float32)
                codec.check_finite(sent, piece)
        # Only now is it sure that all can be sent.
        squares = np.zeros(2)  # |x|^2, |x - h|^2
        for piece in codec.pieces(self._size):
            _move(h[piece], message, piece)
            for k, part in enumerate(
                (values[piece], _difference(values[piece], h[piece]))
            ):
                exact = part.astype(np.float64)
                squares[k] += np.square(exact, out=exact).sum()
        size, error = np.sqrt(squares)
        self.relative_error = float(
            error / size if size else np.inf if error else 0.0
        )
        return message.data

    def receive(self, data: Any) -> np.ndarray:
        """Moves h by a message that the other end has made by `compress`.

        Args:
            data: the message; anything with the buffer interface.

        Returns:
            h, shape (n,), to the bit that of the other end. A read-only view:
            the next message changes it. Where h is x, a view of `data`.

        Raises:
            ValueError: `data` of another length than n values take, or with a
                scale that is not finite. h is then as it was.
        """
        message = codec.Message(self._name, self._dtype, self._size, data)
        if self._h is None:
            return _read_only(message.numbers)
        for piece in codec.pieces(self._size):
            _move(self._h[piece], message, piece)
        return _read_only(self._h)


def _computed_in(dtype: np.dtype) -> np.dtype:
    """float32 for 16 bits: far quicker there, and exact for sums of two."""
    return dtype if dtype.itemsize > 2 else np.dtype(np.float32)


def _difference(x: np.ndarray, h: np.ndarray) -> np.ndarray:
    difference = np.empty(x.shape, _computed_in(x.dtype))
    with np.errstate(over="ignore", invalid="ignore"):
        np.subtract(x, h, out=difference, dtype=difference.dtype)
    return difference


def _move(h: np.ndarray, message: codec.Message, piece: slice) -> None:
    step = np.empty(h.shape, _computed_in(h.dtype))
    message.read(piece, step)
    with np.errstate(over="ignore", invalid="ignore"):
        np.add(h, step, out=h, dtype=step.dtype, casting="unsafe")


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


class PointSender:
    """Compresses the points that one worker sends to one center server.

    Args:
        name: of the codec; one of `codec.CODECS`.
    """

    def __init__(self, name: str) -> None:
        self.codec = name
        self._references: list[Reference] = []

    def encode(self, parts: Arrays, whole: bool) -> tuple[Arrays, bool]:
        """What to send for a worker's points, and whether it is whole.

        Args:
            parts: one array for each section.
            whole: whether it has to be.

        Raises:
            ValueError: they are not finite, or too far from where they were.
        """
        if self.codec == "none":
            return parts, True
        references = self._references  # The heartbeat's thread may forget.
        if references and not whole:
            pairs = zip(references, parts, strict=True)
            return [each.compress(part) for each, part in pairs], False
        self._references = begun(self.codec, parts)
        return parts, True

    def room(self, parts: Sequence[np.ndarray]) -> Arrays:
        """Arrays for an answer that `decode` puts into `parts`."""
        if self.codec == "none":
            return list(parts)
        return [codec.room(self.codec, part.size, part.dtype) for part in parts]

    def decode(self, room: Sequence[Any], parts: Sequence[np.ndarray]) -> None:
        """Puts the answer that came into `room` into `parts`."""
        if self.codec == "none":
            return
        for part, data in zip(parts, room, strict=True):
            codec.decode(self.codec, data, part.dtype, part.size, out=part)

    def forget(self) -> None:
        """The next message has to be whole."""
        self._references = []

    @property
    def error(self) -> float:
        """The largest relative error of the last message's sections."""
        return max(
            (each.relative_error for each in self._references), default=0.0
        )


def begun(name: str, values: Sequence[np.ndarray]) -> list[Reference]:
    """References of points that travel whole."""
    references = [Reference(name, each.dtype, each.size) for each in values]
    for reference, each in zip(references, values, strict=True):
        reference.restart(each)
    return references
