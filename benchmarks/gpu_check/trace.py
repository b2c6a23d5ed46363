"""Copies between a card and the host, from a trace of TensorFlow's profiler."""

import contextlib
import pathlib
import re
import tempfile
from typing import NamedTuple

import tensorflow as tf

_DIRECTION = re.compile(r"Memcpy(H2D|D2H|D2D|P2P)")
_DETAILS = re.compile(r"(\w+):(\w+)")


class Copy(NamedTuple):
    """One copy, as the card has done it."""

    direction: str  # "H2D", "D2H", "D2D" or "P2P"
    num_bytes: int
    seconds: float
    pinned: bool  # whether the host's memory was


def copies_in(space):
    """The copies of all cards in an `XSpace`.

    Raises:
        ValueError: one has no details, or of a form that is not known.
    """
    found = []
    for plane in space.planes:
        if not plane.name.startswith("/device:GPU:"):
            continue
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                is_copy = _DIRECTION.match(name)
                if is_copy:
                    found.append(_copy(plane, event, is_copy[1]))
    return found


def _copy(plane, event, direction):
    stats = {
        plane.stat_metadata[stat.metadata_id].name: _value(plane, stat)
        for stat in event.stats
    }
    details = dict(_DETAILS.findall(str(stats.get("memcpy_details", ""))))
    try:
        size = int(details["size"])
        host = {"H2D": "kind_src", "D2H": "kind_dst"}.get(direction)
        pinned = host is not None and details[host] == "pinned"
    except KeyError as error:
        raise ValueError(
            f"A copy ({direction}) of the trace does not say its {error}. "
            f"Received: {stats}."
        ) from error
    return Copy(direction, size, event.duration_ps / 1e12, pinned)


def _value(plane, stat):
    kind = stat.WhichOneof("value")
    value = getattr(stat, kind) if kind else None
    if kind == "ref_value":
        return plane.stat_metadata[value].name
    return value


@contextlib.contextmanager
def traced():
    """Traces what runs inside; its copies are in the list that it gives.

    The list is filled at the end.
    """
    # A private place, which has moved before: needed on a card only.
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    copies = []
    with tempfile.TemporaryDirectory(prefix="trace_") as folder:
        tf.profiler.experimental.start(folder)
        try:
            yield copies
        finally:
            tf.profiler.experimental.stop()
        paths = list(pathlib.Path(folder).rglob("*.xplane.pb"))
        if not paths:
            raise RuntimeError(
                "TensorFlow's profiler has written no trace (*.xplane.pb)."
            )
        for path in paths:
            space = xplane_pb2.XSpace.FromString(path.read_bytes())
            copies += copies_in(space)
