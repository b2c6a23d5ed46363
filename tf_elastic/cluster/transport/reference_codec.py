"""Codecs with a memory: what one message drops goes with a later one.

`ReferenceSender` and `ReferenceReceiver` keep the same reference at both ends
and send only how far the values are from it. `PointSender` and `PointReceivers`
are one of them for each section: a session's end, and that of the center
server, which has one for each worker.

Reference:
    Richtarik, Sokolov and Fatkhullin (2021), "EF21: A New, Simpler,
    Theoretically Better, and Practically Faster Error Feedback", Algorithm 1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_elastic.cluster import errors
from tf_elastic.cluster.transport import codec
from tf_elastic.cluster.transport import codec_pieces as pieces

Arrays = list[np.ndarray]


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
        name: of the codec C, one of `CODECS`.
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

    def __init__(self, name: str, dtype: Any, size: int) -> None:
        self._dtype = np.dtype(dtype)
        self._codec = codec.effective(name, self._dtype)
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
        codec.check_flat("values", values, self._dtype, self._size)
        if self._h is not None:
            pieces.check_finite(values)
            np.copyto(self._h, values)
        self._error = 0.0
        return codec.as_bytes(values)

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
        codec.check_flat("values", values, self._dtype, self._size)
        if self._h is None:
            return codec.as_bytes(values)
        data = self._encode_difference(values, self._h)
        # Only now is it sure that every value can be sent.
        norms = np.zeros(2)  # |x|^2, |x - h|^2
        work = pieces.workspace(self._size)
        exact = np.empty(min(pieces.PIECE, self._size), np.float64)
        step = pieces.workspace(self._size, pieces.computed_in(self._dtype))
        for piece in pieces.cut(self._size):
            x, h = values[piece], self._h[piece]
            part = _move(self._codec, data, piece, self._h, step, work)
            norms[0] += pieces.squared_norm(x, exact)
            np.subtract(x, h, out=part, dtype=part.dtype)
            norms[1] += pieces.squared_norm(part, exact)
        size, error = np.sqrt(norms)
        self._error = float(error / size if size else np.inf if error else 0.0)
        return data

    def _encode_difference(
        self, values: np.ndarray, reference: np.ndarray
    ) -> np.ndarray:
        """encode(x - h), every value of which is finite."""
        size = self._size
        nbytes = codec.encoded_nbytes(self._codec, size, self._dtype)
        data = np.empty(nbytes, np.uint8)
        difference = pieces.workspace(size, pieces.computed_in(self._dtype))
        work = pieces.workspace(size)
        for piece in pieces.cut(size):
            part = difference[: piece.stop - piece.start]
            with np.errstate(over="ignore", invalid="ignore"):
                np.subtract(
                    values[piece], reference[piece], out=part, dtype=part.dtype
                )
            pieces.encode_piece(self._codec, part, data, piece, size, work)
            if self._codec == "bfloat16":
                sent = data.view(np.uint16)[piece]
                if np.max(sent & pieces.EXPONENT) == pieces.EXPONENT:
                    pieces.raise_not_finite(piece)
        return data


class ReferenceReceiver:
    """The other end of a `ReferenceSender`.

    Args:
        name: of the codec, one of `CODECS`, that of the sender.
        dtype: of the values, that of the sender.
        size: n, how many values a message carries.
    """

    def __init__(self, name: str, dtype: Any, size: int) -> None:
        self._dtype = np.dtype(dtype)
        self._codec = codec.effective(name, self._dtype)
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
        codec.check_flat("values", values, self._dtype, self._size)
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
        data = codec.checked_data(self._codec, data, self._dtype, self._size)
        if self._h is None:
            return _read_only(data.view(self._dtype))
        work = pieces.workspace(self._size)
        step = pieces.workspace(self._size, pieces.computed_in(self._dtype))
        for piece in pieces.cut(self._size):
            _move(self._codec, data, piece, self._h, step, work)
        return _read_only(self._h)


def _move(
    name: str,
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
    pieces.decode_piece(name, data, piece, reference.size, step, work)
    part = reference[piece]
    with np.errstate(over="ignore", invalid="ignore"):
        if step.dtype == part.dtype:
            np.add(part, step, out=part)
        else:
            np.add(part, step, out=step, dtype=step.dtype)
            np.copyto(part, step, casting="unsafe")
    return step


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
        self._senders: list[ReferenceSender] | None = None

    def encode(
        self, parts: Sequence[np.ndarray], whole: bool
    ) -> tuple[list[Any], bool]:
        """What to send for a worker's points, and whether it is whole.

        Args:
            parts: one array for each section.
            whole: whether it has to be.

        Raises:
            ValueError: they are not finite, or too far from where they were.
        """
        if self.codec == "none":
            return list(parts), True
        senders = self._senders  # The heartbeat's thread may forget them.
        if senders is None or whole:
            senders = self._senders = [
                ReferenceSender(self.codec, part.dtype, part.size)
                for part in parts
            ]
            return [
                sender.restart(part)
                for sender, part in zip(senders, parts, strict=True)
            ], True
        return [
            sender.compress(part)
            for sender, part in zip(senders, parts, strict=True)
        ], False

    def room(self, parts: Sequence[np.ndarray]) -> Arrays:
        """Arrays for an answer that `decode` puts into `parts`."""
        if self.codec == "none":
            return list(parts)
        return [
            np.empty(
                codec.encoded_nbytes(self.codec, part.size, part.dtype),
                np.uint8,
            )
            for part in parts
        ]

    def decode(self, room: Sequence[Any], parts: Sequence[np.ndarray]) -> None:
        """Puts the answer that came into `room` into `parts`."""
        if self.codec == "none":
            return
        for part, data in zip(parts, room, strict=True):
            codec.decode(self.codec, data, part.dtype, part.size, out=part)

    def forget(self) -> None:
        """The next message has to be whole."""
        self._senders = None

    @property
    def error(self) -> float:
        """The largest relative error of the last message's sections."""
        senders = self._senders or ()
        return max((sender.relative_error for sender in senders), default=0.0)


class PointReceivers:
    """Takes the compressed points that workers send to one center server."""

    def __init__(self) -> None:
        self._receivers: dict[int, list[ReferenceReceiver]] = {}

    def receive(self, worker: int, values: Sequence[Any]) -> Arrays:
        """A worker's points, to read only.

        Args:
            worker: whose.
            values: one message for each section.

        Raises:
            LostReferenceError: it is not known what they are relative to.
        """
        receivers = self._receivers.get(worker)
        if receivers is None:
            raise errors.LostReferenceError(
                f"this center has not what worker {worker}'s compressed "
                "parameters are relative to"
            )
        return [
            receiver.receive(value)
            for receiver, value in zip(receivers, values, strict=True)
        ]

    def begin(self, worker: int, values: Arrays, name: str) -> None:
        """Takes points that came whole; the next are relative to them."""
        receivers = []
        for value in values:
            receiver = ReferenceReceiver(
                name, value.dtype, value.size
            )
            receiver.restart(value)
            receivers.append(receiver)
        self._receivers[worker] = receivers

    def forget(self, worker: int) -> None:
        """The next message of a worker has to be whole."""
        self._receivers.pop(worker, None)
