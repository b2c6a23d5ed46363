"""What carries a worker's calls to one center server: a transport."""

from collections.abc import Sequence
from typing import Any
from typing import Protocol


class Line(Protocol):
    """One worker's line to one center server; it knows no rule.

    It repeats nothing by itself. What the server refuses is raised by its own
    name, of `errors.TOLD`.
    """

    address: str
    # Of arrays.
    bytes_sent: int
    bytes_received: int

    @property
    def shares_memory(self) -> bool:
        """Whether the server is on this host, and was let into its memory."""

    def call(
        self, name: str, timeout_s: float, **arguments: Any
    ) -> dict[str, Any]:
        """Makes a call of one message each way.

        Args:
            name: one of `wire.UNARY`.
            timeout_s: seconds, > 0.
            **arguments: of the node's method; JSON.

        Returns:
            The node's answer.

        Raises:
            CenterUnavailableError: no answer in time; the call may have come.
            ClusterError: what the node has raised.
        """

    def stream(
        self,
        name: str,
        timeout_s: float,
        header: dict[str, Any],
        sent: Sequence[Any],
        out: Sequence[Any] = (),
    ) -> dict[str, Any]:
        """Makes a call with arrays.

        Args:
            name: one of `wire.STREAMS`.
            timeout_s: seconds for all of it, > 0.
            header: JSON.
            sent: arrays to send; the caller's again when the call returns.
            out: the arrays to fill with those of the answer. After an error
                of none that the node has raised, others may still write
                there.

        Returns:
            The answer's header.

        Raises:
            CenterUnavailableError: not done in time; it may have come.
            ClusterError: what the node has raised.
        """

    def break_off(self) -> None:
        """Ends the calls with arrays that are going on."""

    def close(self) -> None:
        """Ends all calls."""
