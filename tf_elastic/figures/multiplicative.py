"""Figures 5.9 to 5.19 of the thesis: multiplicative noise."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tf_elastic.figures.drawing import grid_table
from tf_elastic.figures.drawing import heat_map
from tf_elastic.figures.figure import Figure
from tf_elastic.figures.figure import Table
from tf_elastic.theory import multiplicative

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

_ETA = r"learning rate $\eta$"
_DELTA = r"momentum rate $\delta$"
_RADIUS = "largest absolute eigenvalue of M"
# What is darkest red is not stable: differences above 1 matter to nobody, and
# would leave few colors for those below.
_COLORS = (0.0, 1.0)
_BETA = 0.9

# The thesis' own: the places that it prints are points of these grids. The
# learning rate 0 is left out: nothing moves there, and the radius is 1.
_RATES = np.linspace(0, 1, 100)[1:]
_FROM_MINUS_1_TO_1 = np.linspace(-1, 1, 100)
_WORKERS = np.arange(1, 65)


def _density() -> Table:
    value = np.geomspace(1e-3, 10, 301)
    p = np.array([1, 2, 4])[:, None]
    return grid_table(
        num_workers=p,
        value=value,
        density=multiplicative.input_density(
            value, shape=0.5, rate=0.5, num_workers=p
        ),
    )


def _draw_density(table: Table, figure: "matplotlib.figure.Figure") -> None:
    axes = figure.subplots()
    for p in (1, 2, 4):
        rows = table["num_workers"] == p
        axes.plot(table["value"][rows], table["density"][rows], label=f"p={p}")
    axes.set(xscale="log", yscale="log", xlim=(1e-3, 10), ylim=(1e-5, 100))
    axes.set_xlabel(r"$\xi$")
    axes.set_ylabel("probability density")
    axes.legend(title=r"$\Gamma(p \lambda, p \omega)$")


def _msgd(spread: float) -> Callable[[], Table]:
    def compute() -> Table:
        momentum = _FROM_MINUS_1_TO_1[:, None]
        return grid_table(
            learning_rate=_RATES,
            momentum=momentum,
            radius=multiplicative.msgd_radius(
                learning_rate=_RATES,
                momentum=momentum,
                shape=spread,
                rate=spread,
            ),
        )

    return compute


def _msgd_at_best_rate() -> Table:
    spread = np.array([0.5, 1.0, 2.0])[:, None]
    momentum = np.linspace(-1, 1, 401)
    eta = multiplicative.optimal_learning_rate(shape=spread, rate=spread)
    return grid_table(
        shape=spread,
        rate=spread,
        learning_rate=eta,
        momentum=momentum,
        radius=multiplicative.msgd_radius(
            learning_rate=eta, momentum=momentum, shape=spread, rate=spread
        ),
    )


def _draw_at_best_rate(
    table: Table, figure: "matplotlib.figure.Figure"
) -> None:
    axes = figure.subplots()
    for spread in np.unique(table["shape"]):
        rows = table["shape"] == spread
        axes.plot(
            table["momentum"][rows],
            table["radius"][rows],
            label=rf"$\lambda = {spread:g}, \omega = {spread:g}$, "
            rf"$\eta = {table['learning_rate'][rows][0]:.4f}$",
        )
    axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlim(-1, 1)
    axes.set_xlabel(_DELTA)
    axes.set_ylabel(_RADIUS)
    axes.legend()


_PANELS = ((1.0, 0.0), (0.1, 0.0), (0.1, 0.9))


def _input_map() -> Table:
    axis = np.linspace(0, 100, 101)[1:]
    eta, delta = np.array(_PANELS).T[..., None, None]
    shape = axis[:, None]
    return grid_table(
        learning_rate=eta,
        momentum=delta,
        rate=axis,
        shape=shape,
        radius=multiplicative.msgd_radius(
            learning_rate=eta, momentum=delta, shape=shape, rate=axis
        ),
    )


def _draw_input_map(table: Table, figure: "matplotlib.figure.Figure") -> None:
    for axes, (eta, delta) in zip(figure.subplots(1, 3), _PANELS, strict=True):
        rows = (table["learning_rate"] == eta) & (table["momentum"] == delta)
        heat_map(
            {name: column[rows] for name, column in table.items()},
            figure,
            "rate",
            "shape",
            "radius",
            labels=(r"rate $\omega$", r"shape $\lambda$"),
            limits=_COLORS,
            contours=(1.0,),
            axes=axes,
        )
        axes.set_title(rf"$\eta = {eta:g}$, $\delta = {delta:g}$")


def _easgd(spread: float, highest: float) -> Callable[[], Table]:
    def compute() -> Table:
        rates = np.linspace(0, highest, 1000)[1:]
        p = _WORKERS[:, None]
        return grid_table(
            learning_rate=rates,
            num_workers=p,
            radius=multiplicative.elastic_radius(
                learning_rate=rates,
                num_workers=p,
                beta=_BETA,
                shape=spread,
                rate=spread,
            ),
        )

    return compute


def _moving_rates() -> Table:
    moving_rate = _FROM_MINUS_1_TO_1[:, None]
    return grid_table(
        learning_rate=_RATES,
        moving_rate=moving_rate,
        radius=multiplicative.elastic_radius(
            learning_rate=_RATES,
            moving_rate=moving_rate,
            num_workers=100,
            beta=_BETA,
            shape=0.5,
            rate=0.5,
        ),
    )


def _draw_map(column: str, symbol: str, label: str) -> Callable[..., None]:
    def draw(table: Table, figure: "matplotlib.figure.Figure") -> None:
        axes = heat_map(
            table,
            figure,
            "learning_rate",
            column,
            "radius",
            labels=(_ETA, label),
            limits=_COLORS,
            contours=(1.0,),
        )
        _mark_lowest(axes, table, column, symbol)

    return draw


def _mark_lowest(
    axes: "matplotlib.axes.Axes", table: Table, column: str, symbol: str
) -> None:
    lowest = np.argmin(table["radius"])
    eta, other = table["learning_rate"][lowest], table[column][lowest]
    axes.plot(eta, other, "w+", markersize=12, markeredgewidth=2)
    axes.set_title(
        rf"lowest: {table['radius'][lowest]:.4f} at $\eta = {eta:.4f}$, "
        rf"${symbol} = {other:.4g}$"
    )


def _msgd_figure(number: int, spread: float) -> Figure:
    return Figure(
        f"thesis-5.{number}",
        f"{_RADIUS[0].upper()}{_RADIUS[1:]} (eq. 5.30, MSGD) against learning "
        f"rate and momentum, lambda = omega = {spread:g}. Colors end at 1, "
        "where the line is.",
        _msgd(spread),
        _draw_map("momentum", r"\delta", _DELTA),
    )


def _easgd_figure(number: int, spread: float, highest: float) -> Figure:
    return Figure(
        f"thesis-5.{number}",
        f"{_RADIUS[0].upper()}{_RADIUS[1:]} (eq. 5.34, EASGD) against learning "
        f"rate and number of workers, lambda = omega = {spread:g}, beta = "
        f"{_BETA}, alpha = beta / p. Colors end at 1, where the line is.",
        _easgd(spread, highest),
        _draw_map("num_workers", "p", "number of workers $p$"),
    )


FIGURES = (
    Figure(
        "thesis-5.9",
        "Density of the Gamma distribution that mini-batches of p = 1, 2 and "
        "4 see, lambda = omega = 1/2.",
        _density,
        _draw_density,
    ),
    _msgd_figure(10, 0.5),
    _msgd_figure(11, 1.0),
    _msgd_figure(12, 2.0),
    Figure(
        "thesis-5.13",
        f"{_RADIUS[0].upper()}{_RADIUS[1:]} (eq. 5.30, MSGD) against momentum "
        "at the learning rate omega / (lambda + 1), lambda = omega = 0.5, 1 "
        "and 2.",
        _msgd_at_best_rate,
        _draw_at_best_rate,
    ),
    Figure(
        "thesis-5.14",
        f"{_RADIUS[0].upper()}{_RADIUS[1:]} (eq. 5.30, MSGD) against the "
        "input's Gamma distribution, for three pairs of learning rate and "
        "momentum. Colors end at 1, where the line is.",
        _input_map,
        _draw_input_map,
        (14.0, 4.2),
    ),
    _easgd_figure(15, 0.5, 1.0),
    _easgd_figure(16, 1.0, 1.0),
    _easgd_figure(17, 2.0, 1.0),
    _easgd_figure(18, 10.0, 2.0),
    Figure(
        "thesis-5.19",
        f"{_RADIUS[0].upper()}{_RADIUS[1:]} (eq. 5.34, EASGD) against learning "
        f"rate and moving rate, lambda = omega = 0.5, beta = {_BETA}, p = 100. "
        "Colors end at 1, where the line is.",
        _moving_rates,
        _draw_map("moving_rate", r"\alpha", r"moving rate $\alpha$"),
    ),
)
