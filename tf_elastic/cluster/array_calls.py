"""The calls that carry arrays, whatever carries them.

Each is a room for what comes and what is done with it, so that a transport
knows no rule and a rule no transport.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import numpy as np

from tf_elastic import core
from tf_elastic.cluster import codec as codecs
from tf_elastic.cluster import errors
from tf_elastic.cluster import wire
from tf_elastic.cluster.held_part import PushRate
from tf_elastic.cluster.held_part import Rate
from tf_elastic.cluster.layout import np_dtype
from tf_elastic.cluster.shard import PushId
from tf_elastic.cluster.shard import Shard

Header = dict[str, Any]
Arrays = list[np.ndarray]


class ArrayCall(NamedTuple):
    """A call whose header is followed by arrays, there and back."""

    # The arrays to fill with what follows the header. They are the call's:
    # it may keep them, or answer with them.
    room: Callable[[Header], Arrays]
    # Of the header and the arrays: the answer's header and arrays.
    run: Callable[[Header, Arrays], tuple[Header, Arrays]]


def array_calls(shard: Shard) -> dict[str, ArrayCall]:
    """The array calls of a shard, by the names in `wire.STREAMS`."""

    def nothing(header: Header) -> Arrays:
        del header
        return []

    def whole(header: Header) -> Arrays:
        del header
        return _room(shard, "none")

    def encoded(header: Header) -> Arrays:
        return _room(shard, "none" if header["whole"] else header["codec"])

    def read(header: Header, arrays: Arrays) -> tuple[Header, Arrays]:
        del arrays
        return shard.read(**header)

    def initialize(header: Header, arrays: Arrays) -> tuple[Header, Arrays]:
        return shard.initialize(values=arrays, **header), []

    def push(header: Header, arrays: Arrays) -> tuple[Header, Arrays]:
        return shard.push(*_push_of(header, arrays)), []

    def exchange(header: Header, arrays: Arrays) -> tuple[Header, Arrays]:
        return shard.exchange(
            *_push_of(header, arrays), header["codec"], header["whole"]
        )

    def deposit(header: Header, arrays: Arrays) -> tuple[Header, Arrays]:
        return shard.deposit(
            *_push_of(header, arrays), header.get("differ", True)
        )

    def take(header: Header, arrays: Arrays) -> tuple[Header, Arrays]:
        return shard.take(*_push_of(header, arrays))

    return {
        wire.READ: ArrayCall(nothing, read),
        wire.INITIALIZE: ArrayCall(whole, initialize),
        wire.PUSH: ArrayCall(whole, push),
        wire.EXCHANGE: ArrayCall(encoded, exchange),
        wire.DEPOSIT: ArrayCall(whole, deposit),
        wire.TAKE: ArrayCall(whole, take),
    }


def _push_of(
    header: Header, arrays: Arrays
) -> tuple[PushId, Arrays, Rate | PushRate]:
    rate = header["rate"]
    if "beta" in rate:
        return PushId(**header["id"]), arrays, Rate(**rate)
    num_workers = rate.pop("num_workers")
    rates = core.PushRates(**rate)
    return PushId(**header["id"]), arrays, PushRate(rates, num_workers)


def _room(shard: Shard, codec: str) -> Arrays:
    layout = shard.layout
    if layout is None:
        raise errors.CenterEmptyError(
            f"center {shard.index} holds no parameters yet"
        )
    sizes = layout.shard_sizes(shard.index)
    dtypes = [np_dtype(section.dtype) for section in layout.sections]
    if codec == "none":
        return [np.empty(*pair) for pair in zip(sizes, dtypes, strict=True)]
    return [
        np.empty(codecs.encoded_nbytes(codec, size, dtype), np.uint8)
        for size, dtype in zip(sizes, dtypes, strict=True)
    ]
