"""The calls of a center server, whatever carries them.

One of one message each way is a function of its header. One with arrays is a
room for what comes and what is done with it, so that a transport knows no rule
and a rule no transport.
"""

import contextlib
import functools
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterator
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
from tf_elastic.cluster.transport.waiting_room import WaitingRoom

# What is expected of the slowest network.
_CALL_S = 120.0
_BYTES_PER_S = 100_000

Header = dict[str, Any]
NO_SOCKET: Header = {"port": None, "local_name": None, "ticket": ""}
Arrays = list[np.ndarray]
Places = list[np.ndarray | None]
Answer = tuple[Header, Arrays]
# Of the header as it came: the answer.
ControlCall = Callable[[Header], Header]


class Asked(NamedTuple):
    """A call with arrays, there and back, whose header has come."""

    # The arrays to fill with what follows the header. They are the call's:
    # it may keep them, or answer with them.
    room: Arrays
    # Of the arrays, and the bytes where each array of the answer is wanted, as
    # far as there is such a place: the answer's header and arrays. It may put
    # them there, or leave that to others.
    run: Callable[[Arrays, Places], Answer]
    # Whether all it does with the arrays is to read them, before it returns.
    only_reads: bool = False
    whose: Hashable = None  # a worker's; None for one who but looks
    # Of an answer that is `wire.FOLLOWED`: the second one. It may wait.
    second: Callable[[Header], Answer] | None = None

    def answers(self, arrays: Arrays, places: Places) -> Iterator[Answer]:
        """What `run` gives, and the second answer if there is one."""
        news, answer = self.run(arrays, places)
        yield news, answer
        if self.second is not None and news.get(wire.FOLLOWED):
            for done in (self.room, arrays, answer):
                done.clear()  # While it waits the memory is free.
            yield self.second(news)

    def messages(self, arrays: Arrays) -> Iterator[bytes]:
        """The answers as they travel, for `wire.receive_answer`."""
        for news, answer in self.answers(arrays, []):
            yield wire.pack(news)
            yield from wire.chunks(answer)

    def among(
        self,
        others: WaitingRoom,
        connection: Hashable,
        end: Callable[[], None],
    ) -> contextlib.AbstractContextManager[None]:
        """Notes the call among others, inside the block.

        Args:
            others: that go on at once.
            connection: whose it is if it is no worker's.
            end: ends it; see `WaitingRoom.visit`.
        """
        nbytes = sum(array.nbytes for array in self.room)
        seconds = _CALL_S + 2 * nbytes / _BYTES_PER_S
        return others.visit(self.whose or connection, end, seconds)


# Of the header as it came: the call as it may be, or an error.
ArrayCall = Callable[[Header], Asked]


def control_calls(
    groups: Groups, invite: Callable[[], Header]
) -> dict[str, ControlCall]:
    """The calls of one message each way, by the names in `wire.UNARY`.

    Args:
        groups: the server's nodes.
        invite: what is answered to who asks for a socket for arrays;
            `NO_SOCKET` if there is none.
    """

    def answer(name: str, header: Header) -> Header:
        header = schema.checked(name, header)
        node = groups[header.pop(wire.GROUP, 0)]
        methods: dict[str, Callable[..., Header]] = {
            wire.HELLO: node.hello,
            wire.JOIN: node.join,
            wire.OFFER: node.offer,
            wire.HEARTBEAT: node.heartbeat,
            wire.LEAVE: node.leave,
            wire.RELEASE: node.exchanges.release,
            wire.STATUS: node.status,
            wire.INVITE: invite,
            wire.INSTRUCT: node.instruct,
        }
        return methods[name](**header)

    return {name: functools.partial(answer, name) for name in wire.UNARY}


def array_calls(groups: Groups) -> dict[str, ArrayCall]:
    """The array calls of a server, by the names in `wire.STREAMS`."""

    def ask(name: str, header: Header) -> Asked:
        header = schema.checked(name, header)
        group = header.pop(wire.GROUP, 0)
        node = groups[group]
        sender = header.get("id", header)
        worker, whose = sender.get("worker"), None
        if worker is not None:  # Before there is room for what it sends.
            node.registry.check(worker, sender.get("incarnation", 0))
            whose = worker, group
        codec = "none" if header.get("whole", True) else header["codec"]
        nothing = name in (wire.READ, wire.LISTEN)
        return Asked(
            [] if nothing else _room(node, codec),
            functools.partial(_run, name, node, header),
            name == wire.PUSH or header.get("codec") == "none",
            whose,
            functools.partial(_round_ended, node, header),
        )

    return {name: functools.partial(ask, name) for name in wire.STREAMS}


def _run(
    name: str, node: Node, header: Header, arrays: Arrays, places: Places
) -> Answer:
    """What is done with a call's arrays; see `Asked.run`."""
    exchanges = node.exchanges
    match name:
        case wire.READ:
            return exchanges.read(**header, out=_wanted(node, places))
        case wire.LISTEN:  # What goes to all is nobody's to write in.
            return node.one_way.listen(**header)
        case wire.SEND:
            return node.one_way.send(values=arrays, **header), []
        case wire.INITIALIZE:
            return node.initialize(values=arrays, **header), []
    push_id, rates = PushId(**header["id"]), header["rate"]
    match name:
        case wire.PUSH:
            return exchanges.push(push_id, arrays, rates), []
        case wire.DEPOSIT:
            news, answer = exchanges.deposit(push_id, arrays, rates)
            goes_on = news["round"] == news["entered"]
            waits = goes_on and header.get("wait_s", 0) > 0
            return _or_empty({**news, wire.FOLLOWED: waits}, answer)
        case wire.TAKE:
            return exchanges.take(push_id, arrays, rates)
    codec, whole = header["codec"], header["whole"]
    out = None
    if codec == "none":
        out = _wanted(node, places) or [
            a if a.flags.writeable else np.empty_like(a) for a in arrays
        ]
    return exchanges.exchange(push_id, arrays, rates, codec, whole, out)


def _round_ended(node: Node, header: Header, entered: Header) -> Answer:
    """The second answer to a deposit, when its round has ended or is late."""
    id_ = header["id"]
    return _or_empty(
        *node.exchanges.ended(
            id_["worker"],
            id_["incarnation"],
            entered["entered"],
            header["wait_s"],
        )
    )


def _or_empty(news: Header, answer: Arrays) -> Answer:
    return {**news, wire.EMPTY: not answer}, answer


def _wanted(node: Node, places: Places) -> Arrays | None:
    """Where all of an answer is wanted; None if there is no place for it."""
    shapes = _shapes(node)
    fitting = [
        place.view(dtype)
        for place, (size, dtype) in zip(places, shapes, strict=False)
        if place is not None and place.nbytes == size * dtype.itemsize
    ]
    return fitting if len(fitting) == len(shapes) else None


def _room(node: Node, codec: str) -> Arrays:
    return [codecs.room(codec, *shape) for shape in _shapes(node)]


def _shapes(node: Node) -> list[tuple[int, np.dtype]]:
    """The size and dtype of what a server holds of each section."""
    layout = node.state.layout
    if layout is None:
        raise errors.CenterEmptyError(
            f"center {node.index} holds no parameters yet"
        )
    sizes = layout.shard_sizes(node.index)
    return [
        (size, np_dtype(section.dtype))
        for section, size in zip(layout.sections, sizes, strict=True)
    ]
