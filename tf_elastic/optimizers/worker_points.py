"""Where workers and center are, in eager code."""

import numpy as np

from tf_elastic.optimizers.strategy_interface import Exchange


def points_of(exchange: Exchange, workers: range) -> list[np.ndarray]:
    """The points x of workers: of each variable an array of shape (p, ...).

    Args:
        exchange: of a strategy, with `parameters`.
        workers: those in this process, by their copies.
    """
    return [
        np.stack([parameter.point(i).numpy() for i in workers])
        for parameter in exchange.parameters
    ]


def center_of(exchange: Exchange, k: int) -> np.ndarray:
    """The center of parameter k, whatever it shows; its shape."""
    parameter = exchange.parameters[k]
    parent = getattr(parameter, "parent", {})
    if "center" in parent:  # Its time average is shown.
        center: np.ndarray = parent["center"].worker_values()[0]
    elif exchange.closing is not None:
        center = exchange.closing.center(k)
    elif parameter.variable.store.masters:
        center = parameter.variable.store.read_center(0).numpy()
    else:
        center = parameter.variable.numpy()
    return center


def distances_of(exchange: Exchange, workers: range) -> np.ndarray:
    """How far workers are from the center, L2, shape (p,), float64."""
    squares = [
        np.sum(np.square(difference), axis=1)
        for difference in (
            (points - center_of(exchange, k))
            .reshape(len(points), -1)
            .astype(np.float64)
            for k, points in enumerate(points_of(exchange, workers))
        )
    ]
    return np.sqrt(np.sum(squares, axis=0))
