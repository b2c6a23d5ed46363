"""A shard of the center behind gRPC.

gRPC is what TensorFlow's own servers speak. Theirs listen on all interfaces,
ask nobody for a name, and run any graph they are sent; this one listens where
it is told, asks for a token, can speak TLS, and knows a dozen calls.
"""

import hmac
import threading
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from concurrent import futures
from typing import Any

import grpc

from tf_elastic.cluster import addresses
from tf_elastic.cluster import errors
from tf_elastic.cluster import wire
from tf_elastic.cluster.array_calls import ArrayCall
from tf_elastic.cluster.array_calls import array_calls
from tf_elastic.cluster.array_server import ArrayServer
from tf_elastic.cluster.configuration import Security
from tf_elastic.cluster.shard import Shard

_TICK_S = 1.0
_MAX_CALLS = 256  # at once; whoever waits at a barrier holds one


class CenterServer:
    """Serves one shard until it is stopped.

    Args:
        shard: what to serve.
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
        shard: Shard,
        address: str,
        security: Security,
        array_port: int | None = 0,
        shares_memory: bool = True,
    ) -> None:
        addresses.check_not_public(address, security)
        self.shard = shard
        self.address = address
        self._token = (security.token or "").encode()
        calls = array_calls(shard)
        self._arrays: ArrayServer | None = None
        self._server = grpc.server(
            futures.ThreadPoolExecutor(
                _MAX_CALLS, thread_name_prefix="center"
            ),
            handlers=[_Handlers(shard, calls, self._invite, self._token)],
            options=[
                *wire.GRPC_OPTIONS,
                # Or two servers would share a port, each with half the calls.
                ("grpc.so_reuseport", 0),
                # Of the workers, which ask every 10 s; see `connection`.
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.http2.max_ping_strikes", 0),
            ],
        )
        try:
            credentials = _credentials(security)
            if credentials:
                self._server.add_secure_port(address, credentials)
            else:
                self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(
                f"Center {shard.index} cannot listen on {address}: the port "
                "is in use, or the address is not one of this machine. Choose "
                "another one in the cluster's job ps."
            ) from error
        if array_port is not None:
            host, _ = addresses.split(address)
            try:
                self._arrays = ArrayServer(
                    calls, host, array_port, security, shares_memory
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
        if self._arrays is None:
            return {"port": None, "local_name": None, "ticket": ""}
        return self._arrays.invite()

    def _tick(self) -> None:
        # A longer pause than a third of a lease counts as a stop.
        interval_s = min(_TICK_S, self.shard.ledger.lease_s / 10)
        while not self._stopped.wait(interval_s):
            self.shard.tick()


def _credentials(security: Security) -> grpc.ServerCredentials | None:
    if not security.certificate:
        return None
    return grpc.ssl_server_credentials(
        [(_contents(security.key), _contents(security.certificate))],
        root_certificates=(
            _contents(security.authority) if security.authority else None
        ),
        require_client_auth=bool(security.authority),
    )


def _contents(path: str | None) -> bytes:
    with open(path or "", "rb") as file:
        return file.read()


class _Handlers(grpc.GenericRpcHandler):
    """The calls that a shard answers."""

    def __init__(
        self,
        shard: Shard,
        calls: Mapping[str, ArrayCall],
        invite: Callable[[], dict[str, Any]],
        token: bytes,
    ) -> None:
        self._shard = shard
        self._token = token
        self._unary: dict[str, Callable[..., dict[str, Any]]] = {
            wire.HELLO: shard.hello,
            wire.JOIN: shard.join,
            wire.OFFER: shard.offer,
            wire.HEARTBEAT: shard.heartbeat,
            wire.LEAVE: shard.leave,
            wire.RELEASE: shard.release,
            wire.STATUS: shard.status,
            wire.INVITE: invite,
        }
        self._streams = calls

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        service, _, name = details.method.lstrip("/").partition("/")
        if service != wire.SERVICE:
            return None
        if name in self._unary:
            return grpc.unary_unary_rpc_method_handler(
                self._guarded(self._call(self._unary[name]))
            )
        if name in self._streams:
            return grpc.stream_stream_rpc_method_handler(
                self._guarded_stream(self._streams[name])
            )
        return None

    # Who may call, and how errors are told.

    def _check_token(self, context: grpc.ServicerContext) -> None:
        given = dict(context.invocation_metadata()).get(wire.TOKEN_KEY, "")
        if not hmac.compare_digest(_as_bytes(given), self._token):
            context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                f"Center {self._shard.index} asks for the token of its "
                "cluster. Give all processes the same TF_ELASTIC_TOKEN",
            )

    def _guarded(self, call: Callable[..., bytes]) -> Callable[..., bytes]:
        def guarded(message: bytes, context: grpc.ServicerContext) -> bytes:
            self._check_token(context)
            try:
                return call(message)
            except Exception as error:
                _tell(error, context)
                raise

        return guarded

    def _guarded_stream(
        self, call: ArrayCall
    ) -> Callable[..., Iterator[bytes]]:
        def guarded(
            messages: Iterator[bytes], context: grpc.ServicerContext
        ) -> Iterator[bytes]:
            self._check_token(context)
            try:
                header = wire.unpack(next(messages, b"{}"))
                arrays = call.room(header)
                wire.receive(messages, arrays)
                news, answer = call.run(header, arrays, [])
                yield wire.pack(news)
                yield from wire.chunks(answer)
            except Exception as error:
                _tell(errors.as_told(error), context)
                raise

        return guarded

    @staticmethod
    def _call(method: Callable[..., dict[str, Any]]) -> Callable:
        def call(message: bytes) -> bytes:
            arguments = wire.unpack(message)
            try:
                return wire.pack(method(**arguments))
            except TypeError as error:
                raise errors.MessageError(
                    f"{method.__name__} does not take these arguments: "
                    f"{error}"
                ) from error

        return call


def _as_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _tell(error: Exception, context: grpc.ServicerContext) -> None:
    """Ends the call with the error's name and text, if it is one of ours."""
    name = type(error).__name__
    if name in errors.TOLD:
        context.abort(grpc.StatusCode.ABORTED, f"{name}: {error}")
