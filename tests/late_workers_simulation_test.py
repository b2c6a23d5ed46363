"""The simulation that the default of `max_lag` was measured by is right."""

import importlib
import sys

import numpy as np
import pytest

from benchmarks import _late_workers as simulation
from tests import source_tree as tree
from tf_elastic.core import lateness

P = 3
BOUNDS = (None, 2, 3, 5)


class Bowl:
    """0.5 |x - a_i|^2, of the number that was drawn."""

    size = 2

    def __len__(self):
        return 7

    def start(self, seed):
        return np.array([3.0, -2.0]) + seed

    def loss(self, flat):
        return (flat**2).sum(-1) / 2

    def gradient(self, flat, batch):
        return flat - self.middle(batch)[:, None, None]

    def middle(self, batch):
        return batch.mean(-1) / 7


def replayed(method, order, late, period, seed=0, problem=None):
    replay = simulation.Replay(
        problem or Bowl(), method, P, period, seed, len(late)
    )
    for k, i in enumerate(order):
        replay.exchange(i, late[:, k])
    return replay


@pytest.mark.parametrize("p", [2, 3, 16])
@pytest.mark.parametrize("period", [1, 10])
def test_equal_workers_are_never_late(p, period):
    order = simulation.arrivals("equal", p, period, 50, seed=0)
    found = simulation.late_ones(order, p, (1, 1.5, 2, None))
    assert not found.late.any()
    assert (found.lag[:, p:] == 1).all()


@pytest.mark.parametrize("slowness", [2, 5, 20])
def test_a_slow_worker_has_a_lag_of_how_slow_it_is(slowness):
    order = simulation.arrivals(f"slow_{slowness}", 16, 1, 400, seed=0)
    lag = simulation.late_ones(order, 16, (None,)).lag[0, order == 0][1:]
    np.testing.assert_allclose(np.median(lag), slowness, rtol=0.1)


def test_who_was_away_has_the_lag_of_its_absence():
    order = simulation.arrivals("equal", 4, 10, 60, seed=0, away=(5, 30))
    lag = simulation.late_ones(order, 4, (None,)).lag[0, order == 0]
    assert lag.max() == 31
    assert sorted(lag)[-2] == 1


@pytest.mark.parametrize("speeds", ["heavy_tailed", "slow_5"])
def test_lateness_is_counted_as_it_is_defined(speeds):
    """Versions since the last exchange, by looking back at each arrival."""
    order = simulation.arrivals(speeds, P, 1, 200, seed=1)
    found = simulation.late_ones(order, P, BOUNDS)
    for bound, late, lag in zip(BOUNDS, *found, strict=True):
        for k, i in enumerate(order):
            before = np.flatnonzero(order[:k] == i)
            first = before[-1] + 1 if len(before) else 0
            moved = np.count_nonzero(~late[first:k])
            assert lag[k] == moved / (P - 1)
            assert late[k] == (bound is not None and lag[k] > bound)
    assert found.late.any(1).tolist() == [False, True, True, True]


def test_an_elastic_exchange_conserves_and_a_late_one_moves_no_center():
    method = simulation.METHODS["EAMSGD"]._replace(rate=lambda p, period: 0.0)
    replay = simulation.Replay(Bowl(), method, P, 2, 0, 2)
    rng = np.random.default_rng(0)
    replay.points[...] = rng.normal(size=replay.points.shape)
    rest = replay.points.sum(0) + replay.center
    for i in rng.integers(P, size=20):
        replay.exchange(i, np.array([False, False]))
    np.testing.assert_allclose(
        replay.points.sum(0) + replay.center, rest, atol=1e-13
    )
    center, points = replay.center.copy(), replay.points.copy()
    replay.exchange(1, np.array([True, False]))
    np.testing.assert_array_equal(replay.center[0], center[0])
    np.testing.assert_array_equal(replay.points[1, 0], center[0])
    np.testing.assert_array_equal(replay.points[::2], points[::2])
    assert (replay.center[1] != center[1]).all()


def transcription(name, order, late, period, seed):
    """One answer to who is late, one worker after another, in formulas."""
    bowl, method = Bowl(), simulation.METHODS[name]
    eta, mu = method.rate(P, period), method.momentum
    draws = [np.random.default_rng([seed, 2, i]) for i in range(P)]
    center = bowl.start(seed)
    pushed = np.zeros(2)  # The center's velocity.
    x = [center] * P
    v = [np.zeros(2)] * P
    read = [center] * P
    for i, is_late in zip(order, late, strict=True):
        size = (period, simulation.BATCH)
        middles = bowl.middle(draws[i].integers(len(bowl), size=size))
        if name == "gradients":
            [middle] = middles
            if not is_late:
                pushed = mu * pushed - eta * (x[i] - middle)
                center = center + pushed
            x[i] = center
            continue
        for middle in middles:
            v[i] = mu * v[i] - eta * (x[i] + mu * v[i] - middle)
            x[i] = x[i] + v[i]
        if is_late:
            x[i], v[i] = center, np.zeros(2)
        elif name == "DOWNPOUR":
            center = center + x[i] - read[i]
            x[i] = center
        else:
            away = x[i] - center
            x[i] = x[i] - 0.9 / P * away
            center = center + 0.9 / P * away
        read[i] = x[i]
    return center


@pytest.mark.parametrize("name", simulation.METHODS)
def test_training_is_that_of_plain_formulas(name):
    period = 1 if name == "gradients" else 3
    order = simulation.arrivals("slow_5", P, period, 40, seed=2)
    found = simulation.late_ones(order, P, BOUNDS)
    assert found.late[1].any()
    method = simulation.METHODS[name]
    together = replayed(method, order, found.late, period, seed=2).center
    for late, center in zip(found.late, together, strict=True):
        wanted = transcription(name, order, late, period, seed=2)
        np.testing.assert_allclose(center, wanted, rtol=1e-12)


def test_the_gradient_of_the_digits_is_that_of_their_loss():
    digits = simulation.Digits()
    rng = np.random.default_rng(0)
    flat = digits.start(0) + rng.normal(0, 0.1, digits.size)
    # All images that the loss looks at are one batch.
    batch = np.arange(300)[None]
    gradient = digits.gradient(flat[None, None], batch)[0, 0]
    for _ in range(5):
        way = rng.normal(size=digits.size)
        way /= np.linalg.norm(way)
        slope = (
            digits.loss(flat + 1e-5 * way) - digits.loss(flat - 1e-5 * way)
        ) / 2e-5
        np.testing.assert_allclose(gradient @ way, slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("p", [2, 16])
def test_the_default_is_the_least_that_leaves_merely_uneven_workers(p):
    """The criterion of the benchmark, in a part of its settings."""
    bounds = (5, lateness.DEFAULT_MAX_LAG)
    for speeds in ("equal", "lognormal", "slow_2", "slow_5", "heavy_tailed"):
        order = simulation.arrivals(speeds, p, 1, 20_000 // p, seed=0)
        less, default = simulation.late_ones(order, p, bounds).late.mean(1)
        if speeds == "heavy_tailed":
            assert 0 < default < 0.01 < less
        else:
            assert default == 0
    # Worker 0 of these is as one that is away.
    order = simulation.arrivals("slow_20", p, 1, 20_000 // p, seed=0)
    late = simulation.late_ones(order, p, bounds).late[1]
    assert set(order[late]) == {0}
    assert late[order == 0][1:].all()


def test_what_is_in_the_file_is_not_done_again(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(tree.ROOT / "benchmarks"))
    program = importlib.import_module("bench_max_lag")
    done = []

    def share(*setting):
        done.append(setting)
        bounds = map(program.named, program.BOUNDS)
        return {bound: (0.25 * (bound == "2"), 1.0) for bound in bounds}

    monkeypatch.setattr(program, "QUESTIONS", {"share": share})
    monkeypatch.setattr(
        program,
        "settings",
        lambda workers, seeds: [
            ("share", case, 2, "any", 1, seed)
            for seed in range(seeds)
            for case in program.simulation.SPEEDS
        ],
    )
    path = tmp_path / "found.csv"
    printed = []
    for seeds in (1, 3, 3):
        arguments = ["bench", f"--csv={path}", f"--seeds={seeds}"]
        monkeypatch.setattr(sys, "argv", arguments)
        program.main()
        printed.append(capsys.readouterr().out)
    assert [(seed, case) for case, *_, seed in done] == [
        (seed, case) for seed in range(3) for case in simulation.SPEEDS
    ]
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(done) * len(program.BOUNDS)
    assert "| equal | 0.000% | 25.000% | 0.000% |" in printed[-1]
    assert "leaves out little enough: 3." in printed[-1]
