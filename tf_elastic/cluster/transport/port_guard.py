"""Bounds the connections to a port at which gRPC accepts them.

gRPC takes every connection, and waits for what comes. Which of them have made
a call with the cluster's token, the calls' handlers know; the others are
strangers, of which there are to be few, and not for long.
"""

import collections
import contextlib
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence

from tf_elastic.cluster.transport import open_files

STRANGER_S = 10.0
MOST_STRANGERS = 64

Peer = tuple[str, int]


class PortGuard:
    """Closes connections that nobody has let in, and those beyond a number.

    Args:
        port: of this process.
        most: connections at once that were let in; beyond them the one is
            closed that has been silent for longest, of the host that has the
            most of them.
        now: a clock, in seconds.
    """

    def __init__(
        self,
        port: int,
        most: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._port = port
        self._most = most
        self._now = now
        self._lock = threading.Lock()
        self._known: dict[Peer, float] = {}  # when each has called last
        self._strangers: dict[Peer, float] = {}  # since when; the oldest first

    def let_in(self, peer: str) -> None:
        """Notes a call with the right token.

        Args:
            peer: who calls, as gRPC says it.
        """
        found = parse_peer(peer)
        if found is not None:
            with self._lock:
                self._known[found] = self._now()

    def tick(self) -> None:
        """Looks at all connections; to be called every second or so."""
        begin = self._now()
        there = {
            (_plain(host), port)
            for host, port, _ in open_files.connections(self._port)
        }
        with self._lock:
            self._known = {
                peer: called
                for peer, called in self._known.items()
                if peer in there or called >= begin
            }
            by_age = sorted(self._known, key=self._known.__getitem__)
        strangers = there.difference(by_age)
        seen = {p: t for p, t in self._strangers.items() if p in strangers}
        new = dict.fromkeys(strangers.difference(seen), begin)
        self._strangers = {**seen, **new}
        to_close = {
            *_too_many(by_age, self._most),
            *_too_many(list(self._strangers), MOST_STRANGERS),
            *(p for p, since in seen.items() if since + STRANGER_S <= begin),
        }
        if to_close:
            self._close(to_close)

    def _close(self, peers: Collection[Peer]) -> None:
        for host, port, connected in open_files.connections(self._port):
            if (_plain(host), port) in peers:
                with contextlib.suppress(OSError):  # It has gone.
                    connected.shutdown(socket.SHUT_RDWR)


def _too_many(peers: Sequence[Peer], most: int) -> list[Peer]:
    """Those beyond a number: each the first of the host that has the most."""
    of_host: dict[str, collections.deque[Peer]] = {}
    for peer in peers:
        of_host.setdefault(peer[0], collections.deque()).append(peer)
    return [
        max(of_host.values(), key=len).popleft()
        for _ in range(len(peers) - most)
    ]


def parse_peer(peer: str) -> Peer | None:
    """The host and port of a peer as gRPC says it; None if it has none.

    Example:

    >>> parse_peer("ipv6:%5B::1%5D:5000")
    ('::1', 5000)
    """
    kind, _, rest = urllib.parse.unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdecimal():
        return None
    return _plain(host.strip("[]")), int(port)


def host_of(peer: str) -> str:
    """The host of a peer as gRPC says it, for counting."""
    found = parse_peer(peer)
    return found[0] if found else peer


def _plain(host: str) -> str:
    """An address as it is written without a zone, and as IPv4 if it is."""
    host = host.partition("%")[0]
    mapped = host.removeprefix("::ffff:")
    return mapped if "." in mapped else host
