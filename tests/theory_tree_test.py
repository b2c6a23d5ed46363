"""`theory.tree`: EASGD Tree on a quadratic."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from tests.drawing import examples
from tests.drawing import same_examples
from tf_elastic import theory
from tf_elastic.theory import tree as trees

fixed = examples(20)


@st.composite
def small_trees(draw):
    """Any periods, at most 40 nodes; not only the thesis' schemes."""
    degree = draw(st.integers(1, 3))
    depth = draw(st.integers(1, {1: 4, 2: 4, 3: 3}[degree]))
    periods = st.lists(
        st.sampled_from([1, 2, 3, 4, 6]), min_size=depth, max_size=depth
    )
    return trees.Tree(degree, tuple(draw(periods)), tuple(draw(periods)))


rates = st.fixed_dictionaries(
    {
        "learning_rate": st.floats(0.02, 1.2),
        "moving_rate": st.floats(0.02, 1.0),
        "curvature": st.floats(0.3, 1.6),
        "delay_steps": st.integers(0, 2),
    }
)


class Node:
    """A processor of Algorithm 6, as the thesis writes it."""

    def __init__(self, value, parent=None):
        self.x = value
        self.parent = parent
        self.children = []
        self.inbox = []  # (time of arrival, sender, parameter)


def algorithm_6(tree, values, steps, learning_rate, moving_rate, curvature,
                delay_steps):  # fmt: skip
    """The root's parameter, and all nodes at the end, by levels."""
    values = iter(values)
    levels = [[Node(next(values))]]
    for _ in range(tree.depth):
        below = []
        for parent in levels[-1]:
            for _ in range(tree.degree):
                parent.children.append(Node(next(values), parent))
            below += parent.children
        levels.append(below)
    roots = [levels[0][0].x]
    for t in range(steps):
        for level, nodes in enumerate(levels):
            for node in nodes:
                if node.parent and t % tree.up_periods[level - 1] == 0:
                    node.parent.inbox.append((t + delay_steps, node, node.x))
                if node.children and t % tree.down_periods[level] == 0:
                    for child in node.children:
                        child.inbox.append((t + delay_steps, node, node.x))
        for node in itertools.chain(*levels):
            arrived = {sender: x for time, sender, x in node.inbox if time == t}
            for sender in (node.parent, *node.children):
                if sender in arrived:
                    node.x += moving_rate * (arrived[sender] - node.x)
            if not node.children:
                node.x -= learning_rate * curvature * node.x
        roots.append(levels[0][0].x)
    return roots, [node.x for node in itertools.chain(*levels)]


def number_of_nodes(tree):
    return sum(tree.degree**level for level in range(tree.depth + 1))


def without_delay(setting):
    return {**setting, "delay_steps": 0}


def weighted_means(tree, alpha):
    """Rows that take the levels' weighted means of all nodes."""
    weights = alpha * (1 - alpha) ** np.arange(tree.degree)[::-1]
    weights = weights / weights.sum()
    rows = np.zeros((tree.depth + 1, number_of_nodes(tree)))
    level, begin = np.ones(1), 0
    for row in rows:
        row[begin : begin + len(level)] = level
        begin += len(level)
        level = np.kron(level, weights)
    return rows


# The model is Algorithm 6.


@fixed
@given(small_trees(), rates, st.integers(0, 1000))
def test_the_full_map_is_algorithm_6(tree, setting, seed):
    setting = without_delay(setting)
    start = np.random.default_rng(seed).normal(size=number_of_nodes(tree))
    maps = trees.full_step_maps(tree, **setting)
    steps = 2 * tree.period + 1
    state = start
    for t in range(steps):
        state = maps[t % tree.period] @ state
    _, expected = algorithm_6(tree, start, steps, **setting)
    np.testing.assert_allclose(state, expected, atol=1e-13)
    over = trees.over_a_period(maps)
    _, expected = algorithm_6(tree, start, tree.period, **setting)
    np.testing.assert_allclose(over @ start, expected, atol=1e-13)


@fixed
@given(small_trees(), rates)
def test_the_mean_of_the_root_is_algorithm_6(tree, setting):
    """With a delay, from the time that all messages are of the run."""
    delay = setting["delay_steps"]
    nodes = np.ones(number_of_nodes(tree))
    steps = 2 * tree.period + 3
    # A clock that begins with silence: messages of steps before 0 are lost
    # in Algorithm 6, and are of the start in the model. With none due in
    # these steps both are the same.
    due = {
        period
        for period in tree.up_periods + tree.down_periods
        if any(-early % period == 0 for early in range(1, delay + 1))
    }
    if due:
        setting = without_delay(setting)
    expected, _ = algorithm_6(tree, nodes, steps, **setting)
    mean, _ = trees.root_moments(tree, steps=steps, start=1.0, **setting)
    np.testing.assert_allclose(mean, expected, atol=1e-13)
    run = trees.simulate(
        tree, steps=steps, start=1.0, runs=2, seed=0, noise_std=0, **setting
    )
    np.testing.assert_allclose(run, np.stack([mean, mean], 1), atol=1e-13)


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_a_delay_is_that_of_the_messages(delay):
    tree = trees.Tree(2, (5, 4), (4, 5))
    setting = {
        "learning_rate": 0.3,
        "moving_rate": 0.4,
        "curvature": 1.1,
        "delay_steps": delay,
    }
    expected, _ = algorithm_6(tree, np.ones(7), 50, **setting)
    mean, _ = trees.root_moments(tree, steps=50, start=1.0, **setting)
    np.testing.assert_allclose(mean, expected, atol=1e-14)
    earlier, _ = trees.root_moments(
        tree, steps=50, start=1.0, **without_delay(setting)
    )
    assert np.abs(mean - earlier).max() > 1e-3


# The chain is all there is to know.


@fixed
@given(small_trees(), rates)
def test_the_chain_is_closed(tree, setting):
    setting = without_delay(setting)
    means = weighted_means(tree, setting["moving_rate"])
    full = trees.full_step_maps(tree, **setting)
    chain = trees.chain_step_maps(tree, **setting)
    assert chain.shape == (tree.period, tree.depth + 1, tree.depth + 1)
    np.testing.assert_allclose(chain @ means, means @ full, atol=1e-14)
    # Its noise is that of independent leaves.
    share = np.sum(means[-1] ** 2)
    assert trees.effective_leaves(
        tree, moving_rate=setting["moving_rate"]
    ) == pytest.approx(1 / share)


@fixed
@given(small_trees(), rates)
def test_the_spectrum_is_that_of_the_full_map(tree, setting):
    """By the traces of powers, which determine the eigenvalues."""
    full = trees.over_a_period(trees.full_step_maps(tree, **setting))
    values, copies = trees.spectrum(tree, **setting)
    assert copies.sum() == len(full)
    assert np.all(np.diff(np.abs(values)) <= 0)
    power = np.eye(len(full))
    for exponent in range(1, 13):
        power = power @ full
        trace = np.sum(copies * values**exponent)
        assert trace.real == pytest.approx(np.trace(power), abs=1e-10)
        assert abs(trace.imag) < 1e-10
    assert abs(values[0]) == pytest.approx(
        theory.spectral_radius(full), abs=1e-5
    )


@fixed
@given(small_trees(), rates)
def test_the_variance_of_the_root_is_that_of_the_full_map(tree, setting):
    maps = trees.full_step_maps(tree, **setting)
    nodes = number_of_nodes(tree)
    size = maps.shape[1]
    noise = np.zeros((size, size))
    leaf = np.arange(nodes - tree.leaves, nodes)
    noise[leaf, leaf] = (setting["learning_rate"] * 1.7) ** 2
    gathered = np.zeros_like(noise)
    for step in maps:
        gathered = step @ gathered @ step.T + noise
    covariance = linalg.solve_discrete_lyapunov(
        trees.over_a_period(maps), gathered
    )
    expected = []
    for step in maps:
        expected.append(covariance[0, 0])
        covariance = step @ covariance @ step.T + noise
    variance = trees.root_variance(tree, noise_std=1.7, **setting)
    np.testing.assert_allclose(variance, expected, rtol=1e-6)
    # It is where the moments over time end.
    over = abs(trees.spectrum(tree, **setting).eigenvalues[0])
    # With eta = alpha = h = 1 it is there after a few messages, over = 0.
    periods = int(np.log(1e-9) / np.log(max(over, 0.3))) + 1
    if periods * tree.period <= 5_000:
        _, over_time = trees.root_moments(
            tree, steps=periods * tree.period, noise_std=1.7, **setting
        )
        assert over_time[-1] == pytest.approx(variance[0], rel=1e-6)


# Stability.


def test_no_averaging_tree_diverges():
    """alpha <= 1 and eta h < 2: stable, whatever the tree and the delay."""
    cells = 0
    for tree in (
        trees.multi_scale_tree(
            degree=3, depth=2, leaf_period=1, upper_period=4
        ),
        trees.up_down_tree(degree=2, depth=3, up_period=2, down_period=6),
        trees.up_down_tree(degree=16, depth=1, up_period=3, down_period=2),
        trees.Tree(2, (3, 2), (5, 1)),
    ):
        for eta, alpha, delay in itertools.product(
            np.append(np.arange(0.05, 2, 0.15), 1.99),
            np.append(np.arange(0.05, 1, 0.1), 1.0),
            (0, 1, 3),
        ):
            first = trees.spectrum(
                tree, learning_rate=eta, moving_rate=alpha, delay_steps=delay
            ).eigenvalues[0]
            assert abs(first) < 1, (tree, eta, alpha, delay)
            cells += 1
    assert cells == 4 * 14 * 11 * 3


def test_beyond_these_rates_the_spectrum_decides():
    """On the full map of a small tree, with no cell wrong."""
    tree = trees.Tree(2, (1, 2), (2, 1))
    stable, cells = 0, 0
    for eta, alpha in itertools.product(
        np.arange(0.1, 4.1, 0.21), np.arange(0.1, 2.0, 0.13)
    ):
        setting = {"learning_rate": eta, "moving_rate": alpha}
        radius = theory.spectral_radius(
            trees.over_a_period(trees.full_step_maps(tree, **setting))
        )
        first = abs(trees.spectrum(tree, **setting).eigenvalues[0])
        assert first == pytest.approx(radius, rel=1e-5, abs=1e-6)
        if abs(radius - 1) > 1e-9:
            assert (first < 1) == (radius < 1)
        if first >= 1:
            with pytest.raises(ValueError, match="must be stable"):
                trees.root_variance(tree, **setting)
            assert alpha > 1 or eta >= 2
        stable += first < 1
        cells += 1
    assert 0.2 < stable / cells < 0.9


# The simulator.


@same_examples(20)
@given(small_trees(), rates, st.integers(0, 10_000))
def test_the_simulator_agrees(tree, setting, seed):
    runs, steps = 4000, 3 * tree.period + 2
    moments = trees.root_moments(
        tree, steps=steps, start=1.2, noise_std=0.9, **setting
    )
    run = trees.simulate(
        tree,
        steps=steps,
        runs=runs,
        seed=seed,
        start=1.2,
        noise_std=0.9,
        **setting,
    )
    # What follows from one step to the next is no new evidence.
    seen = np.unique(np.linspace(0, steps, 6).astype(int))
    for t in seen:
        mean, variance = moments.mean[t], moments.variance[t]
        assert abs(run[t].mean() - mean) <= (
            4 * np.sqrt(variance / runs) + 1e-12
        )
        assert abs(np.mean((run[t] - mean) ** 2) - variance) <= (
            4 * variance * np.sqrt(2 / runs) + 1e-12
        )


@pytest.mark.parametrize(
    "tree",
    [
        trees.multi_scale_tree(
            degree=4, depth=2, leaf_period=1, upper_period=10
        ),
        trees.up_down_tree(degree=4, depth=2, up_period=1, down_period=10),
    ],
)
def test_the_stationary_root_of_both_schemes(tree):
    setting = {"learning_rate": 0.2, "moving_rate": 0.9 / 5}
    variance = trees.root_variance(tree, **setting)
    assert variance.shape == (10,)
    runs, steps = 20_000, 129
    _, exact = trees.root_moments(tree, steps=steps, **setting)
    assert exact[-1] == pytest.approx(variance[steps % 10], rel=1e-2)
    run = trees.simulate(tree, steps=steps, runs=runs, seed=3, **setting)
    assert abs(np.mean(run[-1] ** 2) - exact[-1]) <= (
        4 * exact[-1] * np.sqrt(2 / runs)
    )
    again = trees.simulate(tree, steps=steps, runs=runs, seed=3, **setting)
    np.testing.assert_array_equal(again, run)


# What the thesis says.


def test_the_periods_of_the_first_scheme():
    """Erratum: the upper period is the longer one, not "the second (smaller)".

    Section 6.1.1 gives the reason, that what crosses machines "should happen
    less frequently", and 6.1.2 the values 10 and 100.
    """
    tree = trees.multi_scale_tree(
        degree=4, depth=3, leaf_period=10, upper_period=100
    )
    assert tree.up_periods == tree.down_periods == (100, 100, 10)
    assert tree.leaves == 64 and tree.period == 100
    chain = trees.chain_step_maps(tree, learning_rate=0.1, moving_rate=0.05)
    changes = np.sum(np.abs(chain - np.eye(4)).sum(axis=2) > 0, axis=0)
    # The root and its children rest but once; the leaves' parents average
    # with the leaves ten times; the leaves take every step.
    np.testing.assert_array_equal(changes, [1, 1, 10, 100])


def test_a_large_beta_is_a_short_upward_period():
    """Erratum: "a large tau_up to represent large beta" has it backwards.

    Beta is how much of the center is replaced. As is tau_down for alpha.
    """
    kept = {}
    for period in (1, 2, 5, 10):
        tree = trees.up_down_tree(
            degree=4, depth=1, up_period=period, down_period=10
        )
        chain = trees.chain_step_maps(tree, learning_rate=0.1, moving_rate=0.05)
        kept[period] = np.prod(chain[:, 0, 0])
        assert kept[period] == pytest.approx(0.95 ** (4 * 10 // period))
    assert kept[1] < kept[2] < kept[5] < kept[10]
    pulls = [
        np.sum(
            trees.chain_step_maps(
                trees.up_down_tree(
                    degree=4, depth=1, up_period=1, down_period=period
                ),
                learning_rate=0.1,
                moving_rate=0.05,
            )[:, 1, 0]
        )
        / period
        for period in (1, 2, 5, 10)
    ]
    assert np.all(np.diff(pulls) < 0)


def test_the_tree_of_the_thesis():
    """d = 16, p = 256, alpha = 0.9 / 17, both schemes: as large as they are."""
    setting = {"learning_rate": 0.05, "moving_rate": 0.9 / 17}
    schemes = {
        "first": trees.multi_scale_tree(
            degree=16, depth=2, leaf_period=1, upper_period=10
        ),
        "second": trees.up_down_tree(
            degree=16, depth=2, up_period=1, down_period=10
        ),
    }
    lone = 0.05 / (2 - 0.05)  # the variance of a worker by itself
    for tree in schemes.values():
        assert tree.leaves == 256
        values, copies = trees.spectrum(tree, **setting)
        assert copies.sum() == 1 + 16 + 256
        assert abs(values[0]) < 1
        variance = trees.root_variance(tree, **setting)
        assert np.all(variance < lone / 50)
        # With few averaging rounds it is no less than that of the mean.
        assert np.all(variance > 0.2 * lone / 256)


def test_the_last_child_weighs_most():
    tree = trees.up_down_tree(degree=3, depth=1, up_period=1, down_period=1)
    weights = trees.full_step_maps(tree, learning_rate=0.1, moving_rate=0.5)[
        0, 0
    ]
    np.testing.assert_allclose(weights, [0.125, 0.125, 0.25, 0.5])
    assert trees.effective_leaves(tree, moving_rate=1.0) == 1
    assert trees.effective_leaves(tree, moving_rate=1e-7) == pytest.approx(3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("moving_rate", 0.0),
        ("moving_rate", 2.0),
        ("curvature", -1.0),
        ("delay_steps", -1),
        ("delay_steps", 0.5),
    ],
)
def test_bad_input_is_refused(name, value):
    tree = trees.up_down_tree(degree=2, depth=1, up_period=1, down_period=1)
    setting = {"learning_rate": 0.1, "moving_rate": 0.1, name: value}
    for function in (trees.spectrum, trees.root_variance):
        with pytest.raises(
            ValueError, match=rf"`{name}` must be .*Received: {name}={value}"
        ):
            function(tree, **setting)


def test_bad_trees_are_refused():
    with pytest.raises(ValueError, match="`depth` must be.*depth=0"):
        trees.up_down_tree(degree=2, depth=0, up_period=1, down_period=1)
    with pytest.raises(ValueError, match="`leaf_period` must.*=1.5"):
        trees.multi_scale_tree(
            degree=2, depth=1, leaf_period=1.5, upper_period=1
        )
    rates = {"learning_rate": 0.1, "moving_rate": 0.1}
    with pytest.raises(ValueError, match="as many up_periods as down_periods"):
        trees.spectrum(trees.Tree(2, (1, 1), (1,)), **rates)
    with pytest.raises(ValueError, match="`top` must be from 0 to the depth 1"):
        trees.chain_step_maps(trees.Tree(2, (1,), (1,)), top=2, **rates)
    with pytest.raises(ValueError, match="`noise_std` must"):
        trees.root_variance(trees.Tree(2, (1,), (1,)), noise_std=-1.0, **rates)
