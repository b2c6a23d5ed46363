"""What each call takes: the one place where calls are checked.

Who calls has the token, and may be wrong or wicked all the same. What passes
here is of the right type, in its range, and finite; so what is behind need not
look again.
"""

from collections.abc import Mapping
from typing import Any

from tf_elastic.cluster import errors
from tf_elastic.cluster.transport import codec as codecs
from tf_elastic.cluster.transport import fields
from tf_elastic.cluster.transport import wire

_WORKER = fields.integer(high=2**31 - 1)
_INCARNATION = fields.integer(1)
_NUM_WORKERS = fields.integer(1, 2**31 - 1)
_COUNT = fields.integer()
_INDEX = fields.integer(high=1_000_000)
_VERSION = fields.integer(-1)  # -1: none was seen

_MEMBER = {"worker": _WORKER, "incarnation": _INCARNATION}
_ID = fields.record(
    {**_MEMBER, "sequence": fields.integer(1), "version_read": _VERSION},
    {
        "clock": _COUNT,
        "samples": _COUNT,
        "max_lag": fields.optional(fields.number(0, 1e9)),
        "round": fields.optional(_COUNT),
        "at_rest": fields.each(fields.row(_INDEX, _INDEX), 10_000),
    },
)
_NUMBERS = fields.table(fields.optional(fields.number(-1e30, 1e30)), 32)


def _rates(name: str, value: Any) -> dict[str, Any]:
    """By what numbers a rule moves the center; it looks at their ranges."""
    rates = _NUMBERS(name, value)
    return {
        **rates,
        "num_workers": _NUM_WORKERS(
            f"{name}.num_workers", rates.get("num_workers")
        ),
    }


def _call(
    required: Mapping[str, fields.Check],
    others: Mapping[str, fields.Check] | None = None,
) -> fields.Check:
    """The fields of a call; any may say which optimizer's center it means."""
    group = {wire.GROUP: fields.integer(high=wire.MAX_GROUPS - 1)}
    return fields.record(required, {**(others or {}), **group})


def _by_worker(
    others: Mapping[str, fields.Check] | None = None, **required: fields.Check
) -> fields.Check:
    """The fields of a call that a worker makes."""
    return _call({**_MEMBER, **required}, others)


_PUSH = {"id": _ID, "rate": _rates}
_WAIT_S = fields.number(0, 60)
_LEARNING_RATE = fields.optional(fields.number(0, 1e6))

_CALLS = {
    wire.HELLO: _call({"worker": fields.optional(_WORKER)}),
    wire.JOIN: _by_worker(
        {"previous": _COUNT},
        expected=_NUM_WORKERS,
        # Of another release it may be another; see `layout`.
        description=fields.table(lambda name, value: value, 100),
        process=fields.text(100),
    ),
    wire.OFFER: _by_worker(version_seen=_VERSION, is_chief=fields.boolean),
    wire.HEARTBEAT: _by_worker(
        clock=_COUNT, samples=_COUNT, notes=fields.table(fields.scalar, 64)
    ),
    wire.INSTRUCT: _by_worker(
        number=_COUNT,
        stop=fields.boolean,
        learning_rate=_LEARNING_RATE,
        instead_of=_LEARNING_RATE,
    ),
    wire.LEAVE: _by_worker({"finished": fields.boolean}),
    wire.RELEASE: _by_worker(
        round_=_COUNT, wait_s=_WAIT_S, force=fields.boolean
    ),
    wire.STATUS: _call({}, {"staleness_since": _COUNT}),
    wire.INVITE: _call({}),
    wire.READ: _call({}, _MEMBER),
    wire.INITIALIZE: _by_worker(version=_VERSION),
    wire.PUSH: _call(_PUSH),
    wire.EXCHANGE: _call(
        {
            **_PUSH,
            "codec": fields.one_of(*codecs.CODECS),
            "whole": fields.boolean,
        }
    ),
    wire.DEPOSIT: _call(_PUSH, {"wait_s": _WAIT_S}),
    wire.TAKE: _call(_PUSH),
    wire.SEND: _by_worker(
        {
            "elastic": fields.optional(_NUMBERS),
            "step_s": fields.number(0, 1e6),
            "step_sent": _COUNT,
        },
        number=fields.integer(1),
        followed=_COUNT,
        clock=_COUNT,
        samples=_COUNT,
    ),
    wire.LISTEN: _by_worker(after=_COUNT, wait_s=_WAIT_S),
}


def checked(call: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call, as it may take them.

    Args:
        call: its name, one of `wire.UNARY` or `wire.STREAMS`.
        arguments: what was sent.

    Raises:
        MessageError: they are not as they should be.
    """
    try:
        found: dict[str, Any] = _CALLS[call]("", arguments)
        return found
    except errors.MessageError as error:
        raise errors.MessageError(f"In a call to {call}: {error}") from error
