"""How long everything takes in a virtual cluster, and what goes wrong."""

import dataclasses
import json
import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tf_elastic.core import one_way
from tf_elastic.timeline.virtual import durations
from tf_elastic.timeline.virtual import listed
from tf_elastic.timeline.virtual import names
from tf_elastic.timeline.virtual.durations import Duration
from tf_elastic.timeline.virtual.durations import check_number
from tf_elastic.timeline.virtual.faults import Losses
from tf_elastic.timeline.virtual.faults import Pauses
from tf_elastic.timeline.virtual.faults import Stragglers

_FAULTS = {kind.what: kind for kind in (Stragglers, Losses, Pauses)}
# One of all workers, or one for each.
_OF_WORKERS = ("step", "latency", "bandwidth", "speeds")
# One of all inner nodes of a tree, or one for each level.
_OF_LEVELS = ("node_latency", "node_bandwidth")
# None says something.
_OPTIONAL = (
    *("node_latency", "overlapped_overhead", "recovery"),
    "node_recovery",
)
_DURATIONS = ("step", "data", "latency", "service", "overhead", *_OPTIONAL)
_BANDWIDTHS = ("bandwidth", "center_bandwidth", "node_bandwidth")


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long things take, in seconds, and what goes wrong how often.

    Wherever a duration is asked for it may be a number or a `Duration`. A
    message goes by its worker's link, whose first byte arrives after
    `latency`, and is then served by the center, one after another as they
    arrive. It is done with when it is served and its last byte is there.

    In a tree `center_bandwidth` is the root's, and an inner node's own link
    serves all its messages likewise, one after another, both ways together.
    Of inner nodes there may be one number for all, or a sequence: of those
    just below the root, of those below them, and so on; the last one is of
    all further levels.

    Args:
        step: of a worker's local step: gradient and update. One for all
            workers, or a sequence of one for each.
        speeds: by which each worker's `step` is divided, one for each; None
            for 1.
        data: of loading a step's data, on top.
        stragglers: steps that take several times as long.
        latency: one way, between a worker and the center. One for all, or a
            sequence of one for each.
        bandwidth: of a worker's link, each way, bytes a second; None for no
            bound. One for all, or a sequence of one for each.
        center_bandwidth: bytes a second that the center takes and gives, all
            workers and both ways together; None for no bound.
        service: of a message at the center, beside its bytes; in a tree at
            each node that is no worker.
        node_latency: in a tree, one way between an inner node and its parent;
            None for the (first) `latency`.
        node_bandwidth: in a tree, bytes a second that an inner node takes and
            gives; None for no bound.
        overhead: of an exchange, that its worker's own processor takes beside
            what is waited for; its next step is there as much later.
        overlapped_overhead: the same where the worker goes on meanwhile, with
            what the message takes from the steps; None for `overhead`.
        losses: messages that are sent again.
        pauses: times at which a worker stands still.
        deaths: a rate, of each worker a second; or pairs (worker, time).
        recovery: until a worker that has died begins a new life; None for
            never.
        joins: pairs (worker, time) of those that come late.
        node_deaths: of inner nodes of a tree: a rate, of each a second; or
            triples (level, index, time). Level 1 is just below the root, and
            a level's nodes are counted from 0.
        node_recovery: until an inner node that has died begins a new life,
            where its parent is then; None for never.
        move_s: seconds without a parent after which a node's children go to
            its parent, and stay there.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> timing = Timing(step=0.1, latency=0.001, deaths=[(1, 60.0)])
    >>> Timing.from_config(timing.config()) == timing
    True
    """

    step: Any
    speeds: Sequence[float] | None = None
    data: Any = 0.0
    stragglers: Stragglers | None = None
    latency: Any = 0.0
    bandwidth: float | Sequence[float] | None = None
    center_bandwidth: float | None = None
    service: Any = 0.0
    overhead: Any = 0.0
    overlapped_overhead: Any = None
    node_latency: Any = None
    node_bandwidth: float | Sequence[float] | None = None
    losses: Losses | None = None
    pauses: Pauses | None = None
    deaths: float | Sequence[tuple[int, float]] = ()
    recovery: Any = None
    joins: Sequence[tuple[int, float]] = ()
    node_deaths: float | Sequence[tuple[int, int, float]] = ()
    node_recovery: Any = None
    move_s: float = one_way.DEFAULT_MOVE_S

    def __post_init__(self) -> None:
        """Checks the arguments."""
        for name in (*_OF_WORKERS, *_OF_LEVELS):
            value = getattr(self, name)
            if listed.is_sequence(value):
                self._set(name, tuple(value))
        for name in _OF_LEVELS:
            if getattr(self, name) == ():
                raise ValueError(
                    f"`{name}` must be one for all inner nodes, or one for "
                    f"each level. Received: {name}=(), of no level."
                )
        for name in _DURATIONS:
            value = getattr(self, name)
            if isinstance(value, tuple):
                self._set(
                    name, tuple(durations.duration(v, name) for v in value)
                )
            elif value is not None or name not in _OPTIONAL:
                self._set(name, durations.duration(value, name))
        for step in self._each("step"):
            if step.is_nothing:
                raise ValueError(
                    "`step` must take some time: what would a timing without "
                    "a step time say? Received: step=0."
                )
        for name in (*_BANDWIDTHS, "speeds"):
            for value in self._each(name):
                check_number(name, value, above=0)
        for name, kind in _FAULTS.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise ValueError(
                    f"`{name}` must be None or {kind.__name__}(...). "
                    f"Received: {name}={value!r:.80}."
                )
        self._set("joins", listed.pairs("joins", self.joins))
        if listed.is_sequence(self.deaths):
            self._set("deaths", listed.pairs("deaths", self.deaths))
        else:
            check_number("deaths", self.deaths)
        if listed.is_sequence(self.node_deaths):
            self._set("node_deaths", listed.triples(self.node_deaths))
        else:
            check_number("node_deaths", self.node_deaths)
        check_number("move_s", self.move_s, above=0)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _each(self, name: str) -> tuple[Any, ...]:
        """The different ones there are of a field."""
        value = getattr(self, name)
        if value is None:
            return ()
        return value if isinstance(value, tuple) else (value,)

    def of_worker(self, name: str, worker: int) -> Any:
        """A worker's own `step`, `latency`, `bandwidth` or `speeds`."""
        value = getattr(self, name)
        return value[worker] if isinstance(value, tuple) else value

    def of_level(self, name: str, level: int) -> Any:
        """The `node_latency` or `node_bandwidth` of inner nodes.

        Args:
            name: of the field.
            level: edges between the root and the nodes, at least 1.
        """
        value = getattr(self, name)
        if value is None and name == "node_latency":
            return self._each("latency")[0]
        if isinstance(value, tuple):
            return value[min(level, len(value)) - 1]
        return value

    def steps_a_second(self, num_workers: int) -> list[float]:
        """How fast each of p workers is, if nothing goes wrong."""
        seconds = (
            self.of_worker("step", worker).average
            / (self.of_worker("speeds", worker) or 1.0)
            + self.data.average
            for worker in range(num_workers)
        )
        return [1 / each for each in seconds]

    def overhead_of(self, protocol: str) -> Duration:
        """What an exchange takes of its worker's own processor."""
        own = self.overlapped_overhead if protocol == "overlapped" else None
        found: Duration = self.overhead if own is None else own
        return found

    @property
    def is_instant(self) -> bool:
        """Whether a message and its answer take no time at all."""
        return (
            all(
                latency.is_nothing
                for name in ("latency", "node_latency")
                for latency in self._each(name)
            )
            and self.bandwidth is None
            and self.center_bandwidth is None
            and self.node_bandwidth is None
            and self.service.is_nothing
            and (self.losses is None or self.losses.chance == 0)
        )

    @property
    def center_is_instant(self) -> bool:
        """Whether the center takes no time for a message."""
        return self.center_bandwidth is None and self.service.is_nothing

    @property
    def without_links(self) -> "Timing":
        """The same, but exchanges take no time."""
        return dataclasses.replace(
            self,
            latency=0.0,
            bandwidth=None,
            center_bandwidth=None,
            service=0.0,
            overhead=0.0,
            overlapped_overhead=None,
            node_latency=None,
            node_bandwidth=None,
            losses=None,
        )

    def check(self, num_workers: int) -> None:
        """Refuses what does not fit a number of workers.

        Raises:
            ValueError: a sequence has another length, a worker that is named
                does not exist, or more of them fail than there are.
        """
        for name in _OF_WORKERS:
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != num_workers:
                raise ValueError(
                    f"`{name}` must be one for all workers, or one for each "
                    f"of {num_workers}. Received: {len(value)} of them."
                )
        deaths = () if isinstance(self.deaths, float | int) else self.deaths
        for name, pairs in (("joins", self.joins), ("deaths", deaths)):
            for worker, _ in pairs:
                if worker >= num_workers:
                    raise ValueError(
                        f"`{name}` must name workers from 0 to "
                        f"{num_workers - 1}. Received: worker {worker}."
                    )
        late = [worker for worker, _ in self.joins]
        listed.check_once("joins", late, "may come late once")
        if len(late) >= num_workers:
            raise ValueError(
                "`joins` must leave at least one worker that is there from "
                f"the beginning. Received: {len(late)} of {num_workers}."
            )
        if self.recovery is None:
            dead = [worker for worker, _ in deaths]
            listed.check_once(
                "deaths", dead, "can die once, without a `recovery`"
            )

    def check_nodes(self, per_level: Sequence[int]) -> None:
        """Refuses deaths of inner nodes that do not exist.

        Args:
            per_level: how many there are of levels 1, 2 and so on; empty for a
                star.

        Raises:
            ValueError: one does not, or dies again without a `node_recovery`.
        """
        deaths = self.node_deaths
        if not per_level and deaths:
            raise ValueError(
                "`node_deaths` are of inner nodes of a tree. Received: "
                f"node_deaths={deaths!r:.80}, and there are none. Leave them "
                "out, or give a `topology` of depth 2 or more."
            )
        if isinstance(deaths, int | float):
            return
        for level, index, _ in deaths:
            if level > len(per_level) or index >= per_level[level - 1]:
                raise ValueError(
                    "`node_deaths` must name inner nodes: there are "
                    f"{list(per_level)} of levels 1 to {len(per_level)}. "
                    f"Received: level {level}, index {index}."
                )
        if self.node_recovery is None:
            dead = [(level, index) for level, index, _ in deaths]
            listed.check_once(
                "node_deaths",
                dead,
                "can die once, without a `node_recovery`",
                "node",
            )

    def config(self) -> dict[str, object]:
        """What `from_config` makes an equal timing from; JSON.

        Fields that are as they are by default are left out.
        """
        return {
            field.name: _json(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name == "step"
            or _json(getattr(self, field.name)) != _json(field.default)
        }

    @classmethod
    def from_config(cls, config: object) -> "Timing":
        """Makes an equal timing from what its `config` returned.

        Raises:
            ValueError: a field does not exist, or is not fit; `step` is
                missing.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(config, Mapping):
            raise ValueError(
                "A timing must be a mapping, of `step` at least. Received: "
                f"{config!r:.80}."
            )
        names.check_known("a timing", config, known)
        if "step" not in config:
            raise ValueError(
                "A timing needs `step`, the seconds of a local step: without "
                f"it there is nothing to go by. Received: {sorted(config)}."
            )
        return cls(
            **{name: _field(name, value) for name, value in config.items()}
        )

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> "Timing":
        """Reads a timing that was written as JSON.

        Raises:
            ValueError: the file is none; it is named.
        """
        with open(path, encoding="utf-8") as file:
            try:
                return cls.from_config(json.load(file))
            except ValueError as error:
                raise ValueError(f"{os.fspath(path)}: {error}") from error


def _json(value: Any) -> object:
    if isinstance(value, tuple):
        return [_json(item) for item in value]
    return value.config() if hasattr(value, "config") else value


def _field(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _FAULTS:
        return _FAULTS[name].from_config(value)
    if name in _DURATIONS:
        if listed.is_sequence(value):
            return [durations.from_config(item, name) for item in value]
        return durations.from_config(value, name)
    return value
