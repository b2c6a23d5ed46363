"""The calls that carry arrays, whatever carries them.

Each is a room for what comes and what is done with it, so that a transport
knows no rule and a rule no transport.
"""

from collections.abc import Callable
from collections.abc import Hashable
from typing import Any
from typing import NamedTuple

import numpy as np

from tf_elastic.cluster import errors
from tf_elastic.cluster.center.groups import Groups
from tf_elastic.cluster.center.node import Node
from tf_elastic.cluster.center.registration import PushId
from tf_elastic.cluster.layout import np_dtype
from tf_elastic.cluster.transport import codec as codecs
from tf_elastic.cluster.transport import schema
from tf_elastic.cluster.transport import wire

# What is expected of the slowest network.
_CALL_S = 120.0
_BYTES_PER_S = 100_000

Header = dict[str, Any]
Arrays = list[np.ndarray]
Places = list[np.ndarray | None]
Answer = tuple[Header, Arrays]


class ArrayCall(NamedTuple):
    """A call whose header is followed by arrays, there and back."""

    # The arrays to fill with what follows the header. They are the call's:
    # it may keep them, or answer with them.
    room: Callable[[Header], Arrays]
    # Of the header, the arrays, and the bytes where each array of the answer
    # is wanted, as far as there is such a place: the answer's header and
    # arrays. It may put them there, or leave that to others.
    run: Callable[[Header, Arrays, Places], Answer]
    # Whether all it does with the arrays is to read them, before it returns.
    only_reads: Callable[[Header], bool] = lambda header: False
    # Comes first: the header as it may be, or an error.
    checked: Callable[[Header], Header] = lambda header: header


def array_calls(groups: Groups) -> dict[str, ArrayCall]:
    """The array calls of a server, by the names in `wire.STREAMS`."""

    def node_of(header: Header) -> Node:
        return groups[header.get(wire.GROUP, 0)]

    def nothing(header: Header) -> Arrays:
        del header
        return []

    def whole(header: Header) -> Arrays:
        return _room(node_of(header), "none")

    def encoded(header: Header) -> Arrays:
        codec = "none" if header["whole"] else header["codec"]
        return _room(node_of(header), codec)

    def is_plain(header: Header) -> bool:
        return bool(header["codec"] == "none")

    def checked(name: str) -> Callable[[Header], Header]:
        def check(header: Header) -> Header:
            header = schema.checked(name, header)
            worker, incarnation = sender(header)
            if worker is not None:  # Before there is room for what it sends.
                node_of(header).registry.check(worker, incarnation)
            return header

        return check

    def read(header: Header, _: Arrays, places: Places) -> Answer:
        node = node_of(header)
        out = _as_sections(node, places)
        return node.exchanges.read(**without_group(header), out=out)

    def initialize(header: Header, arrays: Arrays, _: Places) -> Answer:
        arguments = without_group(header)
        return node_of(header).initialize(values=arrays, **arguments), []

    def push(header: Header, arrays: Arrays, _: Places) -> Answer:
        return node_of(header).exchanges.push(*_push_of(header, arrays)), []

    def exchange(header: Header, arrays: Arrays, places: Places) -> Answer:
        node, out = node_of(header), None
        if is_plain(header):
            out = _as_sections(node, places) or [
                array if array.flags.writeable else np.empty_like(array)
                for array in arrays
            ]
        return node.exchanges.exchange(
            *_push_of(header, arrays), header["codec"], header["whole"], out
        )

    def deposit(header: Header, arrays: Arrays, _: Places) -> Answer:
        return node_of(header).exchanges.deposit(*_push_of(header, arrays))

    def take(header: Header, arrays: Arrays, _: Places) -> Answer:
        return node_of(header).exchanges.take(*_push_of(header, arrays))

    def send(header: Header, arrays: Arrays, _: Places) -> Answer:
        arguments = without_group(header)
        return node_of(header).one_way.send(values=arrays, **arguments), []

    def listen(header: Header, _: Arrays, places: Places) -> Answer:
        del places  # What goes to all children is nobody's to write in.
        return node_of(header).one_way.listen(**without_group(header))

    calls = {
        wire.READ: ArrayCall(nothing, read),
        wire.INITIALIZE: ArrayCall(whole, initialize),
        wire.PUSH: ArrayCall(whole, push, lambda header: True),
        wire.EXCHANGE: ArrayCall(encoded, exchange, is_plain),
        wire.DEPOSIT: ArrayCall(whole, deposit),
        wire.TAKE: ArrayCall(whole, take),
        wire.SEND: ArrayCall(whole, send),
        wire.LISTEN: ArrayCall(nothing, listen),
    }
    return {
        name: call._replace(checked=checked(name))
        for name, call in calls.items()
    }


def without_group(header: Header) -> Header:
    """The arguments of a call, once it is known whose they are."""
    return {k: value for k, value in header.items() if k != wire.GROUP}


def whose_call(header: Header, connection: Hashable) -> Hashable:
    """Whose call it is: the worker's, or the connection's of who but looks."""
    worker, _ = sender(header)
    if worker is None:
        return connection
    return worker, header.get(wire.GROUP, 0)


def seconds_of_call(arrays: Arrays) -> float:
    """How long a call may take that goes both ways, however patient."""
    nbytes = sum(array.nbytes for array in arrays)
    return _CALL_S + 2 * nbytes / _BYTES_PER_S


def sender(header: Header) -> tuple[int | None, int]:
    """The worker that has sent a header, and its incarnation; or None."""
    found = header.get("id", header)
    return found.get("worker"), found.get("incarnation", 0)


def _push_of(
    header: Header, arrays: Arrays
) -> tuple[PushId, Arrays, dict[str, Any]]:
    return PushId(**header["id"]), arrays, header["rate"]


def _as_sections(node: Node, places: Places) -> Arrays | None:
    """The places of all sections as arrays of them; None if one is missing."""
    layout = node.layout
    if layout is None or len(places) != len(layout.sections):
        return None
    arrays = []
    sizes = layout.shard_sizes(node.index)
    for section, size, place in zip(
        layout.sections, sizes, places, strict=True
    ):
        dtype = np_dtype(section.dtype)
        if place is None or place.size != size * dtype.itemsize:
            return None
        arrays.append(place.view(dtype))
    return arrays


def _room(node: Node, codec: str) -> Arrays:
    layout = node.layout
    if layout is None:
        raise errors.CenterEmptyError(
            f"center {node.index} holds no parameters yet"
        )
    sizes = layout.shard_sizes(node.index)
    dtypes = [np_dtype(section.dtype) for section in layout.sections]
    if codec == "none":
        return [np.empty(*pair) for pair in zip(sizes, dtypes, strict=True)]
    return [
        np.empty(codecs.encoded_nbytes(codec, size, dtype), np.uint8)
        for size, dtype in zip(sizes, dtypes, strict=True)
    ]
