"""A worker's compressed points at both ends: what each message is relative to.

The worker's end is kept by its session with a center server, the server's by
the node, for each worker. See `codec` for what travels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_elastic.cluster import codec as codecs
from tf_elastic.cluster import errors

Arrays = list[np.ndarray]


class PointSender:
    """Compresses the points that one worker sends to one center server.

    Args:
        codec: one of `codec.CODECS`.
    """

    def __init__(self, codec: str) -> None:
        self.codec = codec
        self._senders: list[codecs.ReferenceSender] | None = None

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
                codecs.ReferenceSender(self.codec, part.dtype, part.size)
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
                codecs.encoded_nbytes(self.codec, part.size, part.dtype),
                np.uint8,
            )
            for part in parts
        ]

    def decode(self, room: Sequence[Any], parts: Sequence[np.ndarray]) -> None:
        """Puts the answer that came into `room` into `parts`."""
        if self.codec == "none":
            return
        for part, data in zip(parts, room, strict=True):
            codecs.decode(self.codec, data, part.dtype, part.size, out=part)

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
        self._receivers: dict[int, list[codecs.ReferenceReceiver]] = {}

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

    def begin(self, worker: int, values: Arrays, codec: str) -> None:
        """Takes points that came whole; the next are relative to them."""
        receivers = []
        for value in values:
            receiver = codecs.ReferenceReceiver(
                codec, value.dtype, value.size
            )
            receiver.restart(value)
            receivers.append(receiver)
        self._receivers[worker] = receivers

    def forget(self, worker: int) -> None:
        """The next message of a worker has to be whole."""
        self._receivers.pop(worker, None)
