"""What `CenterOptimizer` refuses, by messages that say what to do."""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from tf_elastic import compat
from tf_elastic.optimizers.strategy_interface import ElasticExtended


def check_learning_rate(learning_rate: object) -> None:
    """Refuses a number that is no rate.

    Raises:
        ValueError: it is not finite, or negative.
    """
    if isinstance(learning_rate, (int, float)) and not (
        math.isfinite(learning_rate) and learning_rate >= 0
    ):
        raise ValueError(
            "`learning_rate` must be finite and not negative. "
            f"Received: learning_rate={learning_rate}."
        )


def check_period(period: int | None) -> None:
    """Refuses what is no count of local steps.

    Raises:
        ValueError: it is neither None nor an integer >= 1.
    """
    is_integer = isinstance(period, int) and not isinstance(period, bool)
    if period is not None and not (is_integer and period >= 1):
        raise ValueError(
            "`communication_period` must be an integer >= 1 (1: exchange at "
            "every step), or None for no exchange at all. "
            f"Received: communication_period={period!r}."
        )


def check_not_overwritten(frequency: int | None) -> None:
    """Refuses that the average overwrites the center now and then.

    Raises:
        ValueError: `frequency`, of `ema_overwrite_frequency`, is not None.
    """
    if frequency is not None:
        raise ValueError(
            "`ema_overwrite_frequency` is not supported: the average is "
            "taken of the center, and overwriting it between exchanges "
            "would pull all workers back. Received: "
            f"ema_overwrite_frequency={frequency}. Leave it out; the "
            "average is taken over at the end of `fit`, and "
            "`keras.callbacks.SwapEMAWeights` shows it in validation."
        )


def check_one_worker(
    optimizer: keras.optimizers.Optimizer, num_workers: int
) -> None:
    """Refuses several workers for a method that is made for one.

    Raises:
        ValueError: there are several.
    """
    if optimizer.method.one_worker and num_workers != 1:
        raise ValueError(
            f"{type(optimizer).__name__} is a sequential method, for one "
            f"worker. Received: a strategy with {num_workers} workers. Use "
            '`ElasticMirroredStrategy(["CPU:0"])` (or one GPU), or '
            "`EASGD` for several workers."
        )


def check_scope(
    extended: ElasticExtended, variables: Sequence[keras.Variable]
) -> None:
    """Refuses a model that was not built in a strategy's scope.

    Raises:
        ValueError: one of the variables was not.
    """
    for variable in variables:
        if not extended.is_elastic_variable(compat.native_variable(variable)):
            raise ValueError(
                "The model must be built inside the scope of the strategy "
                "that trains it. Received: variable="
                f"{getattr(variable, 'path', variable.name)!r}, created "
                "outside of it. Move the model's construction (and "
                "`model.compile`) into `with strategy.scope():`."
            )


def check_no_scope(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
) -> None:
    """Refuses a model of an elastic scope, where the optimizer has none.

    Raises:
        ValueError: one of the variables has such a scope.
    """
    for variable in variables:
        native = compat.native_variable(variable)
        strategy = getattr(native, "distribute_strategy", None)
        extended = getattr(strategy, "extended", None)
        if getattr(extended, "is_elastic", False):
            raise ValueError(
                "The optimizer must be created inside the scope of the "
                "strategy that trains the model. Received: "
                f"{type(optimizer).__name__}, created outside of it, for a "
                f"model of {type(strategy).__name__}. Create it (and call "
                "`model.compile`) inside `with strategy.scope():`."
            )


def check_applies_here(strategy: tf.distribute.Strategy) -> None:
    """Refuses a step outside of the code of a replica of elastic training.

    Raises:
        ValueError: it is outside.
    """
    if not getattr(strategy.extended, "is_elastic", False):
        raise ValueError(
            "An elastic optimizer needs an elastic strategy, which holds the "
            "workers and the center. Received: "
            f"strategy={type(strategy).__name__}. Create model and optimizer "
            "inside `with "
            "tf_elastic.strategies.ElasticMirroredStrategy().scope():` (it "
            "also works on one device)."
        )
    if not compat.in_replica_context(strategy):
        raise ValueError(
            "`apply` and `apply_gradients` must be called for each "
            "replica. Received: a call outside of `strategy.run`. Use "
            "`model.fit`, or call it in a function passed to "
            "`strategy.run`."
        )
