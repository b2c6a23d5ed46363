"""The samplers: what each worker draws, and how steps are skipped."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.drawing import examples
from tf_elastic.data import loader_sampler
from tf_elastic.data import loaders
from tf_elastic.data import turns_sampler
from tf_elastic.data import uniform_sampler

SETTINGS = examples(40)


def make(
    kind="loaders",
    *,
    num_examples=100,
    batch_size=4,
    num_workers=2,
    num_loaders=3,
    chunk_size=12,
    seed=0,
    in_turn=False,
):
    if in_turn:
        of_all = make(
            kind,
            num_examples=num_examples,
            batch_size=batch_size,
            num_workers=num_workers,
            num_loaders=num_loaders,
            chunk_size=chunk_size,
            seed=seed,
        )
        return turns_sampler.TurnsSampler(of_all, num_workers)
    shape = (num_examples, batch_size, num_workers)
    if kind == "uniform":
        return uniform_sampler.UniformSampler(*shape, seed=seed)
    return loader_sampler.LoaderSampler(
        *shape, num_loaders=num_loaders, chunk_size=chunk_size, seed=seed
    )


@st.composite
def arguments(draw):
    batch_size = draw(st.integers(1, 7))
    return {
        "kind": draw(st.sampled_from(["loaders", "uniform"])),
        "num_examples": draw(st.integers(batch_size, 90)),
        "batch_size": batch_size,
        "num_workers": draw(st.integers(1, 4)),
        "num_loaders": draw(st.integers(1, 4)),
        "chunk_size": draw(st.integers(1, 30)),
        "seed": draw(st.integers(0, 2**64)),
        "in_turn": draw(st.booleans()),
    }


def draw_many(sampler, steps):
    return np.stack([sampler.draw() for _ in range(steps)])


@SETTINGS
@hypothesis.given(arguments(), st.integers(0, 60))
def test_skipping_equals_drawing(kwargs, steps):
    drawn, skipped = make(**kwargs), make(**kwargs)
    whole = draw_many(drawn, steps + 20)
    half = steps // 2
    skipped.skip(half)
    skipped.skip(steps - half)
    assert skipped.step == steps
    np.testing.assert_array_equal(draw_many(skipped, 20), whole[steps:])
    assert drawn.step == skipped.step == steps + 20


@SETTINGS
@hypothesis.given(arguments(), st.integers(0, 20))
def test_copies_are_independent_and_equal(kwargs, steps):
    sampler = make(**kwargs)
    sampler.skip(steps)
    sampler.draw()
    twin = sampler.copy()
    ahead = draw_many(sampler, 15)
    np.testing.assert_array_equal(draw_many(twin, 15), ahead)


@SETTINGS
@hypothesis.given(arguments())
def test_in_turn_each_worker_draws_what_it_draws_otherwise(kwargs):
    p, batch_size = kwargs["num_workers"], kwargs["batch_size"]
    together = draw_many(make(**{**kwargs, "in_turn": False}), 10)
    in_turn = draw_many(make(**{**kwargs, "in_turn": True}), 10 * p)
    np.testing.assert_array_equal(in_turn.reshape(10, p, batch_size), together)


@SETTINGS
@hypothesis.given(arguments())
def test_shapes_and_range(kwargs):
    drawn = draw_many(make(**kwargs), 10)
    rows = 1 if kwargs["in_turn"] else kwargs["num_workers"]
    assert drawn.shape == (10, rows, kwargs["batch_size"])
    assert drawn.min() >= 0 and drawn.max() < kwargs["num_examples"]


@pytest.mark.parametrize("kind", ["loaders", "uniform"])
def test_seed_decides(kind):
    a, b = draw_many(make(kind), 9), draw_many(make(kind), 9)
    np.testing.assert_array_equal(a, b)
    assert (a != draw_many(make(kind, seed=1), 9)).any()


@pytest.mark.parametrize("num_workers", [1, 2, 7])
@pytest.mark.parametrize("num_examples", [96, 99])
def test_each_worker_sees_the_whole_data_set(num_workers, num_examples):
    # 96 / 12 is 8 chunks a pass: if workers were served in a fixed order, each
    # of two would see every other chunk only, for ever.
    sampler = make(num_examples=num_examples, num_workers=num_workers)
    drawn = draw_many(sampler, 900 * num_workers)
    for worker in range(num_workers):
        counts = np.bincount(drawn[:, worker].ravel(), minlength=num_examples)
        assert counts.min() > 0


def test_interior_images_come_equally_often():
    sampler = make(num_examples=99, num_workers=1)
    drawn = draw_many(sampler, 24 * 200)
    counts = np.bincount(drawn.ravel(), minlength=99)
    assert np.all(np.abs(counts[3:-3] / 200 - 1) < 0.03)
    # s = 3: image i < s only in the passes that start at it or before.
    assert np.all(np.abs(counts[:3] / 200 - [1 / 4, 2 / 4, 3 / 4]) < 0.1)


@SETTINGS
@hypothesis.given(arguments())
def test_pools_are_one_chunk_of_each_loader(kwargs):
    """Checks every pool against loaders that are asked in the same order."""
    del kwargs["kind"]
    kwargs["num_workers"] = 1  # So that pools follow one another.
    b, k = kwargs["batch_size"], kwargs["num_loaders"]
    length = loaders.chunk_length(
        kwargs["num_examples"], b, k, kwargs["chunk_size"]
    )
    readers = loaders.Loaders(
        kwargs["num_examples"],
        b,
        num_loaders=k,
        chunk_size=length,
        seed=kwargs["seed"],
    )
    sampler = make(**kwargs)
    for _ in range(5):
        (chunks,) = readers.serve(1)
        expected = np.concatenate(
            [np.arange(c.start, c.start + c.size) for c in chunks]
        )
        drawn = draw_many(sampler, expected.size // b).ravel()
        np.testing.assert_array_equal(np.sort(drawn), np.sort(expected))


def test_pools_are_shuffled_each_differently():
    sampler = make(num_examples=400, num_workers=2, chunk_size=40)
    pools = draw_many(sampler, 30)  # 3 chunks of 40 in minibatches of 4.
    orders = [np.argsort(pools[:, w].ravel()) for w in range(2)]
    assert (orders[0] != np.arange(120)).mean() > 0.9
    assert (orders[0] != orders[1]).mean() > 0.9


def test_skip_is_fast_and_shuffles_nothing(monkeypatch):
    sampler = make(
        num_examples=50_000, batch_size=128, num_loaders=8, chunk_size=512
    )
    monkeypatch.setattr(sampler, "_pool", None)
    sampler.skip(100_000)
    assert sampler.step == 100_000


def test_uniform_draws_with_replacement():
    drawn = make("uniform", num_examples=10, batch_size=1000).draw()
    counts = np.stack([np.bincount(row, minlength=10) for row in drawn])
    assert counts.shape == (2, 10)
    assert np.all(np.abs(counts - 100) < 50)
