"""Figure 5.20 of the thesis: where two workers can stay apart."""

from typing import TYPE_CHECKING

import numpy as np

from tf_elastic.figures.figure import Figure
from tf_elastic.figures.figure import Table
from tf_elastic.theory import nonconvex

if TYPE_CHECKING:
    import matplotlib.figure


def _compute() -> Table:
    elasticity = np.linspace(0, 1, 601)
    split = np.sqrt(1 - elasticity)
    matrices = nonconvex.hessian(np.stack([split, -split], axis=-1), elasticity)
    return {
        "elasticity": elasticity,
        "smallest_eigenvalue": np.linalg.eigvalsh(matrices)[:, 0],
    }


def _draw(table: Table, figure: "matplotlib.figure.Figure") -> None:
    axes = figure.subplots()
    axes.plot(table["elasticity"], table["smallest_eigenvalue"])
    axes.axhline(0, color="black", linewidth=0.8)
    critical = nonconvex.critical_elasticity()
    axes.axvline(critical, color="black", linewidth=0.8, linestyle=":")
    axes.annotate(
        rf"$\rho = {critical:.4f}$",
        (critical, 0),
        xytext=(6, 6),
        textcoords="offset points",
    )
    axes.set_xlim(0, 1)
    axes.set_xlabel(r"penalty $\rho$")
    axes.set_ylabel("smallest eigenvalue of H")
    axes.grid(alpha=0.3)


FIGURES = (
    Figure(
        "thesis-5.20",
        "Smallest eigenvalue of the Hessian (eq. 5.38) at the split of two "
        "workers x = sqrt(1 - rho) = -y, z = 0, against the penalty rho.",
        _compute,
        _draw,
    ),
)
