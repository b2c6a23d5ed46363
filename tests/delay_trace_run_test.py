"""A trace of a real run: measured by a center, replayed to the bit."""

import json
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import cluster_support as support
from tests import elastic_multi_worker_job as job
from tests.elastic_multi_worker_test import does_not_wait
from tests.reference import delayed
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.optimizers import delays

SCHEDULE = [0, 1, 1, 0, 1, 0, 0, 0, 1, 0, 1, 1, 0]  # whose turn it is


@pytest.fixture
def workers():
    """The strategies of two workers of one center, in this process."""
    servers = support.Cluster()
    spec = tf.train.ClusterSpec(
        {"worker": ["w0.invalid:1", "w1.invalid:1"], "ps": servers.centers}
    )
    made = [
        strategies.ElasticMultiWorkerStrategy(
            types.SimpleNamespace(
                cluster_spec=lambda: spec, task_type="worker", task_id=index
            ),
            "overlapped",
            devices=("CPU:0",),
            timeouts=support.PATIENT,
        )
        for index in (0, 1)
    ]
    yield made
    for strategy in made:
        strategy.leave()
    servers.close()


def recorded(workers):
    """What the center lists of a run in which the workers take turns."""
    models = [
        job.build(strategy, job.optimizer_of("easgd", 1))
        for strategy in workers
    ]
    does_not_wait(workers[0])
    for turn in SCHEDULE:
        models[turn].fit(
            job.NOISE[turn][:1], np.zeros(1), batch_size=1, verbose=0
        )
        job.served(workers[turn])
    return json.loads(json.dumps(workers[0].center_status()[0]["staleness"]))


@pytest.mark.usefixtures("float64")
def test_a_recorded_run_replays_to_the_bit(workers, tmp_path):
    entries = recorded(workers)
    delays.DelayTrace(entries).save(tmp_path / "trace.json")
    trace = delays.DelayTrace.load(tmp_path / "trace.json")
    versions = [versions for _, _, versions, _ in sorted(entries)]
    assert len(versions) >= len(SCHEDULE)
    assert {entry.worker for entry in trace.entries} == {0, 1}
    assert 0 in versions and max(versions) > 1

    x = keras.Variable([1.0, 2.0], dtype="float64")
    optimizer = optimizers.DelayedGradient(
        keras.optimizers.SGD(0.25), delay=trace
    )
    points = [x.numpy()]
    for _ in versions:
        optimizer.apply([3.0 * x.value], [x])
        points.append(x.numpy())
    expected = delayed.delayed_sgd(
        lambda worker, step, point: 3.0 * point,
        [1.0, 2.0],
        learning_rate=0.25,
        delays=lambda worker, k: versions[k],
        num_steps=len(versions),
    )
    np.testing.assert_array_equal(points, expected)
