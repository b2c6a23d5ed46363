"""Where a setting turns stable: the nearest value of each argument."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tf_elastic.theory.advise import setting as settings
from tf_elastic.theory.advise.period_map import radii
from tf_elastic.theory.advise.setting import Setting

Array = NDArray[np.float64]

_OCTAVES = 12  # how far an argument is sought up and down, in factors of two
_PER_OCTAVE = 4
_FACTORS: Array = 2.0 ** (
    np.arange(1, _OCTAVES * _PER_OCTAVE + 1) / _PER_OCTAVE
)
_SECTIONS = 16  # into which a step is cut, and again
_ROUNDS = 3
_DIGITS = 4
_INSIDE = 0.01  # how far inside of the bound a value is named, as a share


class Change(NamedTuple):
    """Another value of an argument."""

    argument: str
    value: float


def is_stable(setting: Setting, curvatures: Array) -> NDArray[np.bool_]:
    """Whether every curvature converges; for each of n settings, shape (n,)."""
    stable: NDArray[np.bool_] = np.all(radii(setting, curvatures) < 1, axis=1)
    return stable


def learning_rate_margin(setting: Setting, curvatures: Array) -> float:
    """By what the learning rate may be multiplied before it diverges.

    Returns:
        Above 1 if the setting is stable: it is, up to this factor. Else the
        nearest factor below 1 that is stable, or 0.
    """
    if is_stable(setting, curvatures)[0]:
        return _first(setting, "learning_rate", _FACTORS, curvatures, False)
    found = _first(setting, "learning_rate", 1 / _FACTORS, curvatures, True)
    return 0.0 if math.isinf(found) else found


def nearest_stable(setting: Setting, curvatures: Array) -> Change | None:
    """The smallest change of one argument that makes a setting stable.

    The size of a change is that of its ratio, of a momentum the ratio of
    1 - momentum.
    """
    best, least = None, math.inf
    for argument in _arguments(setting):
        for factors in (1 / _FACTORS, _FACTORS):
            factor = _first(setting, argument, factors, curvatures, True)
            size = abs(math.log(factor)) if 0 < factor < math.inf else math.inf
            if size >= least:
                continue
            value = _named(setting, argument, factor, curvatures)
            if value is not None:
                best, least = Change(argument, value), size
    for period in _shorter_periods(setting):
        size = math.log(setting.communication_period / period)
        if size >= least:
            break
        changed = setting.changed("communication_period", period)
        if is_stable(changed, curvatures)[0]:
            best, least = Change("communication_period", period), size
    return best


def _arguments(setting: Setting) -> list[str]:
    """What a reader may turn, of numbers."""
    rule, names = setting.rule, ["learning_rate"]
    if rule.exchange == settings.ELASTIC:
        if setting.moving_rate > 0:
            names.append("moving_rate")
        if setting.beta > 0 and not setting.symmetric:
            names.append("beta")
    if rule.has_momentum and setting.momentum > 0:
        names.append("momentum")
    if rule.exchange == settings.ADMM:
        names.append("elasticity")
    if rule.has_outer_rates:
        names.append("outer_learning_rate")
        if setting.outer_momentum > 0:
            names.append("outer_momentum")
    return names


def _shorter_periods(setting: Setting) -> list[int]:
    tau, period = setting.communication_period, 1
    periods = []
    while period < tau:
        periods.append(period)
        period = max(period + 1, period * 5 // 4)
    return periods[::-1]


def _turned(setting: Setting, argument: str, factors: Array) -> Array:
    """The values of an argument; of a momentum 1 - momentum is multiplied."""
    present = float(getattr(setting, argument))
    if not argument.endswith("momentum"):
        return present * factors
    return np.clip(1 - (1 - present) * factors, 0.0, None)


def _stable_at(
    setting: Setting, argument: str, factors: Array, curvatures: Array
) -> NDArray[np.bool_]:
    values = _turned(setting, argument, factors)
    return is_stable(setting.changed(argument, values), curvatures)


def _first(
    setting: Setting,
    argument: str,
    factors: Array,
    curvatures: Array,
    stable: bool,
) -> float:
    """The first factor at which a setting is stable, or is not.

    Args:
        setting: one.
        argument: what is multiplied.
        factors: away from 1; between two of them it is cut finer.
        curvatures: shape (m,).
        stable: what is sought.

    Returns:
        The factor, infinite if there is none: up to rounding the one next to
        the bound on the side that is sought.
    """
    before, here = 1.0, math.inf
    # Octave by octave: the bound is often near.
    for chunk in np.split(factors, _OCTAVES):
        hits = _stable_at(setting, argument, chunk, curvatures) == stable
        if hits.any():
            first = int(np.argmax(hits))
            here = float(chunk[first])
            before = float(chunk[first - 1]) if first else before
            break
        before = float(chunk[-1])
    if math.isinf(here):
        return here
    for _ in range(_ROUNDS):
        finer = np.geomspace(before, here, _SECTIONS + 1)[1:]
        hits = _stable_at(setting, argument, finer, curvatures) == stable
        first = int(np.argmax(hits)) if hits.any() else _SECTIONS - 1
        before = float(finer[first - 1]) if first else before
        here = float(finer[first])
    return here


def _named(
    setting: Setting, argument: str, factor: float, curvatures: Array
) -> float | None:
    """A stable value of few digits, a little inside of the bound."""
    digits = 6 if argument.endswith("momentum") else _DIGITS
    inside = factor * ((1 - _INSIDE) if factor < 1 else (1 + _INSIDE))
    for turned in _turned(setting, argument, np.array([inside, factor])):
        for value in (float(f"{turned:.{digits}g}"), float(turned)):
            if is_stable(setting.changed(argument, value), curvatures)[0]:
                return value
    return None
