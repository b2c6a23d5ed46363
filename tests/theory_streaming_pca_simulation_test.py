"""The simulator of Async-MSGD: step by step, and its random numbers."""

import re

import numpy as np
import pytest
from scipy import stats

from tf_elastic.theory import streaming_pca
from tf_elastic.theory.streaming_pca import problem

COVARIANCE = np.array([[3.0, 0.5, 0.2], [0.5, 2.0, -0.3], [0.2, -0.3, 1.0]])
SETTING = {
    "learning_rate": 0.002,
    "covariance": COVARIANCE,
    "steps": 150,
    "runs": 7,
    "seed": 3,
}


def by_hand(inputs, delays, mu, eta, start):
    """Equation 2.1 for one run, all in float64: v_0, v_1, and so on."""
    path = [start, start]  # v_{-1} = v_0
    for k, (x, tau) in enumerate(zip(inputs, delays, strict=True)):
        stale = path[1 + k - tau] if tau <= k else start
        gradient = (np.eye(len(x)) - np.outer(stale, stale)) @ np.outer(x, x)
        path.append(
            path[-1] + mu * (path[-1] - path[-2]) + eta * gradient @ stale
        )
    return np.array(path[1:])


@pytest.fixture
def drawn(monkeypatch):
    """The inputs that a simulation draws, in chunks of (steps, d, runs)."""
    chunks = []
    draw = problem.draw

    def recording(*args):
        chunks.append(draw(*args))
        return chunks[-1]

    monkeypatch.setattr(problem, "draw", recording)
    return chunks


@pytest.mark.parametrize("inputs", streaming_pca.INPUTS)
def test_each_step_is_the_papers(drawn, inputs):
    momentum = np.array([0.0, 0.5, 0.9])[:, None, None]
    delay = np.array([0, 1, 7, 40])[:, None]
    learning_rate = np.array([0.002, 0.0005])
    steps, points = streaming_pca.simulate(
        **{**SETTING, "learning_rate": learning_rate},
        momentum=momentum,
        delay=delay,
        inputs=inputs,
        record=range(151),
        threads=1,
    )
    assert points.shape == (151, 3, 4, 2, 7, 3)
    np.testing.assert_array_equal(steps, np.arange(151))
    data = np.concatenate(drawn)
    start = streaming_pca.eigenbasis(COVARIANCE).vectors[:, 1]
    for index in np.ndindex(3, 4, 2, 7):
        setting, run = index[:-1], index[-1]
        mu, tau, eta = (
            np.broadcast_to(value, (3, 4, 2))[setting]
            for value in (momentum, delay, learning_rate)
        )
        np.testing.assert_allclose(
            points[(slice(None), *index)],
            by_hand(data[:, :, run], [tau] * 150, mu, eta, start),
            rtol=1e-9,
            atol=1e-12,
        )


@pytest.mark.parametrize(
    "delay",
    [
        lambda generator, shape: generator.integers(0, 30, shape),
        streaming_pca.geometric_delay(25.0),
    ],
)
def test_random_delays_are_used_as_they_are_drawn(drawn, delay):
    draws = []

    def recording(generator, shape):
        draws.append(np.asarray(delay(generator, shape)))
        return draws[-1]

    points = streaming_pca.simulate(
        **SETTING,
        momentum=[0.5, 0.9],
        delay=recording,
        record=range(151),
        threads=1,
    ).points
    data = np.concatenate(drawn)
    delays = np.concatenate(draws)
    # Drawn twice, the first time for the longest.
    np.testing.assert_array_equal(delays[:150], delays[150:])
    assert len(np.unique(delays[:150])) > 20
    start = streaming_pca.eigenbasis(COVARIANCE).vectors[:, 1]
    for run in range(7):
        for i, mu in enumerate((0.5, 0.9)):
            np.testing.assert_allclose(
                points[:, i, run],
                by_hand(data[:, :, run], delays[:150, run], mu, 0.002, start),
                rtol=1e-9,
                atol=1e-12,
            )


def test_a_random_delay_that_is_constant_is_the_constant_delay():
    constant, sampled, distribution = (
        streaming_pca.simulate(**SETTING, momentum=0.8, delay=delay).points
        for delay in (
            6,
            lambda _, shape: np.full(shape, 6),
            stats.randint(6, 7),
        )
    )
    np.testing.assert_array_equal(constant, sampled)
    np.testing.assert_array_equal(constant, distribution)


def test_a_setting_does_not_depend_on_what_it_is_simulated_with():
    many = {**SETTING, "runs": 2100}  # two streams of random numbers
    momentum, delay = np.array([0.5, 0.9])[:, None], [0, 41, 59]
    together = streaming_pca.simulate(
        **many, momentum=momentum, delay=delay, threads=2
    ).points
    alone = streaming_pca.simulate(
        **many, momentum=0.9, delay=41, threads=1
    ).points
    np.testing.assert_array_equal(together[0, 1, 1], alone[0])
    # The two streams, and so all runs, are different.
    assert len(np.unique(alone[0, :, 0])) == 2100


def test_the_seed_is_what_the_runs_depend_on():
    first, second, third = (
        streaming_pca.simulate(
            **{**SETTING, "seed": seed}, momentum=0.5, delay=3
        ).points
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, second)
    assert np.all(first != third)


def test_initial_and_record():
    start = np.random.default_rng(0).normal(size=(7, 3))
    record = [150, 0, 20, 20]
    steps, points = streaming_pca.simulate(
        **SETTING, momentum=0.5, delay=3, initial=start, record=record
    )
    np.testing.assert_array_equal(steps, [0, 20, 150])
    np.testing.assert_array_equal(points[0], start)
    for index in (0, 6):
        one = streaming_pca.simulate(
            **SETTING, momentum=0.5, delay=3, initial=start[index]
        ).points
        np.testing.assert_array_equal(points[-1, index], one[0, index])


def test_a_run_that_diverges_ends_out_of_the_numbers():
    points = streaming_pca.simulate(
        **{**SETTING, "learning_rate": 0.05, "steps": 2000},
        momentum=[0.0, 0.95],
        delay=[0, 200],
        record=[0, 2000],
    ).points
    assert np.all(np.isfinite(points[:, 0]))
    assert np.all(np.isfinite(points[0, 1]))
    assert not np.any(np.isfinite(points[1, 1]))
    error = streaming_pca.squared_error(points, covariance=COVARIANCE)
    assert not np.any(np.isfinite(error[1, 1]))


@pytest.mark.parametrize("inputs", streaming_pca.INPUTS)
def test_inputs_have_the_moments_they_should(inputs):
    """All first, second and fourth moments, within four standard errors."""
    basis = streaming_pca.eigenbasis(COVARIANCE)
    root = basis.vectors * np.sqrt(basis.values)
    generator = np.random.default_rng(11)
    x = problem.draw(generator, root, 1, 400_000, inputs)[0]
    y = basis.vectors.T @ x
    products = (
        (x, np.zeros(3)),
        (x[:, None] * x, COVARIANCE),
        (
            y[:, None] ** 2 * y**2,
            streaming_pca.fourth_moments(COVARIANCE, inputs),
        ),
    )
    for samples, expected in products:
        error = samples.std(axis=-1) / np.sqrt(samples.shape[-1])
        assert np.all(np.abs(samples.mean(axis=-1) - expected) < 4 * error)
    squares = np.sum(x**2, axis=0)
    assert (squares.max() <= 3 * basis.values[0]) == (inputs == "sphere")


def test_the_geometric_delay_has_its_law():
    draws = streaming_pca.geometric_delay(3.0)(
        np.random.default_rng(2), (1000, 200)
    )
    for n in range(12):
        share, expected = np.mean(draws == n), 0.25 * 0.75**n
        error = np.sqrt(expected * (1 - expected) / draws.size)
        assert abs(share - expected) < 4 * error


def test_the_eigenbasis_takes_the_matrix_apart():
    values, vectors = streaming_pca.eigenbasis(COVARIANCE)
    np.testing.assert_allclose(
        vectors * values @ vectors.T, COVARIANCE, atol=1e-14
    )
    assert np.all(np.diff(values) < 0)
    np.testing.assert_array_equal(
        streaming_pca.eigenbasis(np.diag([1.0, 3.0, 2.0])).vectors,
        np.eye(3)[:, [1, 2, 0]],
    )


@pytest.mark.parametrize(
    ("argument", "value", "received"),
    [
        ("momentum", 1.0, "momentum=1.0"),
        ("momentum", [0.5, -0.1], "momentum=[0.5, -0.1]"),
        ("momentum", np.nan, "momentum=nan"),
        ("delay", -1, "delay=-1"),
        ("delay", 1.5, "delay=1.5"),
        ("delay", lambda _, shape: np.full(shape, -2), "delay="),
        ("delay", lambda _, shape: np.zeros(shape[1]), "shape (7,)"),
        ("learning_rate", 0.0, "learning_rate=0.0"),
        ("covariance", np.eye(3), "covariance="),
        ("covariance", np.diag([1.0, 0.0]), "covariance="),
        ("covariance", [[2.0, 1.0], [0.0, 1.0]], "covariance="),
        ("covariance", [[2.0]], "covariance="),
        ("steps", 0, "steps=0"),
        ("runs", 0, "runs=0"),
        ("seed", -1, "seed=-1"),
        ("threads", 0, "threads=0"),
        ("record", 151, "record=151"),
        ("record", -1, "record=-1"),
        ("initial", [1.0, 0.0], "initial=[1. 0.]"),
        ("initial", [1.0, 0.0, np.inf], "initial=[ 1.  0. inf]"),
        ("inputs", "cauchy", "inputs='cauchy'"),
    ],
)
def test_bad_input_is_refused(argument, value, received):
    setting = {**SETTING, "momentum": 0.5, "delay": 2, argument: value}
    message = f"`{argument}` must.*Received: .*{re.escape(received)}"
    with pytest.raises(ValueError, match=f"(?s){message}"):
        streaming_pca.simulate(**setting)


def test_a_mean_delay_must_be_positive():
    with pytest.raises(ValueError, match="`mean` must be.*Received: mean=0"):
        streaming_pca.geometric_delay(0)
