"""The loaders send what section 4.1 of the thesis says."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.drawing import examples
from tf_elastic.data import loaders

SETTINGS = examples(60)


@st.composite
def sizes(draw):
    batch_size = draw(st.integers(1, 9))
    return {
        "num_examples": draw(st.integers(batch_size, 120)),
        "batch_size": batch_size,
        "num_loaders": draw(st.integers(1, 5)),
        "chunk_size": batch_size * draw(st.integers(1, 6)),
        "seed": draw(st.integers(0, 2**32)),
    }


def passes(chunks):
    """Cuts one loader's chunks where they do not follow one another."""
    result = [[chunks[0]]]
    for before, chunk in zip(chunks[:-1], chunks[1:], strict=True):
        # A pass that ends where the next begins would have to be of size 0.
        if chunk.start == before.start + before.size:
            result[-1].append(chunk)
        else:
            result.append([chunk])
    return result


@SETTINGS
@hypothesis.given(sizes())
def test_passes_are_consecutive_and_miss_only_the_remainder(size):
    readers = loaders.Loaders(**size)
    n, b, c = size["num_examples"], size["batch_size"], size["chunk_size"]
    s = n % b
    sent = [readers.send(0) for _ in range(6 * (n // b + 1))]
    assert all(chunk.size % b == 0 and 0 < chunk.size <= c for chunk in sent)
    assert 0 <= min(chunk.start for chunk in sent)
    assert max(chunk.start + chunk.size for chunk in sent) <= n
    complete = passes(sent)[1:-1]  # The first begins anywhere.
    for chunks in complete:
        assert 0 <= chunks[0].start <= s
        assert sum(chunk.size for chunk in chunks) == n - s
        assert all(chunk.size == c for chunk in chunks[:-1])


@SETTINGS
@hypothesis.given(sizes())
def test_loaders_start_evenly_spaced(size):
    readers = loaders.Loaders(**size)
    n, b, k = size["num_examples"], size["batch_size"], size["num_loaders"]
    for j, position in enumerate(readers.positions):
        offset = position - j * (n // b) // k * b
        assert 0 <= offset <= n % b


def test_re_entry_is_uniform_in_the_remainder():
    readers = loaders.Loaders(13, 5, num_loaders=1, chunk_size=10, seed=0)
    starts = [readers.send(0).start for _ in range(4000)]
    counts = np.bincount(starts)
    assert len(counts) == 4  # [0, s] with s = 3, both ends included.
    assert np.all(np.abs(counts / 4000 - 1 / 4) < 0.03)


def test_serve_takes_one_chunk_of_each_loader_for_each_worker():
    size = {"num_loaders": 3, "chunk_size": 10, "seed": 1}
    served = loaders.Loaders(1000, 5, **size).serve(4)
    assert [len(chunks) for chunks in served] == [3] * 4
    expected = loaders.Loaders(1000, 5, **size)
    for loader in range(3):
        sent = {expected.send(loader) for _ in range(4)}
        assert {chunks[loader] for chunks in served} == sent


def test_any_worker_may_be_served_first():
    readers = loaders.Loaders(10_000, 5, num_loaders=1, chunk_size=10, seed=1)
    firsts = set()
    for _ in range(50):
        starts = [chunks[0].start for chunks in readers.serve(3)]
        firsts.add(int(np.argmin(starts)))
    assert firsts == {0, 1, 2}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((50_000, 128, 8, 512), 512),  # The thesis' CIFAR.
        ((50_000, 100, 8, 512), 500),  # Whole minibatches.
        ((1437, 32, 8, 512), 160),  # All loaders together: about one pass.
        ((1437, 1000, 8, 512), 1000),  # One minibatch at least.
    ],
)
def test_chunk_length(arguments, expected):
    assert loaders.chunk_length(*arguments) == expected
