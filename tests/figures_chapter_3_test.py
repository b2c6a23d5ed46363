"""What the thesis says about the figures of its chapter 3."""

import numpy as np

from tf_elastic import figures
from tf_elastic.figures import chapter_3


def table(name):
    return figures.all_figures()[name].compute()


def test_they_are_in_the_catalog():
    assert [figure.name for figure in chapter_3.FIGURES] == [
        "thesis-3.1",
        "thesis-3.2",
        "thesis-3.3",
    ]
    assert all(
        figures.all_figures()[figure.name] is figure
        for figure in chapter_3.FIGURES
    )


def test_workers_lower_the_error_and_widen_the_region():
    numbers = table("thesis-3.1")
    shape = (5, 5, 50, 50)  # workers, times, beta, learning rate
    mse, stable = (numbers[name].reshape(shape) for name in ("mse", "stable"))
    # The center has seen the start alone.
    np.testing.assert_allclose(mse[:, 0], 1, rtol=1e-12)
    assert (np.diff(stable.mean(axis=(1, 2, 3))) > 0).all()
    # In the end it falls nearly as 1 / p.
    falls = mse[1:, 4, 10, 20] * [10, 100, 1000, 10000] / mse[0, 4, 10, 20]
    assert (falls > 0.5).all() and (falls < 2).all()
    assert np.isinf(mse[:, 4][~stable[:, 4]]).all()
    assert not stable[0, 0, -1, -1]  # "the upper-right corners"
    assert stable[4, 0, 0, 0]


def test_admm_is_unstable_at_small_learning_rates():
    numbers = table("thesis-3.2")
    unstable = numbers["spectral_radius"] > 1
    for p in (3, 8):
        rates = numbers["learning_rate"][numbers["num_workers"] == p]
        of_p = unstable[numbers["num_workers"] == p]
        assert 0.05 < of_p.mean() < 0.5
        assert rates[of_p].max() < 0.0065
    # The point of Figure 3.3 is in both regions.
    near = (abs(numbers["learning_rate"] - 0.001) < 1e-4) & (
        abs(numbers["elasticity"] - 2.5) < 0.1
    )
    assert unstable[near].all() and near.sum() >= 4


def test_the_center_of_admm_leaves_where_it_began():
    center = table("thesis-3.3")["center"]
    assert center[0] == 1000
    assert abs(center[15000:18000]).max() < 100
    assert abs(center[-1000:]).max() > 10000
