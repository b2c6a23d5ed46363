"""The figures of thesis chapter 3: the center on a quadratic, and ADMM."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from tf_elastic import theory
from tf_elastic.figures import drawing
from tf_elastic.figures.figure import Figure
from tf_elastic.figures.figure import Table
from tf_elastic.theory import quadratic
from tf_elastic.theory import round_robin

if TYPE_CHECKING:
    import matplotlib.figure

# Figure 3.1.
_WORKERS = (1, 10, 100, 1000, 10000)
_TIMES = (1.0, 2.0, 10.0, 100.0, np.inf)
_CELLS = 50  # of each axis of a block
# Figures 3.2 and 3.3 (which goes on for about as long as it takes to see).
_ADMM_WORKERS = (3, 8)
_VISITS = 40000


def _centers(low: float, high: float, cells: int) -> NDArray[np.float64]:
    """The middles of equal cells that fill an open interval."""
    return low + (np.arange(cells) + 0.5) * (high - low) / cells


def _center_errors() -> Table:
    axis = _centers(0.0, 2.0, _CELLS)
    p = np.array(_WORKERS)[:, None, None, None]
    t = np.array(_TIMES)[:, None, None]
    beta, learning_rate = axis[:, None], axis
    setting: dict[str, ArrayLike] = {
        "learning_rate": learning_rate,
        "curvature": 1.0,
        "num_workers": p,
        "beta": beta,
    }
    moments = quadratic.center_moments(t, noise=10.0, **setting)
    return drawing.grid_table(
        num_workers=p,
        t=t,
        learning_rate=learning_rate,
        beta=beta,
        stable=quadratic.is_stable(**setting),
        mse=moments.mse,
    )


def _draw_center_errors(
    table: Table, figure: "matplotlib.figure.Figure"
) -> None:
    shape = (len(_WORKERS), len(_TIMES), _CELLS, _CELLS)
    learning_rate = table["learning_rate"].reshape(shape)[0, 0, 0]
    beta = table["beta"].reshape(shape)[0, 0, :, 0]
    # Above the scale, and so of its darkest red, where it diverges.
    error = np.where(table["stable"], table["mse"], np.inf).reshape(shape)
    with np.errstate(divide="ignore"):
        error = np.clip(np.log10(error), -99, 99)
    blocks = figure.subplots(*shape[:2], sharex=True, sharey=True)
    for row, p in enumerate(_WORKERS):
        for column, t in enumerate(_TIMES):
            axes = blocks[row, column]
            mesh = axes.pcolormesh(
                learning_rate,
                beta,
                error[row, column],
                cmap=drawing.COLOR_MAP,
                vmin=-3,
                vmax=3,
                shading="nearest",
                rasterized=True,
            )
            axes.set(xticks=(0, 1, 2), yticks=(0, 1, 2), aspect="equal")
            if row == 0:
                axes.set_title("t = ∞" if np.isinf(t) else f"t = {t:.0f}")
            if row == len(_WORKERS) - 1:
                axes.set_xlabel("η")
            if column == 0:
                axes.set_ylabel(f"p = {p}\nβ = pα")
    figure.colorbar(
        mesh, ax=blocks, label="log10 of the center's mean squared error"
    )


def _admm_radii() -> Table:
    learning_rate = _centers(0.0, 1e-2, 80)
    elasticity = _centers(0.0, 10.0, 80)[:, None]
    radii = [
        theory.spectral_radii(
            round_robin.admm_map(
                learning_rate=learning_rate,
                elasticity=elasticity,
                num_workers=p,
            )
        )
        for p in _ADMM_WORKERS
    ]
    return drawing.grid_table(
        num_workers=np.array(_ADMM_WORKERS)[:, None, None],
        learning_rate=learning_rate,
        elasticity=elasticity,
        spectral_radius=np.array(radii),
    )


def _draw_admm_radii(table: Table, figure: "matplotlib.figure.Figure") -> None:
    panels = figure.subplots(1, len(_ADMM_WORKERS))
    for axes, p in zip(panels, _ADMM_WORKERS, strict=True):
        chosen = table["num_workers"] == p
        drawing.heat_map(
            {name: column[chosen] for name, column in table.items()},
            figure,
            "learning_rate",
            "elasticity",
            "spectral_radius",
            labels=("η", "ρ"),
            contours=[1.0],
            axes=axes,
        )
        axes.set_title(f"sp(F), p = {p}")


def _admm_center() -> Table:
    path = round_robin.admm_path(
        learning_rate=0.001,
        elasticity=2.5,
        num_workers=3,
        steps=_VISITS,
        start=1000.0,
    )
    return {"t": np.arange(len(path)), "center": path[:, -1]}


def _draw_admm_center(table: Table, figure: "matplotlib.figure.Figure") -> None:
    axes = figure.subplots()
    axes.plot(table["t"], table["center"], linewidth=0.4)
    axes.set_xlabel("t (visits of a worker)")
    axes.set_ylabel("center")
    axes.margins(x=0)


FIGURES = (
    Figure(
        "thesis-3.1",
        "The center's mean squared error on a quadratic, for 1 to 10000 "
        "workers, at 1 to infinitely many steps (h = 1, sigma = 10, all start "
        "at 1); darkest red where it diverges.",
        _center_errors,
        _draw_center_errors,
        (11.0, 10.0),
    ),
    Figure(
        "thesis-3.2",
        "The largest absolute eigenvalue of a round of ADMM with 3 and with 8 "
        "workers; the line is where it is 1.",
        _admm_radii,
        _draw_admm_radii,
        (11.0, 4.5),
    ),
    Figure(
        "thesis-3.3",
        "An unstable ADMM: the center from visit to visit, p = 3, "
        "eta = 0.001, rho = 2.5, from 1000.",
        _admm_center,
        _draw_admm_center,
        (11.0, 4.5),
    ),
)
