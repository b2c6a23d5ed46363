"""The nodes of a center server behind gRPC.

gRPC is what TensorFlow's own servers speak. Theirs listen on all interfaces,
ask nobody for a name, and run any graph they are sent; this one listens where
it is told, asks for a token, can speak TLS, and knows a dozen calls.
"""

import functools
import hmac
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from concurrent import futures
from typing import Any

import grpc
from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster.center.groups import Groups
from tf_elastic.cluster.center.node import Node
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.transport import addresses
from tf_elastic.cluster.transport import open_files
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.transport.array_server import ArrayServer
from tf_elastic.cluster.transport.calls import NO_SOCKET
from tf_elastic.cluster.transport.calls import ArrayCall
from tf_elastic.cluster.transport.calls import ControlCall
from tf_elastic.cluster.transport.calls import array_calls
from tf_elastic.cluster.transport.calls import control_calls
from tf_elastic.cluster.transport.port_guard import PortGuard
from tf_elastic.cluster.transport.port_guard import host_of
from tf_elastic.cluster.transport.waiting_room import WaitingRoom

_TICK_S = 1.0
# Calls at once, for each worker and beside: whoever waits at a barrier holds
# one.
_OTHER_CALLS = 64
_CALLS_OF_ONE = 4  # with arrays, of a worker or of a connection
_MAX_STREAMS = 32  # of a connection
_MAX_HALF = 64  # first messages that have begun, or are yet to begin
_MESSAGE_S = 10.0
_MAX_CONNECTIONS = 4096
_MAX_LETTERS = 2000  # of an error


class CenterServer:
    """Serves until it is stopped.

    Args:
        nodes: what to serve; of one, it and its empty twins for further
            optimizers.
        address: "host:port" to listen on.
        security: token and certificates.
        array_port: the port of the same host for the calls with arrays; 0
            for any that is free, None to have them go by gRPC too.
        shares_memory: whether processes of this host need not send arrays,
            but let this one into their memory.

    Raises:
        OSError: the address is taken, or not one of this machine.
        PublicAddressError: anybody could reach it.
    """

    def __init__(
        self,
        nodes: Node | Groups,
        address: str,
        security: Security,
        array_port: int | None = 0,
        shares_memory: bool = True,
    ) -> None:
        addresses.check_not_public(address, security)
        self.groups = Groups.of(nodes)
        self.node = node = self.groups.first
        _warn_if_open(node.index, address, security)
        self._token = (security.token or "").encode()
        max_workers = node.registry.max_workers
        most_calls = max_workers + _OTHER_CALLS
        most_connections = min(
            open_files.for_connections() // 2, _MAX_CONNECTIONS
        )
        _, port = addresses.split(address)
        self._guard = PortGuard(
            port, min(2 * max_workers + _OTHER_CALLS, most_connections // 2)
        )
        self._half = WaitingRoom(_MAX_HALF)
        # Those with arrays leave threads for the others.
        self._large = WaitingRoom(most_calls - _OTHER_CALLS // 2, _CALLS_OF_ONE)
        calls = array_calls(self.groups)
        self._arrays: ArrayServer | None = None
        self._server = grpc.server(
            futures.ThreadPoolExecutor(most_calls, thread_name_prefix="center"),
            handlers=[
                _Handlers(
                    node.index,
                    control_calls(self.groups, self._invite),
                    calls,
                    self._token,
                    self._guard.let_in,
                    self._half,
                    self._large,
                )
            ],
            options=[
                *wire.GRPC_OPTIONS,
                # Or two servers would share a port, each with half the calls.
                ("grpc.so_reuseport", 0),
                # Of the workers, which ask every 10 s; see `connection`.
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.http2.max_ping_strikes", 0),
                # Whoever is there holds little, and not for long.
                ("grpc.max_concurrent_streams", _MAX_STREAMS),
                ("grpc.max_allowed_incoming_connections", most_connections),
                ("grpc.server_handshake_timeout_ms", 10_000),
                ("grpc.max_connection_idle_ms", 300_000),
            ],
            maximum_concurrent_rpcs=most_calls,
        )
        try:
            if security.certificate:
                authority, *pair = security.contents()
                credentials = grpc.ssl_server_credentials(
                    [pair], authority, require_client_auth=bool(authority)
                )
                self._server.add_secure_port(address, credentials)
            else:
                self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(
                f"Center {node.index} cannot listen on {address}: the port "
                "is in use, or the address is not one of this machine. Choose "
                "another one in the cluster's job ps."
            ) from error
        if array_port is not None:
            host, _ = addresses.split(address)
            try:
                self._arrays = ArrayServer(
                    calls,
                    host,
                    array_port,
                    security,
                    shares_memory,
                    2 * max_workers,
                )
            except BaseException:
                self._server.stop(None)
                raise
        self._stopped = threading.Event()
        self._ticker = threading.Thread(
            target=self._tick, name="center-leases", daemon=True
        )

    def start(self) -> None:
        """Begins to serve."""
        if self._arrays:
            self._arrays.start()
        self._server.start()
        self._ticker.start()

    def stop(self, grace_s: float = 1.0) -> None:
        """Ends what is going on, within `grace_s` seconds."""
        self._stopped.set()
        stopping = self._server.stop(grace_s)
        if self._arrays:
            self._arrays.stop(grace_s)
        stopping.wait(2 * grace_s + 1)

    def is_alive(self) -> bool:
        """Whether the threads of this server live."""
        return self._ticker.is_alive() and (
            self._arrays is None or self._arrays.is_alive()
        )

    @property
    def array_port(self) -> int | None:
        """Where it listens for calls with arrays, if it does."""
        return self._arrays.port if self._arrays else None

    def _invite(self) -> dict[str, Any]:
        return self._arrays.invite() if self._arrays else NO_SOCKET

    def _tick(self) -> None:
        # A longer pause than a third of a lease counts as a stop.
        interval_s = min(_TICK_S, self.node.registry.lease_s / 10)
        while not self._stopped.wait(interval_s):
            for tick in (
                *(node.tick for node in self.groups),
                self._guard.tick,
                self._half.tick,
                self._large.tick,
            ):
                try:
                    tick()
                except Exception:
                    # The next one may do; without it no lease would end.
                    logging.exception("center %d:", self.node.index)


def _warn_if_open(index: int, address: str, security: Security) -> None:
    """Says so where a network, and not only this machine, may come in."""
    if security.token or security.trusted_network:
        return
    if addresses.classify(addresses.split(address)[0]) == "loopback":
        return
    logging.warning(
        "CENTER %d IS OPEN TO ITS NETWORK: it serves at %s without a token. "
        "Whoever can connect there can read and overwrite the parameters. Set "
        "TF_ELASTIC_TOKEN for all processes (`openssl rand -hex 32`), or, if "
        "nobody else can connect, --trusted_network or "
        "TF_ELASTIC_TRUSTED_NETWORK=1.",
        index,
        address,
    )


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The calls that a server answers.

    To gRPC all are streams, even those of one message each way: it would let
    a thread wait for the message, however long, before anybody is asked.
    """

    def __init__(
        self,
        index: int,
        controls: Mapping[str, ControlCall],
        calls: Mapping[str, ArrayCall],
        token: bytes,
        let_in: Callable[[str], None],
        half: WaitingRoom,
        large: WaitingRoom,
    ) -> None:
        self._index = index
        self._token = token
        self._let_in = let_in
        self._half = half
        self._large = large
        self._controls = controls
        self._streams = calls

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        service, _, name = details.method.lstrip("/").partition("/")
        is_known = name in self._controls or name in self._streams
        if service != wire.SERVICE or not is_known:
            return None
        answer: Callable[..., Any] = self._refuse
        if self._has_token(details.invocation_metadata):
            answer = functools.partial(self._serve, name)
        return grpc.stream_stream_rpc_method_handler(answer)

    # Who may call, and how errors are told.

    def _has_token(self, metadata: Iterable[tuple[str, str | bytes]]) -> bool:
        given = dict(metadata or ()).get(wire.TOKEN_KEY, "")
        return hmac.compare_digest(_as_bytes(given), self._token)

    def _refuse(
        self, messages: Iterator[bytes], context: grpc.ServicerContext
    ) -> None:
        del messages
        context.abort(
            grpc.StatusCode.UNAUTHENTICATED,
            f"Center {self._index} asks for the token of its "
            "cluster. Give all processes the same TF_ELASTIC_TOKEN",
        )

    def _serve(
        self,
        name: str,
        messages: Iterator[bytes],
        context: grpc.ServicerContext,
    ) -> Iterator[bytes]:
        self._let_in(context.peer())
        try:
            yield from self._answer(name, messages, context)
        except grpc.RpcError:
            raise  # The caller has gone, or was too slow.
        except Exception as error:
            told = errors.as_told(error)
            context.abort(
                grpc.StatusCode.ABORTED,
                f"{type(told).__name__}: {told}"[:_MAX_LETTERS],
            )

    def _answer(
        self,
        name: str,
        messages: Iterator[bytes],
        context: grpc.ServicerContext,
    ) -> Iterator[bytes]:
        is_join = name == wire.JOIN
        most = wire.MAX_HEADER_BYTES if is_join else wire.MAX_CALL_BYTES
        host = host_of(context.peer())
        with self._half.visit(host, context.cancel, _MESSAGE_S):
            message = next(messages, b"")
        header = wire.unpack(message, most)
        if name in self._controls:
            yield wire.pack(self._controls[name](header))
            return
        asked = self._streams[name](header)
        with asked.among(self._large, context.peer(), context.cancel):
            wire.receive(messages, asked.room)
            yield from asked.messages(asked.room)


def _as_bytes(value: str | bytes) -> bytes:
    return value.encode(errors="replace") if isinstance(value, str) else value
