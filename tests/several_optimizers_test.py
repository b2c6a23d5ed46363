"""A model of several optimizers on a cluster: each has a center of its own."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import cluster_support as support
from tests import elastic_multi_worker_test as elastic
from tests import own_loops_test as loops
from tests.process_support import Processes
from tests.process_support import free
from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.cluster.transport import wire

cluster, worker = elastic.cluster, elastic.worker

PAIRS = {
    "elastic": (
        lambda: optimizers.EASGD(0.1, communication_period=3),
        lambda: optimizers.EAMSGD(0.1, momentum=0.5, communication_period=2),
    ),
    "pushes": (
        lambda: optimizers.Downpour(0.1, communication_period=3),
        lambda: optimizers.MDownpour(0.05, momentum=0.5),
    ),
}


def gan(strategy, pair="elastic"):
    keras.utils.set_random_seed(7)
    with strategy.scope():
        model = loops.Gan()
        model.compile(
            *(make() for make in PAIRS[pair]),
            keras.losses.BinaryCrossentropy(from_logits=True),
        )
    return model


def data():
    return tf.data.Dataset.from_tensor_slices(loops.X).batch(4)  # 6 batches


class Centers(keras.callbacks.Callback):
    """What the model shows, after each step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.model.get_weights())


@pytest.mark.parametrize("pair", PAIRS)
def test_one_worker_is_one_device(worker, strategy, pair):
    """Clocks, periods, rules and rates of two optimizers, step by step."""
    runs = []
    for where in (
        strategy(1, None, closing=False),
        worker(protocol="blocking", closing=False),
    ):
        model, centers = gan(where, pair), Centers()
        model.fit(data(), epochs=2, verbose=0, callbacks=[centers])
        runs.append(centers.seen)
    for step, (expected, found) in enumerate(zip(*runs, strict=True)):
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(
                other, one, rtol=1e-5, atol=1e-6, err_msg=f"step {step}"
            )


@pytest.mark.parametrize(
    "protocol",
    [pytest.param("blocking", marks=pytest.mark.full), "overlapped"],
)
def test_two_workers_and_one_that_looks_on(cluster, worker, protocol):
    servers = cluster(2)
    models = [gan(worker(servers, i, 2, protocol=protocol)) for i in range(2)]
    for model in models:  # One after the other: the second begins there.
        model.fit(data(), epochs=2, verbose=0)
    for server in servers.servers:
        groups = list(server.groups)
        assert len(groups) == 2
        for shard in groups:
            members = shard.registry.members
            assert sorted(members) == [0, 1]
        # At t = 0, 3, 6, 9, or 0, 2, ..., 10; a worker that has taken no
        # step yet brings nothing; and at the end, 12, if there is something.
        for shard, period, count in zip(
            groups, (3, 2), pushes(protocol), strict=True
        ):
            assert shard.version == 2 * count
            clocks = [shard.registry.members[i].clock for i in range(2)]
            assert clocks == [12] * 2 and period * count >= 12
    for k, name in enumerate(("discriminator", "generator")):
        shown = center_of(servers, k, getattr(models[0], name))
        assert np.abs(shown - start_of(name)).max() > 1e-3
        for model in models:
            network = getattr(model, name)
            own = compat.native_variable(network.weights[0])
            # Both are on their way from there, and close to it.
            distance = np.abs(own.worker_values()[0] - shown)
            assert 1e-6 < distance.max() < 0.5
    looking = gan(worker(servers, job="evaluator"))
    for optimizer, network in (
        (looking.d_optimizer, looking.discriminator),
        (looking.g_optimizer, looking.generator),
    ):
        optimizer.build(network.trainable_weights)
    looking.distribute_strategy.extended.data_pass_begins()
    for k, name in enumerate(("discriminator", "generator")):
        np.testing.assert_array_equal(
            getattr(looking, name).get_weights()[0],
            center_of(servers, k, getattr(models[0], name)),
        )
    counts = models[0].distribute_strategy.exchange_counts()
    assert counts.exchanges == sum(pushes(protocol))
    for k in range(2):
        status = models[0].distribute_strategy.center_status(optimizer=k)
        assert [s["version"] for s in status] == [2 * pushes(protocol)[k]] * 2


def pushes(protocol):
    """Of one worker's two optimizers, in 12 steps."""
    # Both ways all that was done has come: by the last exchange that is due
    # where it leaves after the step, by that of the end where it is before.
    del protocol
    return (4, 6)


def start_of(name):
    model = gan(strategies.ElasticMirroredStrategy(["CPU:0"]))
    return getattr(model, name).get_weights()[0]


def center_of(servers, group, network):
    """The first weights of a network, as the servers hold them."""
    shards = [server.groups[group] for server in servers.servers]
    flat = np.concatenate([shard.arrays[0] for shard in shards])
    first = network.weights[0]
    size = int(np.prod(first.shape))
    return flat[:size].reshape(first.shape)


def test_a_center_that_is_killed_knows_both_again(tmp_path):
    """A real server, `kill -9`, and its newest snapshot."""
    processes = Processes(tmp_path)
    try:
        centers = free(1)
        folder = tmp_path / "s"
        flags = (f"--snapshot_dir={folder}", "--snapshot_interval_s=0.1")
        server = processes.center(0, centers, *flags)
        strategy = strategies.ElasticMultiWorkerStrategy(
            resolver(centers),
            "blocking",
            devices=["CPU:0"],
            timeouts=support.PATIENT,
        )
        model = gan(strategy)
        model.fit(data(), verbose=0)
        before = model.get_weights()
        versions = versions_of(strategy)
        assert min(versions) > 0
        support.until(lambda: saved(tmp_path) == versions)
        server.kill()
        server.wait(timeout=30)
        processes.center(0, centers, *flags, name="ps0-again")
        support.until(lambda: versions_of(strategy) == versions)
        for one, other in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
        model.fit(data(), verbose=0)
        assert all(
            new > old
            for new, old in zip(versions_of(strategy), versions, strict=True)
        )
        strategy.leave()
    finally:
        processes.close()


def resolver(centers, index=0, workers=1):
    names = [f"w{i}.invalid:1" for i in range(workers)]
    spec = {"worker": names, "ps": centers}
    return types.SimpleNamespace(
        cluster_spec=lambda: tf.train.ClusterSpec(spec),
        task_type="worker",
        task_id=index,
    )


def saved(folder):
    """Of both centers, in the newest snapshot."""
    state = support.newest_snapshot(folder / "s")
    if state is None or "group.1.shard" not in state:
        return None
    return [state[f"{k}shard"]["version"] for k in ("", "group.1.")]


def versions_of(strategy):
    """Of both centers, -1 for one that is away."""
    return [
        status["version"] if status else -1
        for k in range(2)
        for status in strategy.center_status(optimizer=k)
    ]


def test_a_model_more_has_a_center_more(cluster, worker):
    """A second model of the same script; and too many of them."""
    strategy = worker(cluster())
    models = [elastic.compiled(strategy) for _ in range(2)]
    for model in models:
        before = model.get_weights()[0]
        elastic.fit(model, epochs=1)
        assert np.abs(model.get_weights()[0] - before).max() > 1e-4
    assert len(strategy.extended.sessions) == 2
    with strategy.scope():
        for _ in range(wire.MAX_GROUPS - 2):
            optimizers.EASGD(0.1).build([keras.Variable([1.0])])
        with pytest.raises(RuntimeError, match="beyond the 8 that a cluster"):
            optimizers.EASGD(0.1).build([keras.Variable([1.0])])
