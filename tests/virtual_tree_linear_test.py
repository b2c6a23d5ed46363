"""Timelines of trees on the linear model, against `theory.tree`."""

import numpy as np
import pytest

from tests.virtual_tree_support import workload
from tf_elastic.core import topology
from tf_elastic.theory import tree as trees
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import TreeTimeline
from tf_elastic.timeline.virtual import root_on_quadratic

# What a node gets within a step, its parent's point first.
WITHIN_A_STEP = Timing(1.0, latency=0.5, node_latency=(0.2, 0.3))
SCHEMES = ("multi_scale", "up_down")


def both(scheme, degree, depth, first, second):
    """The same tree for the engine and for the theory."""
    if scheme == "multi_scale":
        return topology.multi_scale(first, second), trees.multi_scale_tree(
            degree=degree,
            depth=depth,
            leaf_period=first,
            upper_period=second,
        )
    return topology.up_down(first, second), trees.up_down_tree(
        degree=degree, depth=depth, up_period=first, down_period=second
    )


def timeline(scheme, degree, depth, timing=WITHIN_A_STEP):
    made = topology.tree(degree, depth, scheme)
    return TreeTimeline(timing, workload(), made)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_without_noise_it_is_the_map_of_the_theory(scheme, depth):
    ours, theirs = both(scheme, 3, depth, 1, 3)
    setting = {"learning_rate": 0.3, "moving_rate": 0.2, "start": 1.0}
    found = root_on_quadratic(
        timeline(ours, 3, depth),
        range(40),
        runs=1,
        seed=0,
        noise_std=0.0,
        **setting,
    )
    expected = trees.simulate(
        theirs,
        steps=40,
        runs=1,
        seed=0,
        noise_std=0.0,
        delay_steps=1,
        **setting,
    )
    np.testing.assert_allclose(found, expected[1:], rtol=1e-12, atol=1e-14)


def standard_errors(scheme, degree, depth, steps, runs, seed):
    """How far the root's variance is from the theory's, in standard errors."""
    ours, theirs = both(scheme, degree, depth, 1, 5)
    setting = {"learning_rate": 0.3, "moving_rate": 0.9 / (degree + 1)}
    [root] = root_on_quadratic(
        timeline(ours, degree, depth), [steps], runs=runs, seed=seed, **setting
    )
    expected = trees.root_moments(
        theirs, steps=steps + 1, delay_steps=1, **setting
    ).variance[-1]
    measured = np.mean(root**2)  # Of the mean 0.
    return (measured / expected - 1) / np.sqrt(2 / runs)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_roots_variance_of_4096_leaves(scheme):
    assert abs(standard_errors(scheme, 16, 3, 20, 150, seed=1)) < 4


@pytest.mark.full
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_roots_variance_of_few_leaves(scheme):
    assert abs(standard_errors(scheme, 4, 2, 60, 40_000, seed=2)) < 4
