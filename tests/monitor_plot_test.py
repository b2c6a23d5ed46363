"""`plot_history`: a picture of a run."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import image

from tf_elastic import monitor

RUN = {
    "loss": [2.0, 1.0, 0.5],
    "center_loss": [1.9, 0.8, 0.3],
    "val_loss": [1.9, 0.9, 0.4],
    "accuracy": [0.3, 0.6, 0.8],
    "val_accuracy": [0.4, 0.7, 0.9],
    "elastic_distance": [1.0, 0.6, 0.3],
}


def draw(path, history, **kwargs):
    monitor.plot_history(history, path, **kwargs)
    return image.imread(path)


def has_color(pixels, rgb):
    distance = np.abs(pixels[..., :3] - np.asarray(rgb) / 255).max(axis=-1)
    return (distance < 0.02).sum() > 50


def test_center_workers_and_test_are_drawn(tmp_path):
    path = tmp_path / "new" / "run.png"
    pixels = draw(path, RUN, steps_per_epoch=10, title="A run")
    height, width = pixels.shape[:2]
    assert width > 3 * 400 and height > 300
    for rgb in ((0, 114, 178), (230, 159, 0), (0, 158, 115)):
        assert has_color(pixels, rgb)


def test_a_history_object_is_as_good(tmp_path):
    history = SimpleNamespace(history=dict(RUN), epoch=[0, 1, 2])
    np.testing.assert_array_equal(
        draw(tmp_path / "a.png", history), draw(tmp_path / "b.png", RUN)
    )


def test_epochs_are_numbered_as_told(tmp_path):
    resumed = {**RUN, "epoch": [5, 6, 7]}
    assert not np.array_equal(
        draw(tmp_path / "a.png", resumed), draw(tmp_path / "b.png", RUN)
    )


def test_the_loss_alone_is_enough(tmp_path):
    pixels = draw(tmp_path / "run.png", {"loss": [1.0]})
    assert has_color(pixels, (230, 159, 0))
    assert not has_color(pixels, (0, 114, 178))


def test_a_loss_below_zero_is_drawn(tmp_path):
    draw(tmp_path / "run.png", {"loss": [1.0, -0.5]})


def test_the_center_is_not_drawn_twice(tmp_path):
    """Without `center_data` its loss is the validation's."""
    twice = {**RUN, "center_loss": RUN["val_loss"]}
    assert not has_color(draw(tmp_path / "run.png", twice), (0, 114, 178))


def test_nothing_global_is_touched(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    draw(tmp_path / "run.png", RUN)
    assert "matplotlib.pyplot" not in sys.modules


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="at least one epoch"):
        monitor.plot_history({"accuracy": [1.0]}, tmp_path / "run.png")


def test_another_ending(tmp_path):
    with pytest.raises(ValueError, match=r"must end in '\.png'.*run\.pdf"):
        monitor.plot_history(RUN, tmp_path / "run.pdf")


def test_matplotlib_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"'tf_elastic\[plots\]'"):
        monitor.plot_history(RUN, tmp_path / "run.png")
