"""A transport inside of one process: the node's own methods are called.

What comes is checked as if it had come from elsewhere, and no array is shared:
both ends may go on with theirs.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

from tf_elastic.cluster import errors
from tf_elastic.cluster.center.groups import Groups
from tf_elastic.cluster.center.node import Node
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.transport.array_socket import sizes_of
from tf_elastic.cluster.transport.calls import NO_SOCKET
from tf_elastic.cluster.transport.calls import Asked
from tf_elastic.cluster.transport.calls import Header
from tf_elastic.cluster.transport.calls import array_calls
from tf_elastic.cluster.transport.calls import control_calls

T = TypeVar("T")

# By name, of the header: the answer, or what `calls.Asked` says.
_Calls = dict[str, Callable[[Header], Any]]


class DirectServers:
    """The nodes of this process that can be called directly.

    To a client it is `Surroundings(connect=servers.connect)`.
    """

    def __init__(self) -> None:
        self._served: dict[str, _Calls] = {}

    def serve(self, address: str, nodes: Node | Groups) -> None:
        """From now on these are at an address, instead of any before.

        Args:
            address: any name.
            nodes: one, or those of several optimizers.
        """
        groups = Groups.of(nodes)
        self._served[address] = {
            **control_calls(groups, lambda: NO_SOCKET),
            **array_calls(groups),
        }

    def stop(self, address: str) -> None:
        """From now on nobody is there."""
        self._served.pop(address, None)

    def connect(
        self,
        address: str,
        shard: int = 0,
        security: Security | None = None,
        group: int = 0,
    ) -> "DirectLine":
        """A line to an address, where nobody need be as yet.

        Args:
            address: as of `serve`.
            shard: of no matter here.
            security: likewise; whoever is in the process is let in.
            group: see `Groups`.
        """
        del shard, security
        return DirectLine(self, address, group)

    def at(self, address: str) -> _Calls:
        """The calls of whoever is there.

        Raises:
            CenterUnavailableError: nobody is.
        """
        served = self._served.get(address)
        if served is None:
            raise errors.CenterUnavailableError(
                f"nobody in this process is {address!r}"
            )
        return served


class DirectLine:
    """A `Line` to a node of the same process.

    The caller's own thread does what is asked for, so there is nobody to be
    waited for: no deadline passes but in a call that says itself how long it
    waits.

    Args:
        servers: who is where.
        address: the node's.
        group: see `Groups`.
    """

    shares_memory = False

    def __init__(
        self, servers: DirectServers, address: str, group: int = 0
    ) -> None:
        self.address = address
        self.bytes_sent = 0
        self.bytes_received = 0
        self._servers = servers
        self._group = {wire.GROUP: group} if group else {}
        self._closed = False

    def call(
        self, name: str, timeout_s: float, **arguments: Any
    ) -> dict[str, Any]:
        """See `Line.call`."""
        del timeout_s
        header = {**arguments, **self._group}
        return _copied(self._asked(name, header, lambda answer: answer))

    def stream(
        self,
        name: str,
        timeout_s: float,
        header: dict[str, Any],
        sent: Sequence[Any],
        out: Sequence[Any] = (),
    ) -> dict[str, Any]:
        """See `Line.stream`."""
        del timeout_s

        def run(asked: Asked) -> Header:
            wire.receive(wire.chunks(sent), asked.room)
            return wire.receive_answer(asked.messages(asked.room), out)

        news = self._asked(name, {**header, **self._group}, run)
        self.bytes_sent += sum(sizes_of(sent))
        self.bytes_received += sum(sizes_of(wire.wanted(news, out)))
        return news

    def break_off(self) -> None:
        """From now on no call begins; one that is going on ends by itself."""
        self._closed = True

    close = break_off

    def _asked(self, name: str, header: Header, run: Callable[[Any], T]) -> T:
        """What comes of a call; what it raises is told as a server does."""
        if self._closed:
            raise errors.CenterUnavailableError(
                f"the line to {self.address!r} is closed"
            )
        call = self._servers.at(self.address)[name]
        try:
            return run(call(_copied(header)))
        except Exception as error:
            told = errors.as_told(error)
            if type(told).__name__ not in errors.TOLD:
                told = errors.CenterUnavailableError(f"a call failed: {told}")
            raise told from error


def _copied(header: Header) -> Header:
    """As it would be if it had travelled."""
    return wire.unpack(wire.pack(header))
