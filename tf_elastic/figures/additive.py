"""Figures 5.1 to 5.8 of the thesis: additive noise."""

import functools
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tf_elastic import theory
from tf_elastic.figures import drawing
from tf_elastic.figures.figure import Figure
from tf_elastic.figures.figure import Table
from tf_elastic.theory import additive

if TYPE_CHECKING:
    import matplotlib.figure

BETA = 0.9
NOISE = 1e-2
WORKERS = 4
SEED = 5

# Open intervals: no point lies on an end.
ETA = (np.arange(200) + 0.5) / 100
RATE = ((np.arange(200) + 0.5) / 100 - 1)[:, None]

ETA_LABEL = r"learning rate $\eta$"
ALPHA_LABEL = r"moving rate $\alpha$"
DELTA_LABEL = r"momentum rate $\delta$"


def momentum_sgd() -> Table:
    """Figure 5.1: sp(M) of eq. 5.6."""
    matrix = additive.msgd_moment_matrix(
        eta_h=ETA,
        delta_h=additive.nesterov_delta_h(eta_h=ETA, momentum=RATE),
    )
    return drawing.grid_table(
        learning_rate=ETA,
        momentum=RATE,
        spectral_radius=theory.spectral_radii(matrix),
    )


def reduced_elastic() -> Table:
    """Figure 5.2: sp(M) of eq. 5.12."""
    return _over_moving_rates(
        additive.easgd_moment_matrix(eta_h=ETA, moving_rate=RATE, beta=BETA)
    )


def full_elastic() -> Table:
    """Figure 5.6: sp(M_p) of eq. 5.18."""
    return _over_moving_rates(
        additive.easgd_drift_matrix(
            eta_h=ETA, moving_rate=RATE, beta=BETA, num_workers=2
        )
    )


def elastic_momentum() -> Table:
    """Figure 5.8: sp(M_p) of eq. 5.20."""
    return _over_moving_rates(
        additive.eamsgd_drift_matrix(
            eta_h=ETA,
            delta_h=additive.nesterov_delta_h(eta_h=ETA, momentum=0.99),
            moving_rate=RATE,
            beta=BETA,
            num_workers=2,
        )
    )


def _over_moving_rates(matrix: NDArray[np.float64]) -> Table:
    return drawing.grid_table(
        learning_rate=ETA,
        moving_rate=RATE,
        spectral_radius=theory.spectral_radii(matrix),
    )


def _draw_radius(
    table: Table,
    figure: "matplotlib.figure.Figure",
    y: str,
    label: str,
    title: str,
) -> None:
    axes = drawing.heat_map(
        table,
        figure,
        "learning_rate",
        y,
        "spectral_radius",
        labels=(ETA_LABEL, label),
        limits=(0.0, 1.0),
        contours=(1.0,),
    )
    axes.set_xlim(0, 2)
    axes.set_ylim(-1, 1)
    axes.set_title(title)


def simulations(learning_rate: float, steps: int) -> Table:
    """Figures 5.3 and 5.7: squared distances of three centers, two rates."""
    rates = {
        "symmetric": BETA / WORKERS,
        "optimal": float(
            additive.reduced_optimal_moving_rate(eta_h=learning_rate, beta=BETA)
        ),
    }
    columns = {"step": np.arange(steps + 1.0)}
    for name, moving_rate in rates.items():
        center = additive.simulate(
            learning_rate=learning_rate,
            num_workers=WORKERS,
            moving_rate=moving_rate,
            beta=BETA,
            noise=NOISE,
            steps=steps,
            runs=3,
            seed=SEED,
        ).center
        for run in range(3):
            columns[f"{name}_{run + 1}"] = center[:, run] ** 2
    return columns


def _draw_simulations(
    table: Table, figure: "matplotlib.figure.Figure", learning_rate: float
) -> None:
    alpha = additive.reduced_optimal_moving_rate(eta_h=learning_rate, beta=BETA)
    looks = {
        "symmetric": ("tab:blue", r"$\alpha = \beta / p$"),
        "optimal": ("tab:red", rf"$\alpha = {alpha:.4f}$ (eq. 5.17)"),
    }
    axes = figure.subplots()
    for name, (color, label) in looks.items():
        for run in range(3):
            axes.semilogy(
                table["step"],
                table[f"{name}_{run + 1}"],
                color=color,
                linewidth=0.8,
                label=label if run == 0 else None,
            )
    axes.set_xlabel("time step $t$")
    axes.set_ylabel(r"$\tilde{x}_t^2$")
    axes.set_xlim(0, table["step"][-1])
    axes.set_title(
        rf"EASGD, $\eta = {learning_rate}$, $\beta = {BETA}$, $p = {WORKERS}$"
    )
    axes.legend()


def eigenvalues(eta_h: float) -> Table:
    """Figures 5.4 and 5.5: |z_1|, |z_2|, |z_3| of eq. 5.19."""
    alpha = np.linspace(-1, 1, 1001)
    z = np.abs(
        additive.easgd_drift_eigenvalues(
            eta_h=eta_h, moving_rate=alpha, beta=BETA
        )
    )
    return {
        "moving_rate": alpha,
        **{f"z_{i + 1}": z[:, i] for i in range(3)},
    }


def _draw_eigenvalues(
    table: Table, figure: "matplotlib.figure.Figure", eta_h: float
) -> None:
    axes = figure.subplots()
    for i, style in enumerate(("-", "--", "-.")):
        axes.plot(
            table["moving_rate"],
            table[f"z_{i + 1}"],
            style,
            label=f"$|z_{i + 1}|$",
        )
    axes.set_xlabel(ALPHA_LABEL)
    axes.set_ylabel("absolute eigenvalue")
    axes.set_xlim(-1, 1)
    axes.set_ylim(bottom=0)
    axes.set_title(rf"$\eta_h = {eta_h}$, $\beta = {BETA}$")
    axes.legend()


FIGURES = (
    Figure(
        "thesis-5.1",
        "sp(M) of MSGD (5.6) over learning rate and momentum; h = 1",
        momentum_sgd,
        functools.partial(
            _draw_radius,
            y="momentum",
            label=DELTA_LABEL,
            title="sp(M) of MSGD in additive noise case",
        ),
    ),
    Figure(
        "thesis-5.2",
        "sp(M) of EASGD's mean and center (5.12) over learning rate and "
        "moving rate; h = 1, beta = 0.9",
        reduced_elastic,
        functools.partial(
            _draw_radius,
            y="moving_rate",
            label=ALPHA_LABEL,
            title=r"sp(M) of EASGD ($\beta = 0.9$) in additive noise case",
        ),
    ),
    Figure(
        "thesis-5.3",
        "three runs of EASGD with alpha = beta/p and with alpha of 5.17; "
        "h = 1, sigma = 0.01, p = 4, eta = 0.1, beta = 0.9, start 1",
        functools.partial(simulations, 0.1, 250),
        functools.partial(_draw_simulations, learning_rate=0.1),
    ),
    Figure(
        "thesis-5.4",
        "|z_1|, |z_2|, |z_3| of EASGD (5.19) over the moving rate; "
        "eta_h = 0.1, beta = 0.9",
        functools.partial(eigenvalues, 0.1),
        functools.partial(_draw_eigenvalues, eta_h=0.1),
    ),
    Figure(
        "thesis-5.5",
        "|z_1|, |z_2|, |z_3| of EASGD (5.19) over the moving rate; "
        "eta_h = 1.5, beta = 0.9",
        functools.partial(eigenvalues, 1.5),
        functools.partial(_draw_eigenvalues, eta_h=1.5),
    ),
    Figure(
        "thesis-5.6",
        "sp(M_p) of EASGD (5.18) over learning rate and moving rate; h = 1, "
        "beta = 0.9, p = 2 (the same for any p > 1)",
        full_elastic,
        functools.partial(
            _draw_radius,
            y="moving_rate",
            label=ALPHA_LABEL,
            title=r"sp($M_p$) of EASGD ($\beta = 0.9$)",
        ),
    ),
    Figure(
        "thesis-5.7",
        "three runs of EASGD with alpha = beta/p and with alpha of 5.17; "
        "h = 1, sigma = 0.01, p = 4, eta = 1.5, beta = 0.9, start 1",
        functools.partial(simulations, 1.5, 100),
        functools.partial(_draw_simulations, learning_rate=1.5),
    ),
    Figure(
        "thesis-5.8",
        "sp(M_p) of EAMSGD (5.20) over learning rate and moving rate; h = 1, "
        "beta = 0.9, delta = 0.99, p = 2 (the same for any p > 1)",
        elastic_momentum,
        functools.partial(
            _draw_radius,
            y="moving_rate",
            label=ALPHA_LABEL,
            title=r"sp($M_p$) of EAMSGD ($\beta = 0.9$, $\delta = 0.99$)",
        ),
    ),
)
