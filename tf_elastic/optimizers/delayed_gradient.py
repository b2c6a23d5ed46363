"""Any Keras optimizer, fed with gradients that are late."""

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic import compat
from tf_elastic.core import delays
from tf_elastic.optimizers import nested
from tf_elastic.optimizers.around_inner import AroundInner
from tf_elastic.optimizers.gradient_ring import GradientRing
from tf_elastic.optimizers.strategy_interface import Gradient


@keras.saving.register_keras_serializable("tf_elastic")
class DelayedGradient(AroundInner):
    r"""Prescribed delays in one process, around any Keras optimizer.

    Use it to see what staleness does to a method, without a cluster. At step
    k the inner optimizer gets the gradient that was taken :math:`\tau_k`
    steps ago, at the point of that time and on the batch of that time:

    .. math::
        x_{k+1} = x_k - \eta_k\, g(x_{k - \tau_k})

    for `SGD(eta)`, with :math:`\tau_k` from `delay`;
    `SGD(eta, momentum=mu)` is asynchronous momentum SGD,

    .. math::
        x_{k+1} = x_k - \eta\, g(x_{k - \tau_k}) + \mu (x_k - x_{k-1}).

    Before the first delayed gradient exists the papers have
    :math:`x_s = x_0` for s < 0; so :math:`\tau_k` is at most k, and the
    gradient that was taken at :math:`x_0` in step 0 is used.

    What the inner optimizer does besides is not late: learning rates are
    those of step k, weight decay acts on :math:`x_k`. With
    `gradient_accumulation_steps` a step is one update of the parameters, and
    the accumulated gradient is what is late; a gradient is clipped when it is
    taken. Sparse gradients are filled up to dense ones, since two steps need
    not touch the same rows. A step that a `LossScaleOptimizer` around it
    skips does not count.

    Memory: `max_delay` + 1 gradients beside what the inner optimizer needs
    (none if `max_delay` is 0).

    It works without a strategy, and inside of `Elastic` on an elastic one,
    where every worker has its own gradients and draws its own delays.

    Args:
        inner_optimizer: a `keras.optimizers.Optimizer`, or its name, such as
            "adam". It becomes part of this optimizer: do not use it
            elsewhere.
        delay: an integer >= 0 for a constant delay, or one of
            `tf_elastic.optimizers.delays`, counted in steps.
        seed: an integer in [0, 2^63), for delays that are drawn; instead of
            the delay's own.
        name: name of the optimizer.

    Raises:
        TypeError: `inner_optimizer` is no Keras optimizer, or one that cannot
            be inside; `delay` is neither an integer nor a delay.
        ValueError: an argument is out of its range or has no meaning here;
            at `build`: the strategy is one that gradients are summed in.

    Example:

    >>> x = keras.Variable([1.0])
    >>> optimizer = DelayedGradient(keras.optimizers.SGD(0.1), delay=2)
    >>> for _ in range(4):
    ...     optimizer.apply([tf.identity(x.value)], [x])
    ...     print(round(float(x[0]), 3))
    0.9
    0.8
    0.7
    0.61

    If training oscillates or diverges as `delay` grows, lower the learning
    rate or the momentum: delayed SGD on a quadratic of curvature h needs
    eta h < 2 sin(pi / (4 tau + 2)).

    Reference:
        Eq. 3 of the paper on differential equations for ASGD, with the start
        of eq. 7; eq. 1.3 of the paper on momentum and asynchrony, with the
        start of its Theorem 3.3.
    """

    def __init__(
        self,
        inner_optimizer: keras.optimizers.Optimizer | str,
        *,
        delay: delays.Delay | int,
        seed: int | None = None,
        name: str = "delayed_gradient",
    ) -> None:
        if isinstance(inner_optimizer, str):
            inner_optimizer = keras.optimizers.get(inner_optimizer)
        self._check_inner(inner_optimizer)
        if any(o.built for o in nested.optimizers_in(inner_optimizer)):
            raise ValueError(
                "`inner_optimizer` must be new: it becomes part of this one. "
                f"Received: inner_optimizer={type(inner_optimizer).__name__}, "
                "which is in use already. Make another one for "
                "`DelayedGradient`."
            )
        delay = _seeded(delays.as_delay(delay), seed)
        super().__init__(0.0, name=name)
        self.delay = delay
        self._late_steps: list[_LateStep] = []
        self._reached: set[Any] = set()
        self._set_inner(inner_optimizer)
        self._tell_of_inner()

    @property
    def num_cut_delays(self) -> int:
        """How often an unbounded delay was cut to `max_delay`; eager code."""
        # All optimizers inside draw the same delays.
        return max(
            (
                late.ring.cut_of_workers()
                for late in self._late_steps
                if late.ring is not None
            ),
            default=0,
        )

    def finalize_variable_values(
        self, var_list: Sequence[keras.Variable]
    ) -> None:
        """Ends training as the inner optimizer asks for."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the inner optimizer's variables and the ring.

        Args:
            variables: the model's trainable variables.

        Raises:
            ValueError: the strategy is one that gradients are summed in, or
                not that of the inner optimizer.
        """
        if self.built:
            return
        self._check_scope()
        self._build_inner(variables)
        self._tell_of_inner()
        for late in self._late_steps:
            if late.stepper.built:  # There are variables for it.
                late.ring = GradientRing(
                    late.stepper._trainable_variables,
                    self.delay,
                    self.add_variable,
                )
        self.built = True

    def _check_inner(self, inner_optimizer: object) -> None:
        kind = type(inner_optimizer)
        if not isinstance(inner_optimizer, keras.optimizers.Optimizer):
            raise TypeError(
                "`inner_optimizer` must be a `keras.optimizers.Optimizer` or "
                f"the name of one. Received: inner_optimizer={kind.__module__}."
                f"{kind.__qualname__}."
            )
        for inner in nested.optimizers_in(inner_optimizer):
            advice = _advice_against(inner)
            if advice:
                raise TypeError(
                    "`inner_optimizer` must be an optimizer that only takes "
                    f"local steps. Received: inner_optimizer="
                    f"{type(inner).__name__}. {advice}"
                )

    def _check_scope(self) -> None:
        strategy = self._distribution_strategy
        is_elastic = getattr(strategy.extended, "is_elastic", False)
        default = not tf.distribute.has_strategy()
        if not (is_elastic or default):
            raise ValueError(
                "`DelayedGradient` must be used without a strategy, or inside "
                "of `Elastic` on an elastic one. Received: strategy="
                f"{type(strategy).__name__}, which sums the gradients of all "
                "replicas. Leave the strategy out, or use "
                "`ElasticMirroredStrategy` and `Elastic(DelayedGradient("
                "...))`."
            )

    def apply(
        self,
        grads: Sequence[Gradient],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Takes one step of the inner optimizer on a gradient that is late.

        Args:
            grads: the gradients of this step, one for each variable.
            trainable_variables: the variables the optimizer was built with.
        """
        grads = list(grads)
        if not grads:
            return
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            if not self.built:
                self.build(trainable_variables)
        self._reached.clear()
        self.inner_optimizer.apply(grads, trainable_variables)
        self._check_all_are_late(
            grads,
            trainable_variables or self.inner_optimizer._trainable_variables,
        )
        self._iterations.assign_add(1)

    def _check_all_are_late(
        self, grads: Sequence[Gradient], variables: Sequence[keras.Variable]
    ) -> None:
        """Refuses an inner optimizer with a way of its own to step."""
        if tf.executing_eagerly() and any(
            inner.gradient_accumulation_steps
            for inner in nested.optimizers_in(self.inner_optimizer)
        ):
            return  # Not every call is a step.
        for grad, variable in zip(grads, variables, strict=True):
            if (
                grad is not None
                and not self._overwrite_variable_with_gradient(variable)
                and self._var_key(variable) not in self._reached
            ):
                raise TypeError(
                    "`inner_optimizer` must take its steps as a "
                    "`keras.optimizers.Optimizer` does, or leave them to "
                    "optimizers inside of it. Received: inner_optimizer="
                    f"{type(self.inner_optimizer).__name__}, which moves "
                    f"{variable.name!r} in another way, so that its gradient "
                    "would not be late. Put `DelayedGradient` inside of it."
                )

    def _tell_of_inner(self) -> None:
        """Sets what an optimizer around this one asks for."""
        self.use_ema = any(
            inner.use_ema
            for inner in nested.optimizers_in(self.inner_optimizer)
        )
        calls = nested.calls_per_step(self.inner_optimizer)
        self.gradient_accumulation_steps = calls if calls > 1 else None

    # What is inside calls this where it would update the parameters: its
    # gradients are accumulated and clipped by then.
    def _make_local(self, stepper: keras.optimizers.Optimizer) -> None:
        late = _LateStep(stepper)
        self._late_steps.append(late)

        def delayed_update(
            step: Callable[..., None],
            grads: Sequence[Gradient],
            variables: Sequence[keras.Variable],
            learning_rate: tf.Tensor,
        ) -> None:
            del step  # `_backend_update_step`, or what `Elastic` makes of it
            keys = [self._var_key(variable) for variable in variables]
            self._reached.update(keys)
            delayed = late.ring.exchange(
                stepper.iterations, grads, [*map(late.place_of, keys)]
            )
            self._backend_update_step(delayed, variables, learning_rate)

        compat.make_local(stepper, delayed_update)

    def _backend_update_step(
        self,
        grads: Sequence[Gradient],
        trainable_variables: Sequence[keras.Variable],
        learning_rate: tf.Tensor,
    ) -> None:
        key = self._var_key(trainable_variables[0])
        # The variables of one call are those of one of them.
        [late] = [s for s in self._late_steps if s.place_of(key) is not None]
        late.update(grads, trainable_variables, learning_rate)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal optimizer."""
        return {
            "inner_optimizer": keras.saving.serialize_keras_object(
                self.inner_optimizer
            ),
            "delay": self.delay.get_config(),
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "DelayedGradient":
        """Makes an equal optimizer from `get_config`'s answer."""
        inner = keras.saving.deserialize_keras_object(
            config["inner_optimizer"], custom_objects=custom_objects
        )
        delay = delays.delay_from_config(config["delay"])
        return cls(inner, delay=delay, name=config["name"])


class _LateStep:
    """An optimizer that takes steps, on gradients that are late."""

    def __init__(self, stepper: keras.optimizers.Optimizer) -> None:
        self.stepper = stepper
        self.update = stepper._backend_update_step
        self.ring: GradientRing | None = None

    def place_of(self, key: Any) -> int | None:
        """A variable's place among the stepper's, or None."""
        return self.stepper._trainable_variables_indices.get(key)


def _advice_against(inner: keras.optimizers.Optimizer) -> str | None:
    """What to do instead where an optimizer cannot be inside."""
    if isinstance(inner, keras.optimizers.LossScaleOptimizer):
        return "Put it outside: `LossScaleOptimizer(DelayedGradient(...))`."
    if isinstance(inner, DelayedGradient):
        return "One delay is enough: add the two up."
    if hasattr(type(inner), "center_step"):
        return (
            "It exchanges with a center. Put it outside: "
            "`Elastic(DelayedGradient(SGD(...), delay=...))` is EASGD with "
            "late gradients; with `SGD(..., momentum=...)` it is EAMSGD's "
            "heavy-ball form."
        )
    return None


def _seeded(delay: delays.Delay, seed: int | None) -> delays.Delay:
    if seed is None:
        return delay
    if not isinstance(delay, delays.RandomDelay):
        raise ValueError(
            "`seed` must be left out where nothing is drawn. Received: "
            f"seed={seed!r} with delay={type(delay).__name__}."
        )
    return dataclasses.replace(delay, seed=seed)
