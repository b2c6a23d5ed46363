"""The exact linear map of a period, for every method, on a quadratic.

A state's numbers are rows: what each of them is of the state at the period's
start. The rules of `core` take such rows as they take parameters, so that the
map is made of the very functions that train.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tf_elastic import core
from tf_elastic.core import rules
from tf_elastic.core.rules import Context
from tf_elastic.theory._spectra import spectral_radii
from tf_elastic.theory.advise import late_gradients
from tf_elastic.theory.advise import setting as settings
from tf_elastic.theory.advise.setting import Setting

Array = NDArray[np.float64]


class Rates(NamedTuple):
    """The numbers of n settings and m curvatures, to broadcast with rows."""

    gradient: Array  # h, shape (1, m, 1)
    eta: Array  # and all others (n, 1, 1)
    alpha: Array
    beta: Array
    delta: Array
    rho: Array
    outer: rules.Rates  # for the center's rule


def radii(setting: Setting, curvatures: Array) -> Array:
    r"""By what factor the error changes, in the long run.

    Args:
        setting: one, or n at once.
        curvatures: h, positive, shape (m,).

    Returns:
        The spectral radius of the period's map to the power of one over the
        period's steps, shape (n, m): of a local step, or of an update of the
        center where every gradient is pushed. The error of this curvature
        converges if and only if it is below 1.
    """
    rates = _rates(setting, curvatures)
    exchange, meeting = setting.rule.exchange, setting.meeting
    if exchange == settings.GRADIENT:
        return late_gradients.radii(setting, curvatures)
    if exchange == settings.NOTHING:
        maps = [_local_map(setting, rates, 1)]
    elif exchange == settings.ADMM:
        maps = [_admm_map(setting, rates)]
    elif meeting in (settings.JACOBI, settings.GAUSS_SEIDEL):
        # All workers alike: their mean with the center, and differences.
        maps = [_mean_map(setting, rates)]
        if setting.num_workers > 1:
            maps.append(_difference_map(setting, rates))
    elif exchange == settings.UPDATE:
        maps = [_update_map(setting, rates)]
    else:
        maps = [_elastic_map(setting, rates, delay) for delay in setting.delays]
    period = np.max([_radii(matrix) for matrix in maps], axis=0)
    per_step: Array = period ** (1 / setting.communication_period)
    return per_step


def _radii(matrices: Array) -> Array:
    """Spectral radii; infinite where a period has overflown."""
    finite = np.asarray(np.isfinite(matrices).all(axis=(-2, -1)))
    safe = np.where(finite[..., None, None], matrices, 0.0)
    return np.where(finite, spectral_radii(safe), np.inf)


def _rates(setting: Setting, curvatures: Array) -> Rates:
    numbers = np.broadcast_arrays(
        *(
            np.atleast_1d(np.asarray(value, np.float64))
            for value in (
                setting.learning_rate,
                setting.moving_rate,
                setting.beta,
                setting.momentum,
                setting.elasticity,
                setting.outer_learning_rate,
                setting.outer_momentum,
            )
        )
    )
    eta, alpha, beta, delta, rho, outer_eta, outer_mu = (
        n[:, None, None] for n in numbers
    )
    outer = {
        "learning_rate": outer_eta,
        "momentum": outer_mu,
        "delay": setting.num_workers,
        "activation": 0.0,
        "num_workers": setting.num_workers,
    }
    h = np.asarray(curvatures)[None, :, None]
    return Rates(h, eta, alpha, beta, delta, rho, outer)


def _unit_rows(rates: Rates, count: int) -> list[Array]:
    """The numbers of a state, each as a row of shape (n, m, count)."""
    shape = (len(rates.eta), rates.gradient.shape[1], count)
    return [np.broadcast_to(row, shape) for row in np.eye(count)]


def _stacked(rows: list[Array]) -> Array:
    return np.stack(np.broadcast_arrays(*rows), axis=-2)


# Local steps.


def _step(setting: Setting) -> Callable[..., core.MomentumState[Array]]:
    return (
        core.lookahead_momentum_step if setting.nesterov else core.momentum_step
    )


def _local_map(setting: Setting, rates: Rates, count: int) -> Array:
    """Of `count` steps on what a worker holds, and its velocity."""
    x, v = _unit_rows(rates, 2)
    moved = _step(setting)(x, v, rates.gradient * x, rates.eta, rates.delta)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.linalg.matrix_power(_stacked([*moved]), count))


def _after(local: Array, x: Array, v: Array) -> tuple[Array, Array]:
    """Point and velocity of a worker after local steps."""
    entry = local[..., None]
    with np.errstate(over="ignore", invalid="ignore"):
        return (
            entry[..., 0, 0, :] * x + entry[..., 0, 1, :] * v,
            entry[..., 1, 0, :] * x + entry[..., 1, 1, :] * v,
        )


def _point(setting: Setting, rates: Rates, x: Array, v: Array) -> Array:
    """What is exchanged of a worker that holds x."""
    if setting.name == "EAMSGD" and setting.nesterov:
        x = core.plain_point(x, v, rates.delta)
    return x


# All workers at once.


def _mean_map(setting: Setting, rates: Rates) -> Array:
    """On a worker, its velocity, the center and the center's velocity."""
    x, v, c, w = _unit_rows(rates, 4)
    return _stacked(_together(setting, rates, (x, v, c, w), 1.0))


def _difference_map(setting: Setting, rates: Rates) -> Array:
    """On the difference between two workers, and of their velocities.

    The center is where the difference's is: at 0, and no difference moves it.
    """
    x, v = _unit_rows(rates, 2)
    rows = _together(setting, rates, (x, v, 0 * x, 0 * x), 0.0)
    return _stacked(rows[:2])


def _together(
    setting: Setting,
    rates: Rates,
    rows: tuple[Array, Array, Array, Array],
    share: float,
) -> list[Array]:
    """A period in which all workers are alike, or cancel (a share of 0).

    A center's velocity w that nobody uses is put to 0: it is in no spectrum.
    """
    p, period = setting.num_workers, setting.communication_period
    x, v, c, w = rows
    if setting.meeting == settings.JACOBI:
        # Before the period's first step, at the point of its gradient.
        gradient = rates.gradient * x
        difference = core.elastic_difference(_point(setting, rates, x, v), c)
        c = core.push(c, share * p * difference, rates.beta, p)
        x = core.pull(x, difference, rates.alpha)
        x, v = _step(setting)(x, v, gradient, rates.eta, rates.delta)
        x, v = _after(_local_map(setting, rates, period - 1), x, v)
        return [x, v, c, 0 * w]
    x, v = _after(_local_map(setting, rates, period), x, v)
    difference = core.elastic_difference(_point(setting, rates, x, v), c)
    if setting.rule.exchange == settings.ELASTIC:
        c = core.push(c, share * p * difference, rates.beta, p)
        nearer = core.elastic_difference(_point(setting, rates, x, v), c)
        return [core.pull(x, nearer, rates.alpha), v, c, 0 * w]
    center_rule = setting.rule.center_rule
    parent = center_rule.apply(
        {"center": c, "velocity": w},
        share * p * difference,
        center_rule.rates_at(rates.outer, Context()),
    )
    moved = parent["center"]
    return [moved, v, moved, parent.get("velocity", 0 * w)]


# One worker after another.


def _elastic_map(setting: Setting, rates: Rates, delay: int) -> Array:
    """A round of elastic exchanges, in order, all workers in step.

    On (x, v, pending difference) of each worker, then the center and as many
    of its former versions as a worker's reading is late.
    """
    p, period = setting.num_workers, setting.communication_period
    overlapped = setting.meeting == settings.OVERLAPPED
    rows = _unit_rows(rates, (3 if overlapped else 2) * p + delay + 1)
    x, v = rows[:p], rows[p : 2 * p]
    pending, centers = rows[2 * p : -delay - 1], rows[-delay - 1 :]
    gradients = [rates.gradient * point for point in x]
    if overlapped:
        local = _local_map(setting, rates, period)
        x, v = _each(local, x, v)
        x = [
            core.pull(point, difference, rates.alpha)
            for point, difference in zip(x, pending, strict=True)
        ]
    differences = []
    for point, velocity in zip(x, v, strict=True):
        sent = _point(setting, rates, point, velocity)
        differences.append(core.elastic_difference(sent, centers[delay]))
        new = core.push(centers[0], differences[-1], rates.beta, p)
        centers = [new, *centers[:delay]]
    if overlapped:
        return _stacked([*x, *v, *differences, *centers])
    # Algorithm 1: the gradient was taken before the pull.
    for i in range(p):
        x[i], v[i] = _step(setting)(
            core.pull(x[i], differences[i], rates.alpha),
            v[i],
            gradients[i],
            rates.eta,
            rates.delta,
        )
    x, v = _each(_local_map(setting, rates, period - 1), x, v)
    return _stacked([*x, *v, *centers])


def _each(
    local: Array, x: list[Array], v: list[Array]
) -> tuple[list[Array], list[Array]]:
    moved = [_after(local, *worker) for worker in zip(x, v, strict=True)]
    return [point for point, _ in moved], [velocity for _, velocity in moved]


def _update_map(setting: Setting, rates: Rates) -> Array:
    """A round of pushes of what was done, in order.

    On where each worker has begun, overlapped also on the answer that is on
    its way, on the center and its velocity. What else a center keeps is 0 when
    a round ends.
    """
    p, center_rule = setting.num_workers, setting.rule.center_rule
    overlapped = setting.meeting == settings.OVERLAPPED
    rows = _unit_rows(rates, (2 if overlapped else 1) * p + 2)
    begun, pending, center, velocity = rows[:p], rows[p:-2], rows[-2], rows[-1]
    parent = center_rule.init(center)
    if "velocity" in parent:
        parent["velocity"] = velocity
    now: rules.Rates = {}
    local = _local_map(setting, rates, setting.communication_period)
    for i in range(p):
        reached, _ = _after(local, begun[i], 0 * begun[i])
        message = core.elastic_difference(reached, begun[i])
        now = center_rule.rates_at(rates.outer, Context(float(i), kept=now))
        parent = center_rule.apply(parent, message, now)
        if overlapped:
            begun[i], pending[i] = pending[i] + message, parent["center"]
        else:
            begun[i] = parent["center"]
    velocity = parent.get("velocity", 0 * velocity)
    return _stacked([*begun, *pending, parent["center"], velocity])


def _admm_map(setting: Setting, rates: Rates) -> Array:
    """A round of ADMM: eqs. 3.52 to 3.54, the second `period` times.

    The center is the mean of the workers' parts from the beginning on.
    """
    p = setting.num_workers
    rows = _unit_rows(rates, 2 * p)
    duals, points = rows[:p], rows[p:]
    parts = np.stack(
        [
            core.admm.contribution(x, dual)
            for x, dual in zip(points, duals, strict=True)
        ]
    )
    center = parts.mean(axis=0)
    alone = setting.communication_period == 1
    first = center
    for i in range(p):
        # With a longer period all have read before the first one pushes.
        read = center if alone else first
        x = points[i]
        dual = core.admm.dual_step(duals[i], x, read)
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(setting.communication_period):
                x = core.admm.proximal_step(
                    x, rates.gradient * x, dual, read, rates.eta, rates.rho
                )
        change = core.admm.contribution(x, dual) - parts[i]
        center = core.push(center, change, 1.0, p)
        duals[i], points[i] = dual, x
    return _stacked([*duals, *points])
