"""What goes wrong in a virtual cluster now and then."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from typing import ClassVar

from tf_elastic.timeline.virtual import durations
from tf_elastic.timeline.virtual import names
from tf_elastic.timeline.virtual.durations import Duration
from tf_elastic.timeline.virtual.durations import check_number


class Fault:
    """Base class: fields that are numbers or durations, JSON both ways."""

    what: ClassVar[str] = ""

    def config(self) -> dict[str, object]:
        """What `from_config` makes an equal one from; JSON."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        values = {f.name: getattr(self, f.name) for f in fields}
        return {
            name: value.config() if isinstance(value, Duration) else value
            for name, value in values.items()
        }

    @classmethod
    def from_config(cls, config: object) -> Any:
        """Makes an equal one from what its `config` returned.

        Raises:
            ValueError: a field is missing, unknown or not fit.
        """
        wanted = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
        if not isinstance(config, Mapping):
            raise ValueError(
                f"`{cls.what}` must be a mapping with {', '.join(wanted)}. "
                f"Received: {cls.what}={config!r:.80}."
            )
        names.check_known(f"`{cls.what}`", config, wanted)
        missing = [name for name in wanted if name not in config]
        if missing:
            raise ValueError(
                f"`{cls.what}` needs `{missing[0]}`. "
                f"Received: {sorted(config)}."
            )
        values = {
            name: durations.from_config(value, f"{cls.what}.{name}")
            if isinstance(value, Mapping)
            else value
            for name, value in config.items()
        }
        return cls(**values)


@dataclasses.dataclass(frozen=True)
class Stragglers(Fault):
    """Steps that take several times as long as they would.

    Args:
        chance: of each step, from 0 to 1.
        factor: how many times as long, at least 0.

    Raises:
        ValueError: an argument is out of its range.
    """

    what: ClassVar[str] = "stragglers"
    chance: float
    factor: float

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_chance("stragglers.chance", self.chance)
        check_number("stragglers.factor", self.factor, above=0)


@dataclasses.dataclass(frozen=True)
class Losses(Fault):
    """Messages that are lost on their way, and sent again.

    Args:
        chance: of each message and each answer, from 0 to below 1.
        resend_after: seconds until it is sent again, which may be lost too.

    Raises:
        ValueError: an argument is out of its range.
    """

    what: ClassVar[str] = "losses"
    chance: float
    resend_after: float

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_chance("losses.chance", self.chance)
        check_number("losses.resend_after", self.resend_after)
        if self.chance == 1:
            raise ValueError(
                "`losses.chance` must be below 1: no message would ever "
                "arrive. Received: losses.chance=1."
            )


@dataclasses.dataclass(frozen=True)
class Pauses(Fault):
    """Times at which a worker stands still in the middle of a step.

    Args:
        rate: of each worker, a second in which it works, above 0.
        seconds: how long it stands still, a number or a `Duration`.

    Raises:
        ValueError: an argument is out of its range.
    """

    what: ClassVar[str] = "pauses"
    rate: float
    seconds: Any

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_number("pauses.rate", self.rate, above=0)
        seconds = durations.duration(self.seconds, "pauses.seconds")
        object.__setattr__(self, "seconds", seconds)


def check_chance(name: str, value: object) -> None:
    """Refuses what is no number from 0 to 1.

    Raises:
        ValueError: it is not.
    """
    check_number(name, value)
    if value > 1:  # type: ignore[operator]
        raise ValueError(
            f"`{name}` must be from 0 to 1. Received: {name}={value!r}."
        )
