"""Reads a model in training: its clocks, rates and distances."""

import keras
import numpy as np

from tf_elastic.optimizers import nested


def training_optimizer(model: keras.Model) -> keras.optimizers.Optimizer:
    """The optimizer that takes the steps, out of a `LossScaleOptimizer`."""
    optimizer = model.optimizer
    while isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    return optimizer


def local_steps(model: keras.Model) -> int:
    """The batches that each worker has been updated with.

    In a virtual cluster, whose workers have their own clocks, all together.
    """
    if is_virtual(model):
        return int(model.distribute_strategy.local_steps)
    return int(_numpy(training_optimizer(model).iterations))


def is_virtual(model: keras.Model) -> bool:
    """Whether the model trains in a virtual cluster."""
    return hasattr(model.distribute_strategy, "virtual_seconds")


# What `virtual` tells, and the samples.
VIRTUAL = ("virtual_seconds", "local_steps", "samples", "bytes", "goodput")


def virtual(
    model: keras.Model, batch_size: int | None = None
) -> dict[str, float]:
    """How far a virtual cluster is, by names of `VIRTUAL`; else nothing.

    Args:
        model: in training.
        batch_size: of a worker, to count samples.
    """
    if not is_virtual(model):
        return {}
    strategy = model.distribute_strategy
    found = {
        "virtual_seconds": strategy.virtual_seconds,
        "local_steps": strategy.local_steps,
    }
    if batch_size is not None:
        found["samples"] = strategy.local_steps * batch_size
    if strategy.totals is not None:
        found["bytes"] = strategy.totals.bytes
        found["goodput"] = strategy.totals.goodput
    return found


def learning_rate(model: keras.Model) -> float:
    """The learning rate of the next step."""
    return float(_numpy(training_optimizer(model).learning_rate))


def steppers(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """The optimizers whose learning rates are those of the steps.

    The model's own; where it has no rate, those inside of it.
    """
    optimizer = training_optimizer(model)
    if hasattr(optimizer, "learning_rate"):
        return [optimizer]
    return nested.steppers_in(
        getattr(optimizer, "inner_optimizer", model.optimizer)
    )


def learning_rates(model: keras.Model) -> dict[str, float]:
    """The learning rate of the next step, by the name to log it by.

    That is `learning_rate`. Where optimizers are inside of the model's that
    have rates of their own, `learning_rate/sgd` and so on.
    """
    if hasattr(training_optimizer(model), "learning_rate"):
        return {"learning_rate": learning_rate(model)}
    rates: dict[str, float] = {}
    for stepper in steppers(model):
        name, number = f"learning_rate/{stepper.name}", 0
        while name in rates:
            number += 1
            name = f"learning_rate/{stepper.name}_{number}"
        rates[name] = float(_numpy(stepper.learning_rate))
    return rates


def center_step(model: keras.Model) -> int | None:
    """The exchanges that the center has seen; None if there is no center."""
    step = getattr(training_optimizer(model), "center_step", None)
    return None if step is None else int(_numpy(step))


def elastic_distances(model: keras.Model) -> np.ndarray | None:
    """How far each worker is from the center, shape (p,).

    None if the optimizer has no center, or no worker yet.
    """
    if center_step(model) is None:
        return None
    return np.asarray(training_optimizer(model).elastic_distances())


def center_norm(model: keras.Model) -> float:
    """The L2 norm of the center, over all trainable variables."""
    squares = [
        np.sum(np.square(_numpy(variable).astype(np.float64)))
        for variable in model.trainable_variables
    ]
    return float(np.sqrt(np.sum(squares)))


def _numpy(value: keras.Variable) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(value))
