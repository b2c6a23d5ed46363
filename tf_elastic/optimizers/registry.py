"""What there is to know of each method, said where its class is.

`@register(...)` beside an optimizer's class says what it exchanges and how,
what travels, what it needs, and what it is good for. All else is read from
here: what a strategy refuses, the flags and defaults of `train.py`, the tables
of the docs, what the tests count. A class in a file of the user's own is as
good as those of the package.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

from tf_elastic.optimizers.registration import Registration
from tf_elastic.optimizers.registration import registration_of
from tf_elastic.optimizers.registration_checks import check_not_taken
from tf_elastic.optimizers.registration_checks import file_of

# In the order in which methods are listed; others come behind these.
FAMILIES = (
    "elastic averaging",
    "sequential averages",
    "DOWNPOUR",
    "gradients to a center with momentum",
    "means",
    "ADMM",
)
Class = TypeVar("Class", bound=type)

_registered: dict[str, Registration] = {}


def register(
    cls: Class | None = None,
    /,
    *,
    rule: str | None = None,
    orders: Sequence[str] | None = None,
    protocols: Sequence[str] | None = None,
    refusal: str | None = None,
    up: str | None = None,
    down: str | None = None,
    copies_up: int | None = None,
    copies_down: int | None = None,
    worker_memory: int | None = None,
    center_memory: int | None = None,
    center_memory_per_worker: int | None = None,
    stable: str | None = None,
    use: str | None = None,
    reference: str | None = None,
    family: str | None = None,
    option: str | None = None,
    one_worker: bool | None = None,
    flags: Sequence[str] | None = None,
    defaults: Mapping[str, object] | None = None,
    refuses: Mapping[str, str] | None = None,
    advised_as: str | None = None,
    listed: bool = True,
) -> Any:
    """Says what a method is, beside its class: a decorator.

    What is left out is as the nearest registered base has it. `rule`,
    `orders`, `protocols`, `up` and `down` must be given where there is none.
    A subclass that is not decorated goes by the registration of its base.

    Args:
        cls: the class, where the decorator has no arguments.
        rule: the exchange, as a formula: x_i a worker, c the center.
        orders: who moves first among the workers of one process: some of
            "jacobi", "gauss_seidel" and "round_robin", the default first.
        protocols: when a worker of a cluster exchanges: some of "overlapped",
            "blocking" and "synchronous", the default first.
        refusal: why there is no other order or protocol; needed if one is
            missing.
        up: what a worker sends in an exchange, in a word or two.
        down: what it gets.
        copies_up: how many times the parameters, at most, are sent (1).
        copies_down: and are received (1).
        worker_memory: copies on a worker, beside its parameters and their
            gradients (1).
        center_memory: copies at the center beside its parameters, in one
            process on each device (0).
        center_memory_per_worker: and for each worker (0).
        stable: where it is stable.
        use: what it is good for.
        reference: the paper.
        family: the heading that it is listed under.
        option: its name for `train.py --optimizer`. Default: the class's in
            small letters, `AdamCenter` as `adam_center`.
        one_worker: whether it is for one worker only.
        flags: the arguments of the constructor that are flags of `train.py`.
            Default: all whose type is known from default or annotation.
            `learning_rate`, `jit_compile` and what `refuses` may name always
            are, if the constructor takes them.
        defaults: what `train.py` takes for flags, if not the constructor's
            default: a value, or `{"digits": ..., "cifar": ...}`.
        refuses: which of `weight_decay`, `clipnorm` and
            `gradient_accumulation_steps` it has not, and why not.
        advised_as: the rule of `theory.advise` that holds for it too.
            Default: its own name, if that is one; else the base's, where
            `rule` is left out.
        listed: False for a base class, which is in no table.

    Returns:
        The class, or the decorator.

    Raises:
        ValueError: an argument is wrong or missing, or the name is taken.
        TypeError: the class is no optimizer with a center.

    Example:

    ```python
    @keras.saving.register_keras_serializable("mine")
    @te.optimizers.register(
        rule="as Downpour, half of it",
        use="where DOWNPOUR is too eager",
    )
    class HalfDownpour(te.optimizers.Downpour):
        ...
    ```
    """
    said = {
        "rule": rule,
        "orders": orders,
        "protocols": protocols,
        "refusal": refusal,
        "up": up,
        "down": down,
        "copies_up": copies_up,
        "copies_down": copies_down,
        "worker_memory": worker_memory,
        "center_memory": center_memory,
        "center_memory_per_worker": center_memory_per_worker,
        "stable": stable,
        "use": use,
        "reference": reference,
        "family": family,
        "one_worker": one_worker,
        "refuses": refuses,
    }
    special: dict[str, Any] = {
        "option": option,
        "flags": flags,
        "defaults": defaults,
        "advised_as": advised_as,
        "listed": listed,
    }

    def decorate(decorated: Class) -> Class:
        made = registration_of(decorated, said, **special)
        check_not_taken(made, _registered.values())
        _registered[made.name] = made
        decorated._registration = made  # type: ignore[attr-defined]
        return decorated

    return decorate if cls is None else decorate(cls)


def of_class(cls: type) -> Registration:
    """The registration of a class, or of its nearest base that has one.

    Raises:
        TypeError: neither has one.
    """
    found: Registration | None = getattr(cls, "_registration", None)
    if found is None:
        raise TypeError(
            f"{cls.__name__} is not registered, so nothing is known of what "
            f"it exchanges. Received: {cls.__name__}, defined in "
            f"{file_of(cls)}. Decorate the class: `@tf_elastic.optimizers."
            "register(rule=..., orders=..., protocols=..., up=..., "
            "down=...)`; see docs/methods.md."
        )
    return found


def named(name: str) -> Registration:
    """The registration of the class with this name.

    Raises:
        KeyError: there is none.
    """
    return _registered[name]


def listed() -> list[Registration]:
    """The methods as they are listed: by families, bases left out."""
    order = {family: i for i, family in enumerate(FAMILIES)}
    return sorted(
        (made for made in _registered.values() if made.listed),
        key=lambda made: order.get(made.family, len(order)),
    )


def chosen(name: str, argument: str, asked: str | None) -> str:
    """The order or protocol that was asked for, or the method's own.

    Args:
        name: of the registered class.
        argument: of the strategy, "order" or "protocol".
        asked: what the strategy was given; None for the method's first.

    Raises:
        ValueError: it is none that the method has.
    """
    allowed: tuple[str, ...] = getattr(named(name), f"{argument}s")
    choice = asked or allowed[0]
    if choice not in allowed:
        raise ValueError(
            f"{name} has no `{argument}={choice!r}`: {named(name).refusal}. "
            f"Received: {argument}={choice!r}. Use one of {allowed}, or leave "
            f"`{argument}` out of the strategy."
        )
    return choice
