"""The simulators, against transcriptions of the equations in plain loops."""

import math

import numpy as np
import pytest

from tf_elastic.theory import delay_equations
from tf_elastic.theory._monte_carlo import estimate


def regression(seed=0, examples=12, dimension=2):
    generator = np.random.default_rng(seed)
    return delay_equations.least_squares(
        generator.normal(size=(examples, dimension)),
        generator.normal(size=examples),
    )


# Schedules and delays.


def test_schedules_are_the_papers():
    k = np.arange(1, 9)
    for schedule, expected in (
        ("constant", np.ones(8)),
        ("inverse", 1 / k),
        ("inverse_sqrt", 1 / np.sqrt(k)),
    ):
        rates = delay_equations.rate_adjustment(k, schedule)
        np.testing.assert_allclose(rates, expected, rtol=1e-14)
    # U(t) = delta / t and sqrt(delta / t).
    t, delta = 3.7, 0.01
    assert delay_equations.rate_adjustment(
        t / delta, "inverse"
    ) == pytest.approx(delta / t)
    assert delay_equations.rate_adjustment(
        t / delta, "inverse_sqrt"
    ) == pytest.approx(math.sqrt(delta) / math.sqrt(t))


def test_delays_are_drawn_by_their_weights():
    weights = np.array([0.1, 0.0, 0.6, 0.3])
    delays = delay_equations.random_delays(weights, 200, runs=100, seed=3)
    assert delays.shape == (200, 100)
    counts = np.bincount(delays.ravel(), minlength=4)
    spread = np.sqrt(delays.size * weights * (1 - weights))
    assert (np.abs(counts - delays.size * weights) <= 4 * spread).all()
    again = delay_equations.random_delays(weights, 200, runs=100, seed=3)
    assert (delays == again).all()


# The problem.


def test_the_gradient_is_that_of_the_loss():
    problem = regression()

    def loss(x):
        return np.mean((problem.features @ x - problem.targets) ** 2) / 2

    x = np.array([0.3, -1.2])
    step = 1e-5 * np.eye(2)
    slopes = [(loss(x + s) - loss(x - s)) / 2e-5 for s in step]
    np.testing.assert_allclose(problem.gradient(x), slopes, rtol=1e-7)
    np.testing.assert_allclose(problem.gradient(problem.optimum), 0, atol=1e-14)
    np.testing.assert_allclose(
        problem.gradient(x), problem.hessian @ (x - problem.optimum)
    )


@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_batch_has_the_covariance_sigma_over_b(batch_size):
    problem = regression()
    x = np.array([0.3, -1.2])
    gradients = problem.batch_gradient(
        np.tile(x, (40_000, 1)), batch_size, np.random.default_rng(1)
    )
    centered = gradients - problem.gradient(x)
    for samples, expected in (
        (centered, np.zeros(2)),
        (
            centered[:, :, None] * centered[:, None, :],
            problem.gradient_covariance(x) / batch_size,
        ),
    ):
        mean, standard_error = estimate(samples)
        assert (np.abs(mean - expected) < 4 * standard_error).all()
    factor = problem.noise_factor(x, batch_size)
    np.testing.assert_allclose(
        factor @ factor.T, problem.gradient_covariance(x) / batch_size
    )


def test_the_papers_example():
    """F is the mean of (x + 1)^2 and (x - 1)^2, as eq. 1 has it.

    Read as a sum, with f_i = (x +- 1)^2 / 2, the mean of a mini-batch is half
    of the gradient of the F that is printed.
    """
    problem = delay_equations.two_parabolas()
    x = np.array([[0.7]])
    slope = ((0.7 + 1) + (0.7 - 1)) / 1  # of the F that is printed
    assert problem.gradient(x)[0, 0] == pytest.approx(slope)
    generator = np.random.default_rng(0)
    drawn = problem.batch_gradient(np.tile(x, (1000, 1)), 1, generator)
    np.testing.assert_allclose(
        np.unique(drawn.round(9)), [2 * (0.7 - 1), 2 * (0.7 + 1)]
    )
    assert problem.gradient_covariance(x)[0, 0, 0] == pytest.approx(4.0)
    halves = delay_equations.least_squares([[1.0], [1.0]], [-1.0, 1.0])
    assert halves.gradient(x)[0, 0] == pytest.approx(slope / 2)


# Paths.


@pytest.mark.parametrize("schedule", delay_equations.SCHEDULES)
@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_asgd_is_its_recursion(schedule, momentum):
    delays = delay_equations.random_delays(
        np.full(5, 0.2), steps=30, runs=3, seed=2
    )
    start = np.array([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]])
    paths = delay_equations.asgd_paths(
        lambda x, _: np.sin(x),
        start,
        learning_rate=0.2,
        steps=30,
        delay=delays,
        momentum=momentum,
        schedule=schedule,
        first_step=2,
        runs=3,
    )
    power = {"constant": 0, "inverse": 1, "inverse_sqrt": 0.5}[schedule]
    for run in range(3):
        x = [start[run]]
        for k in range(30):
            then = x[max(k - delays[k, run], 0)]
            before = x[-2] if k else x[-1]
            rate = 0.2 / (k + 2) ** power
            x.append(x[-1] - rate * np.sin(then) + momentum * (x[-1] - before))
        np.testing.assert_allclose(paths[:, run], x, rtol=1e-12)


@pytest.mark.parametrize("schedule", delay_equations.SCHEDULES)
def test_the_equation_is_its_scheme(schedule):
    """Eq. 6 by Euler-Maruyama, on a grid finer than an iteration."""
    generator = np.random.default_rng(4)
    eta, delta, parts, steps, runs = 0.1, 0.25, 3, 12, 2
    delays = delay_equations.random_delays(
        [0.2, 0.3, 0.5], steps=steps, runs=runs, seed=2
    )
    motion = generator.normal(size=(steps * parts, runs, 2))
    mix = generator.normal(size=(2, 2))
    paths = delay_equations.sdde_paths(
        np.sin,
        lambda x: np.cos(x)[..., None] * mix,
        [1.0, -2.0],
        learning_rate=eta,
        time_step=delta,
        steps=steps,
        delay=delays,
        schedule=schedule,
        first_step=4,
        refinement=parts,
        runs=runs,
        increments=motion,
    )
    for run in range(runs):
        x = [np.array([1.0, -2.0])]
        for i in range(steps * parts):
            t = 4 * delta + i * delta / parts
            u = {
                "constant": 1.0,
                "inverse": delta / t,
                "inverse_sqrt": math.sqrt(delta / t),
            }[schedule]
            then = x[max(i - parts * delays[i // parts, run], 0)]
            sigma = np.cos(then)[:, None] * mix
            x.append(
                x[-1]
                - eta / delta * u * np.sin(then) * delta / parts
                + eta / math.sqrt(delta) * u * sigma @ motion[i, run]
            )
        np.testing.assert_allclose(paths[:, run], x[::parts], rtol=1e-11)


def test_any_drift_and_diffusion_with_a_history():
    """A history that is not constant, a drift of time, now and then."""
    history = np.arange(4.0)[:, None, None] ** 2
    paths = delay_equations.euler_maruyama(
        lambda t, now, then: t - now + 2 * then,
        lambda t, now, then: 0.0,
        history,
        time_step=0.1,
        steps=6,
        delay=3,
        start_time=5.0,
    )
    x = list(history.ravel())
    for i in range(6):
        x.append(x[-1] + 0.1 * (5 + 0.1 * i - x[-1] + 2 * x[-4]))
    np.testing.assert_allclose(paths.ravel(), x[3:], rtol=1e-13)


def test_one_step_has_the_noise_of_its_length():
    paths = delay_equations.euler_maruyama(
        lambda t, now, then: 0.0,
        lambda t, now, then: [[2.0, 0.0], [1.0, 0.5]],
        [0.0, 0.0],
        time_step=0.25,
        steps=4,
        runs=20_000,
        seed=9,
    )
    mean, standard_error = estimate(
        paths[-1][:, :, None] * paths[-1][:, None, :]
    )
    assert (np.abs(mean - [[4.0, 2.0], [2.0, 1.25]]) < 4 * standard_error).all()


def test_a_step_of_the_equation_is_eq_5():
    """With delta = eta the scheme is ASGD with normal noise."""
    problem = regression()
    motion = np.random.default_rng(1).normal(size=(20, 5, 2))
    eta = 0.05
    paths = delay_equations.sdde_paths(
        problem.gradient,
        lambda x: problem.noise_factor(x, 4),
        [1.0, 1.0],
        learning_rate=eta,
        time_step=eta,
        steps=20,
        delay=3,
        runs=5,
        increments=math.sqrt(eta) * motion,
    )
    steps = iter(motion)
    with_normal_noise = delay_equations.asgd_paths(
        lambda x, _: (
            problem.gradient(x)
            - np.einsum("rij,rj->ri", problem.noise_factor(x, 4), next(steps))
        ),
        [1.0, 1.0],
        learning_rate=eta,
        steps=20,
        delay=3,
        runs=5,
    )
    np.testing.assert_allclose(paths, with_normal_noise, rtol=1e-11)


def test_seeds_repeat_a_run():
    def paths(seed):
        return delay_equations.asgd_paths(
            lambda x, generator: x + generator.normal(size=x.shape),
            [1.0],
            learning_rate=0.1,
            steps=5,
            runs=4,
            seed=seed,
        )

    assert (paths(1) == paths(1)).all() and (paths(1) != paths(2)).any()
    assert (np.ptp(paths(1)[-1], axis=0) > 0).all()


def test_bad_arguments_are_refused():
    good = {"learning_rate": 0.1, "steps": 5}

    def run(**changes):
        delay_equations.asgd_paths(lambda x, _: x, [1.0], **good | changes)

    for match, changes in (
        ("`learning_rate` must be positive", {"learning_rate": 0.0}),
        ("`steps` must be a whole number", {"steps": 0}),
        ("`delay` must be a whole number", {"delay": -1}),
        (r"`delay` must be a number, or of shape \(5,\)", {"delay": [1, 2]}),
        ("`schedule` must be one of", {"schedule": "cosine"}),
        ("`first_step` must be a whole number", {"first_step": 0}),
    ):
        with pytest.raises(ValueError, match=match):
            run(**changes)
    with pytest.raises(ValueError, match="`history` must be of shape"):
        delay_equations.euler_maruyama(
            lambda t, a, b: a,
            lambda t, a, b: a,
            np.zeros((2, 1, 1)),
            time_step=0.1,
            steps=3,
            delay=4,
        )
    with pytest.raises(ValueError, match="`weights` must be probabilities"):
        delay_equations.random_delays([0.5, 0.6], steps=3)
    with pytest.raises(ValueError, match="`targets` must be of shape"):
        delay_equations.least_squares([[1.0], [2.0]], [1.0])
    with pytest.raises(ValueError, match="`step` must be positive"):
        delay_equations.rate_adjustment(0, "inverse")
