"""The advisor's sentences, each with its equation and its worth."""

import math

import numpy as np
from numpy.typing import NDArray

from tf_elastic.theory.advise import setting as settings
from tf_elastic.theory.advise.advice import Statement
from tf_elastic.theory.advise.search import Change
from tf_elastic.theory.advise.setting import Setting
from tf_elastic.theory.advise.speed import Workers

_EXACT = (
    "exact on a quadratic of these curvatures without noise, for this period "
    "and protocol with workers in step. A network's curvature changes while "
    "it trains: unstable is unstable, stable is necessary, not enough."
)
_ELASTIC_EQUATIONS = {
    settings.JACOBI: "thesis, eqs. 2.3 and 2.4; condition 3.4",
    settings.GAUSS_SEIDEL: "thesis, eq. 6.3",
    settings.ROUND_ROBIN: "thesis, Algorithms 1 and 2; section 3.3",
    settings.OVERLAPPED: "thesis, section 2.2: a difference is one period old",
}


def equation(setting: Setting) -> str:
    """What the map of a setting rests on."""
    exchange = setting.rule.exchange
    if exchange == settings.ELASTIC:
        return _ELASTIC_EQUATIONS[setting.meeting]
    if setting.name == "AsyncDiLoCo":
        return "Liu et al. (2024), Algorithm 3, momentum once in a round"
    if exchange == settings.UPDATE:
        return "thesis, Algorithm 3; section 6.2"
    if setting.name == "MDownpour":
        return "thesis, Algorithms 4 and 5, with late gradients"
    if setting.name == "SyncSGD":
        return "thesis, eq. 2.6, with the mean of all gradients"
    if exchange == settings.GRADIENT:
        return "Liu et al. (2018), eq. 1.3, on a quadratic"
    if exchange == settings.ADMM:
        return "thesis, eqs. 3.52 to 3.54"
    if setting.name == "DiLoCo":
        return "Douillard et al. (2023), Algorithm 1"
    if exchange == settings.MEAN:
        return "thesis, eq. 6.3 with alpha = beta = 1"
    return "thesis, eq. 2.1 without its elastic term"


def stability(
    setting: Setting, curvatures: NDArray[np.float64], radius: float
) -> Statement:
    """Whether the setting is stable."""
    verdict = "converges" if radius < 1 else "diverges"
    unit = (
        "update of the center"
        if setting.rule.exchange == settings.GRADIENT
        else "local step"
    )
    trust = _EXACT
    if setting.name in ("Elastic", "AsyncDiLoCo"):
        trust += " The inner optimizer is taken for SGD."
    if not setting.steady:
        trust += " Delays are taken to be drawn anew at each update."
    return Statement(
        f"{_described(setting)} {verdict}: the error of the least stable "
        f"curvature ({_range(curvatures)}) is multiplied by {radius:.6g} with "
        f"each {unit}.",
        f"spectral radius of {equation(setting)}",
        trust,
    )


def _described(setting: Setting) -> str:
    p = setting.num_workers
    text = f"{setting.name} with {p} worker{'s' if p > 1 else ''}"
    if setting.rule.exchange != settings.NOTHING:
        text += (
            f", protocol {setting.protocol}, period "
            f"{setting.communication_period}"
        )
    text += f", learning_rate={setting.learning_rate:.6g}"
    if setting.rule.exchange == settings.ELASTIC:
        text += (
            f", moving_rate={setting.moving_rate:.4g}, beta={setting.beta:.4g}"
        )
    if setting.rule.has_momentum:
        text += f", momentum={setting.momentum:.6g}"
    if setting.rule.exchange == settings.GRADIENT or any(setting.delays):
        low, high = min(setting.delays), max(setting.delays)
        late = f"{low}" if low == high else f"{low} to {high}"
        text += f", gradients {late} updates late"
    return text


def _range(curvatures: NDArray[np.float64]) -> str:
    low, high = curvatures[0], curvatures[-1]
    if low == high:
        return f"{low:.4g}"
    return f"of {low:.4g} to {high:.4g}"


def margin(setting: Setting, factor: float) -> Statement:
    """How far the learning rate is from its bound."""
    bound = setting.learning_rate * factor
    if math.isinf(factor):
        text = "A learning rate 4000 times as large would be stable too."
    elif factor == 0:
        text = (
            "No learning rate is stable with this: it is the exchange, or the "
            "momentum, that diverges."
        )
    else:
        text = (
            f"The learning rate's bound is {bound:.4g}, {factor:.3g} times "
            "this one."
        )
    return Statement(text, equation(setting), "that of the first sentence.")


def nearest(setting: Setting, change: Change | None) -> Statement:
    """The nearest stable setting."""
    if change is None:
        text = (
            "No other value of a single argument is stable: start from the "
            "defaults."
        )
        return Statement(text, equation(setting), "searched on a grid.")
    text = f"The nearest stable setting is {change.argument}={change.value:g}"
    if change.argument == "moving_rate" and setting.symmetric:
        text += f" (beta={change.value * setting.num_workers:.4g})"
    return Statement(
        f"{text}.",
        equation(setting),
        "on the bound but for a hundredth: nearly as slow as diverging is "
        "fast. Go further.",
    )


def momentum(setting: Setting, best: float | None) -> Statement | None:
    """The best momentum for the delay."""
    if not setting.rule.has_momentum:
        return None
    late = (
        setting.rule.exchange == settings.GRADIENT
        and setting.meeting != settings.GAUSS_SEIDEL
    )
    if best is None:
        text = "No momentum is stable here, not even 0."
    else:
        text = (
            f"The best momentum {'for this delay ' if late else ''}is "
            f"{best:g}: the slowest curvature converges fastest."
        )
    return Statement(
        text,
        f"{equation(setting)}: by the spectrum, in place of the order "
        "(1 - mu)^2 / sqrt(eta) of Liu et al., Remark 3.11"
        if late
        else "thesis, section 5.1 (eq. 5.8 for one worker), by the spectrum",
        "the speed of a quadratic without noise, of the curvatures given: with "
        "only the largest one known take it for a lower bound. With noise a "
        "lower momentum ends closer to the optimum.",
    )


def _beyond(count: int) -> str:
    return f"Beyond {count} worker{'s' if count > 1 else ''}"


def workers(
    setting: Setting, useful: Workers, input_shape: float
) -> Statement | None:
    """How many workers still help."""
    count = useful.num_workers
    if useful.model == "none":
        return None
    if useful.model == "multiplicative":
        text = (
            f"{_beyond(count)} the model predicts no gain in speed."
            if count
            else "Under noisy curvature this learning rate converges for no "
            "number of workers, or any more of them help."
        )
        return Statement(
            text,
            "thesis, section 5.2.3, eq. 5.34 (with momentum its extension); "
            f"Gamma curvature of shape {input_shape:g}",
            "an order of magnitude, for the first phase of training: one "
            "curvature, all workers exchanging at each step, 5 % of the speed "
            "left aside.",
        )
    if useful.model == "mini-batch":
        text = (
            f"{_beyond(count)} the model predicts no gain in speed."
            if count
            else "The model has no bound on the workers that help here."
        )
        return Statement(
            text,
            "thesis, section 5.2.1 (mini-batches), with a period: m1^(2 tau) "
            f"(1 - 1/p) + m2^tau / p; Gamma curvature of shape "
            f"{input_shape:g}",
            "an order of magnitude, for the first phase of training; without "
            "momentum. Near the end more workers always lower the noise.",
        )
    text = (
        f"{_beyond(count)} the model predicts no gain in speed: what "
        "they add is too late, or too much."
        if count
        else "The model has no bound on the workers that help here, or nothing "
        "converges."
    )
    return Statement(
        text,
        equation(setting),
        "a quadratic without noise at this learning rate; a smaller one lets "
        "more workers help.",
    )
