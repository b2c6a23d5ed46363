"""All figures, in the order of the papers."""

import importlib

from tf_elastic.figures.figure import Figure

# Each has its figures in `FIGURES`.
_MODULES: tuple[str, ...] = (
    "chapter_3",
    "trained.curves",
    "trained.levels",
    "trained.tables",
    "additive",
    "multiplicative",
    "nonconvex",
    "chapter_6",
    "trained.trees",
    "streaming_pca",
    "trained.momentum",
    "delay_equations",
)


def all_figures() -> dict[str, Figure]:
    """The figures by name, in the order of the papers."""
    figures: dict[str, Figure] = {}
    for name in _MODULES:
        module = importlib.import_module(f"tf_elastic.figures.{name}")
        for figure in module.FIGURES:
            if figure.name in figures:
                raise ValueError(f"Two figures are named {figure.name!r}.")
            figures[figure.name] = figure
    return figures
