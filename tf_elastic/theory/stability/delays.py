"""Warnings of what a delay makes of a setting, before it trains.

The curvature is not known then. So what is warned of are settings that bear
almost none: far less than they would without the delay, or than any network
has.
"""

import warnings

import numpy as np

from tf_elastic.theory.advise import search
from tf_elastic.theory.advise import setting as settings
from tf_elastic.theory.stability.exchanges import StabilityWarning

# A network's largest curvature is rarely below 1: the digits' is about 10.
LEAST_CURVATURE = 0.1
# Of the curvature that is borne without a delay. Sound settings keep nearly
# all of it, those that a delay breaks less than a twentieth.
LEAST_SHARE = 0.1
_HARMLESS = 0.25  # a moving rate that no delay of a period breaks


def warn_if_late(
    rule: str,
    *,
    learning_rate: float,
    momentum: float,
    num_workers: int,
    protocol: str,
) -> None:
    """Warns if a center's momentum is too high for the expected staleness.

    Args:
        rule: "AsyncMSGD" or "MDownpour".
        learning_rate: positive; with 0 nothing moves.
        momentum: of the center, in [0, 1).
        num_workers: p.
        protocol: as in `advise`.

    Warns:
        StabilityWarning: it diverges even where the curvature is
            `LEAST_CURVATURE`.
    """
    if learning_rate <= 0:
        return
    setting = _setting(
        rule=rule,
        protocol=protocol,
        num_workers=num_workers,
        learning_rate=learning_rate,
        momentum=momentum,
    )
    least = np.array([LEAST_CURVATURE])
    if search.is_stable(setting, least)[0]:
        return
    borne = LEAST_CURVATURE * search.learning_rate_margin(setting, least)
    change = search.nearest_stable(setting, least)
    _warn(
        f"momentum={momentum:.6g} with learning_rate={learning_rate:.6g} is "
        f"too high for {num_workers} workers, whose gradients are "
        f"{max(setting.delays)} updates late: it diverges wherever the loss is "
        f"curved by more than {borne:.3g}, and networks are by more than "
        f"{LEAST_CURVATURE:g}.",
        change,
    )


def warn_if_overlap_swings(
    rule: str,
    *,
    num_workers: int,
    communication_period: int,
    moving_rate: float,
    beta: float,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> None:
    """Warns if a difference that is a period old makes the center swing.

    Args:
        rule: "EASGD", "EAMSGD" or "Elastic".
        num_workers: p.
        communication_period: tau.
        moving_rate: alpha.
        beta: beta.
        momentum: of the local step, in [0, 1).
        nesterov: whether it is Nesterov's.

    Warns:
        StabilityWarning: with the overlapped protocol it bears less than
            `LEAST_SHARE` of the curvature that it bears without.
    """
    if moving_rate <= _HARMLESS:
        return  # as of 4 workers or more: saves the search
    prompt, late = (
        _setting(
            rule=rule,
            protocol=protocol,
            num_workers=num_workers,
            communication_period=communication_period,
            learning_rate=1.0,
            moving_rate=moving_rate,
            beta=beta,
            momentum=momentum,
            nesterov=nesterov,
        )
        for protocol in ("blocking", "overlapped")
    )
    # With a learning rate of 1 its margin at a curvature of 1 is the bound.
    bound = _bound(prompt)
    least = np.array([LEAST_SHARE * bound])
    if bound == 0 or search.is_stable(late, least)[0]:
        return
    symmetric = np.isclose(beta, num_workers * moving_rate, rtol=1e-6)
    late = late._replace(symmetric=bool(symmetric))
    factors = np.geomspace(1, 1e-2, 200)[1:]
    stable = search.is_stable(
        late.changed("moving_rate", moving_rate * factors), least
    )
    change = None
    if stable.any():
        value = float(f"{moving_rate * factors[stable.argmax()]:.3g}")
        change = search.Change("moving_rate", value)
    _warn(
        f"moving_rate={moving_rate:.6g} (beta={beta:.6g}) with {num_workers} "
        f"worker{'s' if num_workers > 1 else ''} makes the center swing: with "
        "protocol='overlapped' a difference is one period old when it is "
        f"applied, and learning_rate * curvature must stay below "
        f"{_bound(late):.3g} (with 'blocking' {bound:.3g}).",
        change,
        num_workers if symmetric else None,
    )


def _setting(
    *,
    rule: str,
    protocol: str,
    num_workers: int,
    learning_rate: float,
    momentum: float,
    communication_period: int | None = None,
    moving_rate: float | None = None,
    beta: float | None = None,
    nesterov: bool | None = None,
) -> settings.Setting:
    return settings.make_setting(
        rule=rule,
        protocol=protocol,
        num_workers=num_workers,
        communication_period=communication_period,
        learning_rate=learning_rate,
        moving_rate=moving_rate,
        beta=beta,
        momentum=momentum,
        nesterov=nesterov,
        elasticity=1.0,
        outer_learning_rate=1.0,
        outer_momentum=0.0,
        staleness=None,
    )


def _bound(setting: settings.Setting) -> float:
    """The learning rate times curvature up to which a setting is stable."""
    small = setting.changed("learning_rate", 1e-3)
    return 1e-3 * search.learning_rate_margin(small, np.ones(1))


def _warn(
    message: str,
    change: search.Change | None,
    num_workers: int | None = None,
) -> None:
    if change is not None:
        message += (
            f" The nearest stable value is {change.argument}={change.value:g}"
        )
        if num_workers is not None:
            message += f" (beta={change.value * num_workers:.3g})"
        message += "."
    warnings.warn(message, StabilityWarning, stacklevel=4)
