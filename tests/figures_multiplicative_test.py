"""The places of the lowest values, as the thesis prints them."""

import numpy as np
import pytest

from tf_elastic.figures import multiplicative

FIGURES = {figure.name: figure for figure in multiplicative.FIGURES}


@pytest.mark.parametrize(
    ("number", "column", "value", "eta", "radius"),
    [
        ("5.15", "num_workers", 6, 0.3814, 0.5742),
        ("5.16", "num_workers", 7, 0.5225, 0.4317),
        ("5.17", "num_workers", 9, 0.6647, 0.2945),
        ("5.18", "num_workers", 29, 0.8929, 0.0868),
        ("5.19", "moving_rate", 0.2525, 0.4343, 0.5024),
    ],
)
def test_lowest_is_where_the_thesis_has_it(number, column, value, eta, radius):
    """To the last digit, since the grids are the thesis' own."""
    table = FIGURES[f"thesis-{number}"].compute()
    lowest = np.argmin(table["radius"])
    assert round(float(table["radius"][lowest]), 4) == radius
    assert round(float(table["learning_rate"][lowest]), 4) == eta
    assert round(float(table[column][lowest]), 4) == value


@pytest.mark.parametrize(
    ("number", "radius"), [("5.10", 0.6667), ("5.11", 0.5), ("5.12", 0.3333)]
)
def test_lowest_of_msgd(number, radius):
    table = FIGURES[f"thesis-{number}"].compute()
    assert round(float(table["radius"].min()), 4) == radius


def test_figure_5_13_is_lowest_without_momentum():
    table = FIGURES["thesis-5.13"].compute()
    for spread, radius in ((0.5, 0.6667), (1.0, 0.5), (2.0, 0.3333)):
        rows = table["shape"] == spread
        lowest = np.argmin(table["radius"][rows])
        assert round(float(table["radius"][rows][lowest]), 4) == radius
        assert abs(table["momentum"][rows][lowest]) < 1e-12
