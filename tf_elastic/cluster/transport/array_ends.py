"""The two ends of a socket for arrays: a worker's asks, a center's answers.

Between processes of one host arrays that lie in shared memory do not travel:
what does is where they are. It is always the worker's memory: the center reads
what it is sent, and writes its answer, where the worker has it.
"""

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_elastic.cluster import errors
from tf_elastic.cluster.transport import shared_memory
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.transport.array_socket import NBYTES
from tf_elastic.cluster.transport.array_socket import ArraySocket
from tf_elastic.cluster.transport.array_socket import sizes_of

# In a header, for each array: [key of a segment, offset, bytes], or null.
_SENT = "sent_at"
_OUT = "out_at"
# In an answer, for each array: whether it is where it was wanted.
_PUT = "put"
_MAX_SEGMENTS = 8  # of one connection; older ones are forgotten


class Caller:
    """The worker's end.

    Args:
        connected: to the center.
    """

    def __init__(self, connected: ArraySocket) -> None:
        self.socket = connected
        self._handed_over: set[int] = set()

    def ask(
        self,
        name: str,
        header: dict[str, Any],
        sent: Sequence[Any],
        out: Sequence[Any],
        deadline: float,
    ) -> dict[str, Any]:
        """Makes a call.

        Args:
            name: of the call.
            header: JSON.
            sent: arrays to send.
            out: those to fill with the answer's.
            deadline: when to give up.

        Returns:
            The center's "news"; or an "error" and its "text", and nothing is
            filled.

        Raises:
            MessageError: the answer is of another form.
            TimeoutError: the deadline is over.
            OSError: the center is gone.
        """
        with contextlib.ExitStack() as failed:
            # The center may be at it yet.
            failed.callback(shared_memory.spoil, [*sent, *out])
            asked: dict[str, Any] = {
                "call": name,
                "header": header,
                "timeout_s": deadline - time.monotonic(),
                NBYTES: sizes_of(sent),
            }
            travelling = sent
            if self.socket.is_local:
                asked[_SENT] = [self._place(array, deadline) for array in sent]
                asked[_OUT] = [self._place(array, deadline) for array in out]
                travelling = _without(sent, asked[_SENT])
            self.socket.send(asked, travelling, deadline)
            told = self._told(out, deadline)
            if told.get("news", {}).get(wire.FOLLOWED):
                second = self._told(out, deadline)
                if "error" not in second:
                    both = wire.joined(told["news"], second["news"])
                    second = {**second, "news": both}
                told = second
            failed.pop_all()
        return told

    def _told(self, out: Sequence[Any], deadline: float) -> dict[str, Any]:
        """One message of an answer."""
        told = self.socket.receive_header(deadline)
        filled = []
        if "error" not in told:
            filled = list(wire.wanted(told["news"], out))
        if sizes_of(filled) != told[NBYTES]:
            raise errors.MessageError(
                f"{told[NBYTES]} bytes came, where {sizes_of(filled)} were "
                "expected."
            )
        if _PUT in told:
            filled = _without(filled, told[_PUT])
        self.socket.receive(filled, deadline)
        return told

    def _place(self, array: Any, deadline: float) -> list[int] | None:
        place = shared_memory.place_of(array)
        if place is None:
            return None
        segment, offset = place
        if segment.key not in self._handed_over:
            self.socket.send_memory(segment.key, segment.descriptor, deadline)
            self._handed_over.add(segment.key)
        return [segment.key, offset, array.nbytes]


class Guest:
    """The center's end.

    Args:
        connected: to a worker, or to who says he is one.
    """

    def __init__(self, connected: ArraySocket) -> None:
        self.socket = connected
        # The bytes where the answer's arrays are wanted, if there are any.
        self.places: list[np.ndarray | None] = []
        self._segments: dict[int, np.ndarray] = {}
        self._sent: list[np.ndarray | None] = []

    def receive_call(self, deadline: float) -> dict[str, Any]:
        """Receives a call's header.

        Raises:
            MessageError: it is none.
            TimeoutError: the deadline is over.
            OSError: the worker is gone.
        """
        header = self.socket.receive_header(
            deadline, wire.MAX_CALL_BYTES, self._take
        )
        sizes = header[NBYTES]
        self._sent = self._views(header.pop(_SENT, [None] * len(sizes)))
        self.places = self._views(header.pop(_OUT, []))
        for view in self._sent:
            if view is not None:
                view.flags.writeable = False
        found = [
            size if view is None else view.size
            for size, view in zip(sizes, self._sent, strict=False)
        ]
        if found != sizes or len(self._sent) != len(sizes):
            raise errors.MessageError("A header does not say what is where.")
        return header

    def _take(self, key: int, descriptor: int) -> None:
        self._segments[key] = shared_memory.opened(descriptor)
        while len(self._segments) > _MAX_SEGMENTS:
            del self._segments[next(iter(self._segments))]

    def _views(self, places: Any) -> list[np.ndarray | None]:
        """The bytes at places, where there are any.

        Raises:
            MessageError: there is no such place.
        """
        if not isinstance(places, list):
            raise errors.MessageError("A header does not say what is where.")
        return [None if at is None else self._view(at) for at in places]

    def _view(self, at: Any) -> np.ndarray:
        try:
            key, offset, nbytes = at
            memory = self._segments[key]
            if 0 <= offset <= offset + nbytes <= memory.size:
                return memory[offset : offset + nbytes]
        except (KeyError, TypeError, ValueError):
            pass
        raise errors.MessageError(
            f"Received: {at!r:.80}, where there is no shared memory."
        )

    def receive(
        self, room: Sequence[np.ndarray], only_reads: bool, deadline: float
    ) -> list[np.ndarray]:
        """Receives what was announced.

        Args:
            room: the arrays to fill.
            only_reads: whether they may as well be where the worker has them,
                read-only; until the answer is sent.
            deadline: when to give up.

        Returns:
            The arrays.
        """
        arrays = []
        for array, view in zip(room, self._sent, strict=True):
            if view is None:
                self.socket.receive([array], deadline)
            elif only_reads:
                array = view.view(array.dtype)
            else:
                np.copyto(array.view(np.uint8), view)
            arrays.append(array)
        return arrays

    def skip(self, sizes: Sequence[int], deadline: float) -> None:
        """Receives what was announced, and nobody wants."""
        self.socket.skip(sum(_without(sizes, self._sent)), deadline)

    def answer(
        self, told: dict[str, Any], arrays: Sequence[Any], deadline: float
    ) -> None:
        """Answers; puts where they are wanted what can be put there."""
        views = list(map(wire.as_bytes, arrays))
        frame = {**told, NBYTES: list(map(len, views))}
        if self.places and len(self.places) == len(views):
            pairs = zip(views, self.places, strict=True)
            frame[_PUT] = [_put(view, place) for view, place in pairs]
            views = _without(views, frame[_PUT])
        self.socket.send(frame, views, deadline)


def _without(values: Sequence[Any], there: Sequence[Any]) -> list[Any]:
    """Those values that are not there yet."""
    pairs = zip(values, there, strict=True)
    return [value for value, at in pairs if at is None or at is False]


def _put(view: memoryview, place: np.ndarray | None) -> bool:
    """Copies an answer to where it is wanted, unless it is there."""
    if place is None or place.size != len(view):
        return False
    source = np.frombuffer(view, np.uint8)
    if source.ctypes.data != place.ctypes.data:
        np.copyto(place, source)
    return True
