"""One worker's line to one center server. Every call has a deadline.

Arrays go by sockets of their own, see `array_channel`, or else by gRPC.
"""

import itertools
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import grpc

from tf_elastic.cluster import errors
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.transport.array_channel import ArrayChannel
from tf_elastic.cluster.transport.array_socket import sizes_of

_AWAY = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)
_OPTIONS = (
    *wire.GRPC_OPTIONS,
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
    # A host that has vanished does not say so.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


class Connection:
    """A `Line` over the network.

    Args:
        address: "host:port".
        shard: its index, for messages.
        security: token and certificates.
        group: which optimizer's center is meant, from 0.
    """

    def __init__(
        self, address: str, shard: int, security: Security, group: int = 0
    ) -> None:
        # To a server of one optimizer nothing is said.
        self._group = {wire.GROUP: group} if group else {}
        self.address = address
        self.shard = shard
        self._where = f"center {shard} ({address})"
        self.bytes_sent = 0
        self.bytes_received = 0
        self._metadata = ((wire.TOKEN_KEY, security.token or ""),)
        if security.certificate or security.authority:
            credentials = grpc.ssl_channel_credentials(*security.contents())
            self._channel = grpc.secure_channel(address, credentials, _OPTIONS)
        else:
            self._channel = grpc.insecure_channel(address, _OPTIONS)
        self._calls: dict[str, Callable[..., Any]] = {
            name: make(f"/{wire.SERVICE}/{name}")
            for names, make in (
                (wire.UNARY, self._channel.unary_unary),
                (wire.STREAMS, self._channel.stream_stream),
            )
            for name in names
        }
        self._arrays = ArrayChannel(
            address,
            shard,
            security,
            lambda timeout_s: self.call(wire.INVITE, timeout_s),
        )

    def call(
        self, name: str, timeout_s: float, **arguments: Any
    ) -> dict[str, Any]:
        """See `Line.call`."""
        begin = time.monotonic()
        try:
            answer = self._calls[name](
                wire.pack({**arguments, **self._group}),
                timeout=timeout_s,
                metadata=self._metadata,
            )
        except grpc.RpcError as error:
            raise self._told(error, name, begin) from error
        except ValueError as error:
            raise self._closed(name) from error
        return wire.unpack(answer)

    def stream(
        self,
        name: str,
        timeout_s: float,
        header: dict[str, Any],
        sent: Sequence[Any],
        out: Sequence[Any] = (),
    ) -> dict[str, Any]:
        """See `Line.stream`."""
        header = {**header, **self._group}
        begin = time.monotonic()
        deadline = begin + timeout_s
        try:
            told = self._arrays.ask(name, header, sent, out, deadline)
        except OSError as error:
            if self._arrays.closed:
                raise self._closed(name) from error
            raise self._away(name, begin, error) from error
        if told is None:
            answer = self._by_grpc(name, begin, deadline, header, sent, out)
        elif "error" in told:
            raise self._failed(name, begin, told["error"], told["text"])
        else:
            answer = told["news"]
        self.bytes_sent += sum(sizes_of(sent))
        self.bytes_received += sum(sizes_of(wire.wanted(answer, out)))
        return answer

    def _by_grpc(
        self,
        name: str,
        begin: float,
        deadline: float,
        header: dict[str, Any],
        sent: Sequence[Any],
        out: Sequence[Any],
    ) -> dict[str, Any]:
        try:
            answers = self._calls[name](
                itertools.chain([wire.pack(header)], wire.chunks(sent)),
                timeout=max(deadline - time.monotonic(), 0.001),
                metadata=self._metadata,
            )
        except ValueError as error:
            raise self._closed(name) from error
        try:
            answer = wire.receive_answer(answers, out)
        except grpc.RpcError as error:
            raise self._told(error, name, begin) from error
        except StopIteration:
            raise errors.CenterUnavailableError(
                f"{self._where} ended a call to {name} without an answer"
            ) from None
        finally:
            answers.cancel()
        return answer

    @property
    def shares_memory(self) -> bool:
        """Whether the server is on this host, and was let into its memory."""
        return self._arrays.is_local

    def break_off(self) -> None:
        """Ends the calls with arrays that are going on."""
        self._arrays.close()

    def close(self) -> None:
        """Ends all calls."""
        self._arrays.close()
        self._channel.close()

    def _closed(self, name: str) -> errors.CenterUnavailableError:
        return errors.CenterUnavailableError(
            f"the connection to {self._where} was closed before {name}"
        )

    def _failed(
        self, name: str, begin: float, kind: str, message: str
    ) -> errors.ClusterError:
        """The error that the server has told."""
        if kind in errors.TOLD:
            return errors.TOLD[kind](message)
        waited = time.monotonic() - begin
        return errors.CenterUnavailableError(
            f"{self._where} failed in {name} after {waited:.1f} s: {kind}, "
            f"{message}"
        )

    def _told(
        self, error: grpc.RpcError, name: str, begin: float
    ) -> errors.ClusterError:
        code, details = error.code(), error.details()
        if code is grpc.StatusCode.ABORTED:
            kind, _, message = (details or "").partition(": ")
            return self._failed(name, begin, kind, message)
        if code is grpc.StatusCode.UNAUTHENTICATED:
            return errors.CenterRefusedError(details)
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return errors.CenterRefusedError(
                f"{self._where} is no center server of this release of "
                f"tf_elastic: {details}"
            )
        if code in _AWAY:
            return self._away(name, begin, details)
        return self._failed(name, begin, str(code), details)

    def _away(
        self, name: str, begin: float, why: object
    ) -> errors.CenterUnavailableError:
        waited = time.monotonic() - begin
        return errors.CenterUnavailableError(
            f"{self._where} did not answer {name} (waited {waited:.1f} s: "
            f"{why})"
        )
