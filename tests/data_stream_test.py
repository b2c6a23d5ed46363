"""Epochs of a stream: they continue, and depend on nothing but their number."""

import numpy as np
import pytest

from tf_elastic.data import epoch_stream
from tf_elastic.data import loader_sampler


def make(steps_per_epoch=7, seed=3, skip=0, num_codes=50):
    sampler = loader_sampler.LoaderSampler(
        200, 4, 2, num_loaders=3, chunk_size=16, seed=seed
    )
    sampler.skip(skip)
    return epoch_stream.EpochStream(
        sampler,
        steps_per_epoch=steps_per_epoch,
        num_codes=num_codes,
        seed=seed,
    )


def epoch(stream):
    return np.concatenate(list(stream()))


def test_an_epoch_has_its_steps_as_index_and_code():
    drawn = epoch(make())
    assert drawn.shape == (7, 2, 8) and drawn.dtype == np.int32
    assert drawn[:, 0].max() < 200 and drawn[:, 1].max() < 50
    assert drawn.min() >= 0


def test_indices_are_the_samplers_worker_after_worker():
    sampler = loader_sampler.LoaderSampler(
        200, 4, 2, num_loaders=3, chunk_size=16, seed=3
    )
    for step in epoch(make()):
        np.testing.assert_array_equal(step[0].reshape(2, 4), sampler.draw())


def test_epochs_continue():
    stream, whole = make(), epoch(make(steps_per_epoch=21))
    parts = np.concatenate([epoch(stream) for _ in range(3)])
    np.testing.assert_array_equal(parts, whole)


def test_blocks_do_not_change_the_stream(monkeypatch):
    whole = epoch(make())
    monkeypatch.setattr(epoch_stream, "_BLOCK_INDICES", 24)
    blocks = list(make()())
    assert [len(block) for block in blocks] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


@pytest.mark.parametrize("skip", [1, 7, 30])
def test_resumes_exactly_codes_included(skip):
    whole = epoch(make(steps_per_epoch=40))
    resumed = epoch(make(steps_per_epoch=10, skip=skip))
    np.testing.assert_array_equal(resumed, whole[skip : skip + 10])


def test_an_abandoned_epoch_changes_no_other():
    stream, other = make(), make()
    next(stream())
    epoch(other)
    np.testing.assert_array_equal(epoch(stream), epoch(other))


def test_epochs_in_turns_do_not_mix():
    stream, other = make(), make()
    first, second = stream(), stream()
    late = np.concatenate(list(second))
    early = np.concatenate(list(first))
    np.testing.assert_array_equal(early, epoch(other))
    np.testing.assert_array_equal(late, epoch(other))


def test_codes_differ_between_images_and_are_uniform():
    codes = epoch(make(steps_per_epoch=1000))[:, 1]
    counts = np.bincount(codes.ravel(), minlength=50)
    assert np.all(np.abs(counts / 160 - 1) < 0.35)
    assert np.mean(codes == codes[:, :1]) < 0.2
