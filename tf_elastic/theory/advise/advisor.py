"""The advisor: what the theory says of a setting."""

import numpy as np
from numpy.typing import ArrayLike

from tf_elastic.theory import _checks
from tf_elastic.theory.advise import search
from tf_elastic.theory.advise import sentences
from tf_elastic.theory.advise import setting as settings
from tf_elastic.theory.advise import speed
from tf_elastic.theory.advise.advice import Advice
from tf_elastic.theory.advise.period_map import radii


def advise(
    *,
    rule: str = "EASGD",
    learning_rate: float,
    curvature: float | tuple[float, float] | ArrayLike,
    num_workers: int = 4,
    protocol: str | None = None,
    communication_period: int | None = None,
    moving_rate: float | None = None,
    beta: float | None = None,
    momentum: float | None = None,
    nesterov: bool | None = None,
    staleness: ArrayLike | None = None,
    elasticity: float = 1.0,
    outer_learning_rate: float = 0.7,
    outer_momentum: float = 0.9,
    input_shape: float = 0.5,
) -> Advice:
    r"""Says whether a setting is stable, and what to do if it is not.

    The decision is the spectral radius of the map that a period of training is
    on a quadratic: of all workers and the center, with the period, the
    momentum, the protocol's delay and the staleness of gradients. No closed
    form with a smaller reach is used, and no term is neglected.

    Args:
        rule: the optimizer's name: one of `advise.setting.RULES`.
        learning_rate: :math:`\eta`, positive.
        curvature: h, positive: a tuple of the smallest and the largest
            eigenvalue of the Hessian (see `monitor.largest_curvature`), between
            which more are looked at; a list or an array of eigenvalues; or a
            single one. What is not named is not looked at, and an exchange is
            often the least stable where the curvature is small.
        num_workers: p, at least 1.
        protocol: how workers and center meet: in one process "jacobi",
            "gauss_seidel" or "round_robin", in a cluster "overlapped",
            "blocking" or "synchronous". Default: the method's first.
        communication_period: :math:`\tau`, local steps. Default: the
            optimizer's.
        moving_rate: :math:`\alpha`, of elastic methods. Default: beta / p.
        beta: :math:`\beta`. Default: p * moving_rate, or 0.9. With both given
            the elastic symmetry is not kept.
        momentum: :math:`\delta` or :math:`\mu`, in [0, 1), of the local step,
            or of the center where gradients are pushed. Default: the
            optimizer's.
        nesterov: whether a local step's gradient is taken ahead. Default: with
            EAMSGD. MDownpour always does, AsyncMSGD never.
        staleness: updates of the center between a worker's read and its push:
            an expected number, or a sequence of measured ones. Where gradients
            are pushed it is by default what equal workers have, p - 1,
            overlapped 2 p - 1. Elsewhere the center is by default read when it
            is pushed to; only "blocking" and "round_robin" heed it, and of
            measured ones the latest in twenty counts.
        elasticity: :math:`\rho > 0`, of ADMM.
        outer_learning_rate: :math:`\eta_o > 0`, of DiLoCo and AsyncDiLoCo.
        outer_momentum: of these, in [0, 1).
        input_shape: :math:`\lambda > 0` of the Gamma distribution of the
            curvature that a single sample has, for the number of workers that
            help; 1/2 for normal inputs.

    Returns:
        `Advice`; `str` of it is for reading.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> advice = advise(
    ...     rule="AsyncMSGD", learning_rate=0.01, num_workers=16,
    ...     momentum=0.9, curvature=2.0,
    ... )
    >>> advice.stable, round(advice.margin, 3), advice.nearest_stable
    (False, 0.396, Change(argument='momentum', value=0.770276))
    >>> advise(
    ...     rule="AsyncMSGD", learning_rate=0.01, num_workers=16,
    ...     momentum=0.7, curvature=2.0,
    ... ).stable
    True

    Reference:
        Zhang (2016), chapters 3, 5 and 6; Liu et al. (2018). Each sentence
        names its own.
    """
    setting = settings.make_setting(
        rule=rule,
        protocol=protocol,
        num_workers=num_workers,
        communication_period=communication_period,
        learning_rate=learning_rate,
        moving_rate=moving_rate,
        beta=beta,
        momentum=momentum,
        nesterov=nesterov,
        elasticity=elasticity,
        outer_learning_rate=outer_learning_rate,
        outer_momentum=outer_momentum,
        staleness=staleness,
    )
    curvatures = settings.make_curvatures(curvature)
    _checks.positive(input_shape=input_shape)
    radius = float(np.max(radii(setting, curvatures)))
    stable = radius < 1
    margin = search.learning_rate_margin(setting, curvatures)
    nearest = None if stable else search.nearest_stable(setting, curvatures)
    best = speed.best_momentum(setting, curvatures)
    useful = speed.useful_workers(setting, curvatures, input_shape)
    statements = (
        sentences.stability(setting, curvatures, radius),
        sentences.margin(setting, margin),
        None if stable else sentences.nearest(setting, nearest),
        sentences.momentum(setting, best),
        sentences.workers(setting, useful, input_shape),
    )
    return Advice(
        stable,
        radius,
        margin,
        nearest,
        best,
        useful.num_workers,
        tuple(s for s in statements if s is not None),
    )
