"""What is known of one method: checked, and complete.

What `register` was told, what it left out and a registered base has, and what
holds where nobody says anything.
"""

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from tf_elastic.optimizers.constructor_flags import Argument
from tf_elastic.optimizers.registration_checks import ORDERS
from tf_elastic.optimizers.registration_checks import PROTOCOLS
from tf_elastic.optimizers.registration_checks import Checks

_TEXTS = (
    *("rule", "refusal", "up", "down"),
    *("stable", "use", "reference", "family"),
)
_COUNTS = (
    "copies_up",
    "copies_down",
    "worker_memory",
    "center_memory",
    "center_memory_per_worker",
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Registration:
    """What a method does, needs and is good for; see `register`.

    Bytes and memory are in copies of the trainable parameters.
    """

    name: str  # of the class
    cls: type[keras.optimizers.Optimizer]
    listed: bool
    option: str  # its name for `train.py --optimizer`
    family: str
    rule: str
    orders: tuple[str, ...]
    protocols: tuple[str, ...]
    refusal: str
    up: str
    down: str
    copies_up: int
    copies_down: int
    worker_memory: int
    center_memory: int
    center_memory_per_worker: int
    stable: str
    use: str
    reference: str
    one_worker: bool
    flags: Mapping[str, Argument]
    defaults: Mapping[str, object]
    refuses: Mapping[str, str]
    advised_as: str | None

    @property
    def summary(self) -> str:
        """The first line of what the class says of itself."""
        text = inspect.cleandoc(self.cls.__dict__.get("__doc__") or "")
        return text.split("\n", 1)[0].strip() or f"{self.rule}."

    @functools.cached_property
    def of_the_program(self) -> dict[str, object]:
        """What a program has to know before it starts TensorFlow: JSON."""
        return {
            "name": self.name,
            "option": self.option,
            "summary": self.summary,
            "orders": list(self.orders),
            "protocols": list(self.protocols),
            "refusal": self.refusal,
            "one_worker": self.one_worker,
            "flags": {
                name: [argument.kind, argument.default]
                for name, argument in self.flags.items()
            },
            "defaults": {
                "learning_rate": self._default_learning_rate(),
                **self.defaults,
            },
            "refuses": dict(self.refuses),
            "advised_as": self.advised_as,
        }

    def _default_learning_rate(self) -> object:
        """The constructor's own, if it is a number."""
        parameters = inspect.signature(self.cls).parameters
        rate = parameters.get("learning_rate")
        return (
            rate.default
            if rate is not None and type(rate.default) in (int, float)
            else None
        )


# What is taken where neither the class nor a base says anything; what is not
# here must be said.
_UNSAID: dict[str, Any] = {
    "family": "others",
    "refusal": "",
    "copies_up": 1,
    "copies_down": 1,
    "worker_memory": 1,
    "center_memory": 0,
    "center_memory_per_worker": 0,
    "stable": "not known",
    "use": "not said",
    "reference": "none",
    "one_worker": False,
    "refuses": {},
}


def registration_of(
    cls: type,
    said: Mapping[str, Any],
    *,
    option: str | None,
    flags: Sequence[str] | None,
    defaults: Mapping[str, object] | None,
    advised_as: str | None,
    listed: bool,
) -> Registration:
    """A class's registration: what is said of it, else what its base has.

    Args:
        cls: the class.
        said: the fields of a `Registration` that a base may fill; None for
            what was left out.
        option: see `register`, as are all others.
        flags: likewise.
        defaults: likewise.
        advised_as: likewise.
        listed: likewise.

    Raises:
        ValueError: an argument is wrong or missing.
        TypeError: the class is no optimizer with a center.
    """
    _check_is_optimizer(cls)
    check = Checks(cls)
    base: Registration | None = getattr(cls, "_registration", None)
    values: dict[str, Any] = {}
    for name, value in said.items():
        if value is None and base is not None:
            value = getattr(base, name)
        elif value is None:
            if name not in _UNSAID:
                raise check.error(
                    name,
                    "must be given, since no base of the class is registered",
                    None,
                    "Say what it is.",
                )
            value = _UNSAID[name]
        values[name] = value
    values["orders"] = check.choices("orders", values["orders"], ORDERS)
    values["protocols"] = check.choices(
        "protocols", values["protocols"], PROTOCOLS
    )
    for name in _TEXTS:
        check.text(name, values[name], may_be_empty=name == "refusal")
    for name in _COUNTS:
        check.count(name, values[name], int(name.startswith("copies")))
    values["refusal"] = check.refusal(values, said["refusal"], base)
    if not isinstance(values["one_worker"], bool):
        raise check.error(
            "one_worker", "must be True or False", values["one_worker"]
        )
    values["refuses"] = check.refuses(values["refuses"])
    arguments = check.flags(flags)
    return Registration(
        name=cls.__name__,
        cls=cls,
        listed=listed,
        option=check.option(option),
        flags=arguments,
        defaults=check.defaults(
            defaults, arguments, base.defaults if base else {}
        ),
        advised_as=check.advised_as(
            advised_as,
            base.advised_as if base and said["rule"] is None else None,
        ),
        **values,
    )


def _check_is_optimizer(cls: object) -> None:
    # Here, since that module needs this one.
    from tf_elastic.optimizers.center_optimizer import CenterOptimizer

    if not (inspect.isclass(cls) and issubclass(cls, CenterOptimizer)):
        raise TypeError(
            "`register` is for subclasses of `CenterOptimizer`, such as "
            f"`ElasticOptimizer` and `PushOptimizer`. Received: {cls!r}."
        )
