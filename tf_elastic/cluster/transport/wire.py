"""What travels between workers and center servers, and how it is cut.

Every call begins with a message of JSON: numbers and names. Arrays follow in
messages of at most `CHUNK_BYTES`, as they lie in memory (little-endian).
Nothing is ever unpickled, and lengths are known before bytes come.
"""

import json
import sys
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_elastic.cluster import errors
from tf_elastic.cluster.transport import json_text

FORMAT = 4  # of the calls; both ends must have the same
CHUNK_BYTES = 4 * 1024 * 1024  # measured: 1 MB and 16 MB are slower
MAX_HEADER_BYTES = CHUNK_BYTES  # of a model's description
MAX_CALL_BYTES = 64 * 1024  # of the header of any other call
SERVICE = "tf_elastic.Center"
TOKEN_KEY = "tf-elastic-token"
# By which any call says which optimizer's center it means; left out: the
# first one's.
GROUP = "group"
MAX_GROUPS = 8  # of one server
# What an answer tells of itself: that a second message follows it, and that it
# brings none of the arrays that were asked for.
FOLLOWED = "followed"
EMPTY = "empty"

# One call, one message each way.
HELLO = "Hello"
JOIN = "Join"
OFFER = "Offer"
HEARTBEAT = "Heartbeat"
LEAVE = "Leave"
RELEASE = "Release"
STATUS = "Status"
INVITE = "Invite"  # to a socket for arrays
INSTRUCT = "Instruct"  # all workers, by the chief
# With arrays.
READ = "Read"
INITIALIZE = "Initialize"
PUSH = "Push"
EXCHANGE = "Exchange"
DEPOSIT = "Deposit"
TAKE = "Take"
SEND = "Send"  # to a parent, which does not answer
LISTEN = "Listen"  # to what it sends down

UNARY = (
    *(HELLO, JOIN, OFFER, HEARTBEAT, LEAVE, RELEASE, STATUS, INVITE),
    INSTRUCT,
)
STREAMS = (READ, INITIALIZE, PUSH, EXCHANGE, DEPOSIT, TAKE, SEND, LISTEN)

GRPC_OPTIONS = (
    ("grpc.max_send_message_length", CHUNK_BYTES),
    ("grpc.max_receive_message_length", CHUNK_BYTES),
)

if sys.byteorder != "little":
    raise ImportError(
        "tf_elastic.cluster sends arrays as they lie in memory, in "
        f"little-endian order. Received: a {sys.byteorder}-endian machine, "
        "which is not supported."
    )


def pack(header: dict[str, Any]) -> bytes:
    """Writes a header."""
    return json.dumps(header, separators=(",", ":")).encode()


def unpack(
    message: bytes, most_bytes: int = MAX_HEADER_BYTES
) -> dict[str, Any]:
    """Reads a header.

    Args:
        message: what has come.
        most_bytes: that it may have.

    Raises:
        MessageError: it is too long, or no JSON object.
    """
    if len(message) > most_bytes:
        raise errors.MessageError(
            f"A header of {len(message)} bytes is too long."
        )
    try:
        header = json_text.parse(message)
    except ValueError as error:
        raise errors.MessageError(f"A header is not JSON: {error}.") from error
    if not isinstance(header, dict):
        raise errors.MessageError("A header is not a JSON object.")
    return header


def chunks(buffers: Iterable[Any]) -> Iterator[bytes]:
    """Cuts buffers into messages, one after another.

    Args:
        buffers: arrays or memory views, contiguous.
    """
    for buffer in buffers:
        view = as_bytes(buffer)
        for begin in range(0, len(view), CHUNK_BYTES):
            yield bytes(view[begin : begin + CHUNK_BYTES])


def as_bytes(buffer: Any) -> memoryview:
    """A buffer's memory, byte by byte, without a copy."""
    if isinstance(buffer, np.ndarray):
        # A view as bytes works for bfloat16 too.
        return buffer.reshape(-1).view(np.uint8).data
    return memoryview(buffer).cast("B")


def receive_answer(
    messages: Iterator[bytes], buffers: Sequence[Any]
) -> dict[str, Any]:
    """Receives the header of an answer, and fills buffers with its arrays.

    It may come in two messages, see `FOLLOWED`.

    Args:
        messages: headers, each before what `chunks` has cut.
        buffers: as of `receive`.

    Raises:
        MessageError: fewer or more bytes came than there is room for.
        StopIteration: nothing came.
    """
    answer = unpack(next(messages))
    fill(messages, wanted(answer, buffers))
    if answer.get(FOLLOWED):
        second = unpack(next(messages))
        fill(messages, wanted(second, buffers))
        answer = joined(answer, second)
    _check_end(messages)
    return answer


def wanted(answer: dict[str, Any], buffers: Sequence[Any]) -> Sequence[Any]:
    """The buffers that are filled by what follows an answer's header."""
    return () if answer.get(EMPTY) else buffers


def joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """An answer that has come in two messages; the second one counts."""
    empty = bool(first.get(EMPTY) and second.get(EMPTY))
    return {**first, **second, EMPTY: empty}


def receive(messages: Iterator[bytes], buffers: Sequence[Any]) -> None:
    """Fills buffers from messages that `chunks` has cut.

    Args:
        messages: what comes; exactly as much as fits.
        buffers: writable arrays or memory views, contiguous.

    Raises:
        MessageError: fewer or more bytes came than there is room for.
    """
    fill(messages, buffers)
    _check_end(messages)


def fill(messages: Iterator[bytes], buffers: Sequence[Any]) -> None:
    """As `receive`, where more may follow."""
    for buffer in buffers:
        view = as_bytes(buffer)
        filled = 0
        while filled < len(view):
            try:
                message = next(messages)
            except StopIteration:
                raise errors.MessageError(
                    f"A message of {len(view)} bytes ended after {filled}."
                ) from None
            if len(message) > len(view) - filled:
                raise errors.MessageError(
                    f"More came than the {len(view)} bytes announced."
                )
            view[filled : filled + len(message)] = message
            filled += len(message)


def _check_end(messages: Iterator[bytes]) -> None:
    for _ in messages:
        raise errors.MessageError("More messages came than announced.")
