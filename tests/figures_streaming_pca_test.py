"""Figure 1 of the momentum paper, at a few of its points."""

import numpy as np
from matplotlib.figure import Figure

from tf_elastic.figures import streaming_pca as figure
from tf_elastic.theory import streaming_pca


def test_rows_are_settings_and_a_run_that_diverges_is_infinite():
    table = figure.errors(momenta=(0.8, 0.95), delays=(0, 20, 60))
    np.testing.assert_array_equal(table["momentum"], [0.8] * 3 + [0.95] * 3)
    np.testing.assert_array_equal(table["delay"], [0, 20, 60] * 2)
    finite = [True, True, True, True, False, False]
    for column in ("error", "deviation"):
        assert table[column].shape == (6,)
        np.testing.assert_array_equal(np.isfinite(table[column]), finite)
        assert not np.any(np.isnan(table[column]))
    levels = figure.LEARNING_RATE * np.sum(
        streaming_pca.stationary_variance(
            momentum=[0.8, 0.95], covariance=figure.COVARIANCE
        ),
        axis=-1,
    )
    np.testing.assert_allclose(table["error"][[0, 3]], levels, rtol=0.2)
    # A harmless delay costs something: the level rises, and is not left.
    assert 1 < table["error"][1] / table["error"][0] < 1.2

    # Each momentum ends where a run diverges: nothing infinite is drawn.
    canvas = Figure()
    figure.FIGURES[0].draw(table, canvas)
    lengths = [len(line.get_xdata()) for line in canvas.axes[0].lines[::2]]
    assert lengths == [3, 1]


def test_the_setting_is_the_papers():
    np.testing.assert_array_equal(figure.COVARIANCE, np.diag([4, 3, 2, 1]))
    assert figure.LEARNING_RATE == 0.0005
    assert figure.RUNS == 100
    assert figure.MOMENTA == (0.7, 0.8, 0.85, 0.9, 0.95)
    assert {0, 100, 120} <= set(figure.DELAYS)
