"""A trace of a real run: measured by a center, replayed to the bit."""

import json

import keras
import numpy as np
import pytest

from tests import elastic_multi_worker_job as job
from tests.elastic_multi_worker_test import cluster  # noqa: F401
from tests.elastic_multi_worker_test import worker  # noqa: F401
from tests.reference import delayed
from tf_elastic import optimizers
from tf_elastic.optimizers import delays

SCHEDULE = [0, 1, 1, 0, 1, 0, 0, 0, 1, 0, 1, 1, 0]  # whose turn it is


@pytest.mark.usefixtures("float64")
def test_a_recorded_run_replays(cluster, worker, tmp_path):  # noqa: F811
    servers = cluster()
    models = [
        job.build(
            worker(servers, index, 2, protocol="overlapped"),
            lambda: optimizers.EASGD(0.01, communication_period=1),
        )
        for index in (0, 1)
    ]
    for turn in SCHEDULE:
        models[turn].fit(
            job.NOISE[turn][:1], np.zeros(1), batch_size=1, verbose=0
        )
        job.served(models[turn].distribute_strategy)
    status = models[0].distribute_strategy.center_status()[0]
    entries = json.loads(json.dumps(status["staleness"]))
    delays.DelayTrace(entries).save(tmp_path / "trace.json")

    trace = delays.DelayTrace.load(tmp_path / "trace.json")
    assert len(trace.entries) >= len(SCHEDULE)
    assert {entry.worker for entry in trace.entries} == {0, 1}
    versions = [row[2] for row in sorted(entries)]
    assert 0 in versions and max(versions) > 1

    x = keras.Variable([1.0, 2.0], dtype="float64")
    optimizer = optimizers.DelayedGradient(keras.optimizers.SGD(0.25), trace)
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
