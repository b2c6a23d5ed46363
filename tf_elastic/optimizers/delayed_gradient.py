"""Any Keras optimizer, fed with gradients that are late."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic import compat
from tf_elastic.core import delays
from tf_elastic.optimizers.around_inner import AroundInner
from tf_elastic.optimizers.gradient_ring import GradientRing


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
        inner_optimizer: Any,
        delay: Any,
        seed: int | None = None,
        name: str = "delayed_gradient",
    ) -> None:
        inner_optimizer = _checked(inner_optimizer)
        delay = _seeded(delays.as_delay(delay), seed)
        super().__init__(0.0, name=name)
        self.delay = delay
        # An optimizer around this one asks for these.
        self.use_ema = inner_optimizer.use_ema
        self.gradient_accumulation_steps = (
            inner_optimizer.gradient_accumulation_steps
        )
        self._inner_update = inner_optimizer._backend_update_step
        compat.make_local(inner_optimizer, self._delayed_update)
        self.inner_optimizer = inner_optimizer
        self._ring: GradientRing | None = None

    @property
    def num_cut_delays(self) -> int:
        """How often an unbounded delay was cut to `max_delay`; eager code."""
        return 0 if self._ring is None else self._ring.cut_of_workers()

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
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
        self.inner_optimizer.build(variables)
        self._ring = GradientRing(variables, self.delay, self.add_variable)
        self.built = True

    def _check_scope(self) -> None:
        strategy = self._distribution_strategy
        self._check_inner_scope()
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
        grads: Sequence[Any],
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
        self.inner_optimizer.apply(grads, trainable_variables)
        self._iterations.assign_add(1)

    # The inner optimizer calls this where it would update the parameters: its
    # gradients are accumulated and clipped by then.
    def _delayed_update(
        self, step: Any, grads: Any, variables: Any, learning_rate: Any
    ) -> None:
        del step  # `_backend_update_step`, or what `Elastic` makes of it
        index = self.inner_optimizer._get_variable_index
        delayed = self._ring.exchange(
            self.inner_optimizer.iterations, grads, [*map(index, variables)]
        )
        self._backend_update_step(delayed, variables, learning_rate)

    def _backend_update_step(
        self, grads: Any, trainable_variables: Any, learning_rate: Any
    ) -> None:
        self._inner_update(grads, trainable_variables, learning_rate)

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
        return cls(inner, delay, name=config["name"])


def _checked(inner_optimizer: Any) -> keras.optimizers.Optimizer:
    """The inner optimizer, if it can be one."""
    if isinstance(inner_optimizer, str):
        inner_optimizer = keras.optimizers.get(inner_optimizer)
    kind = type(inner_optimizer)
    if not isinstance(inner_optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "`inner_optimizer` must be a `keras.optimizers.Optimizer` or the "
            f"name of one. Received: inner_optimizer={kind.__module__}."
            f"{kind.__qualname__}."
        )
    advice = None
    if isinstance(inner_optimizer, keras.optimizers.LossScaleOptimizer):
        advice = "Put it outside: `LossScaleOptimizer(DelayedGradient(...))`."
    elif isinstance(inner_optimizer, DelayedGradient):
        advice = "One delay is enough: add the two up."
    elif hasattr(kind, "center_step"):
        advice = (
            "It exchanges with a center. Put it outside: "
            "`Elastic(DelayedGradient(SGD(...), delay=...))` is EASGD with "
            "late gradients; with `SGD(..., momentum=...)` it is EAMSGD's "
            "heavy-ball form."
        )
    if advice:
        raise TypeError(
            "`inner_optimizer` must be an optimizer that only takes local "
            f"steps. Received: inner_optimizer={kind.__name__}. {advice}"
        )
    if inner_optimizer.built:
        raise ValueError(
            "`inner_optimizer` must be new: it becomes part of this one. "
            f"Received: inner_optimizer={kind.__name__}, which is in use "
            "already. Make another one for `DelayedGradient`."
        )
    return inner_optimizer


def _seeded(delay: delays.Delay, seed: int | None) -> delays.Delay:
    if seed is None:
        return delay
    if not isinstance(delay, delays.RandomDelay):
        raise ValueError(
            "`seed` must be left out where nothing is drawn. Received: "
            f"seed={seed!r} with delay={type(delay).__name__}."
        )
    return dataclasses.replace(delay, seed=seed)
