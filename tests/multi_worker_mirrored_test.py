"""Synchronous training in several processes, against one process."""

import contextlib
import json
import os
import pickle
import re
import signal
import socket
import subprocess
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import forking
from tests import multi_worker_mirrored_job
from tf_elastic import strategies
from tf_elastic.strategies import multi_worker_mirrored

# For one job. The longest takes about a minute on two cores under a load of
# 5; under one of 20 it had not ended after 500 s.
DEADLINE_S = 1500
pytestmark = pytest.mark.timeout(DEADLINE_S + 300)
TOLERANCE = 5e-6  # float32: sums in another order, over some 20 steps
STEPS = (1, 4)


def free_ports(number):
    """Ports that are free now, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for _ in range(number)
        ]
        return [s.getsockname()[1] for s in sockets]


class Jobs:
    """Processes that run a part of the job script, each with its TF_CONFIG."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = {}

    def start(self, part, index, config, **environment):
        (self.folder / f"worker{index}").mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "TF_NUM_INTRAOP_THREADS": "1",
            "TF_NUM_INTEROP_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONFAULTHANDLER": "1",  # for the time-out in `result`
            **environment,
            "TF_CONFIG": json.dumps(config),
        }
        module = "tests.multi_worker_mirrored_job"
        log = self.folder / f"{part}-{index}.log"
        with log.open("wb") as stream:
            self.processes[part, index] = forking.start(
                ["-m", module, str(self.folder), part], environment, stream
            )

    def start_pair(self, part, chief=False, **environment):
        addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
        if chief:
            cluster = {"chief": addresses[:1], "worker": addresses[1:]}
            tasks = [("chief", 0), ("worker", 0)]
        else:
            cluster = {"worker": addresses}
            tasks = [("worker", 0), ("worker", 1)]
        for index in (0, 1):
            task = {"type": tasks[index][0], "index": tasks[index][1]}
            config = {"cluster": cluster, "task": task}
            self.start(part, index, config, **environment)

    def result(self, part, index, code=0):
        """What a process has found, when it has ended as expected."""
        log = self.folder / f"{part}-{index}.log"
        process = self.processes[part, index]
        try:
            ended = process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            ended = f"none after {DEADLINE_S} s"
            # It writes down where each of its threads waits.
            process.send_signal(signal.SIGABRT)
            process.wait(60)
        if ended != code:
            text = log.read_text(errors="replace")
            # A list of some thousands of characters, after the threads.
            tail = re.sub(r"(?m)^Extension modules:.*", "", text)[-8000:]
            pytest.fail(f"{part} {index}: exit code {ended}\n{tail}")
        return self.read(part, index)

    def read(self, part, index):
        """What a process has written."""
        path = self.folder / f"{part}-{index}.pickle"
        return pickle.loads(path.read_bytes())

    def kill(self):
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait(30)


class OwnKeys(strategies.MultiWorkerMirroredStrategy):
    """Collectives' keys are those of the process; these no other test uses."""

    _collective_key_base = 8000


class OtherKeys(strategies.MultiWorkerMirroredStrategy):
    """The same, of another strategy."""

    _collective_key_base = 16000


@pytest.fixture
def jobs(tmp_path):
    started = Jobs(tmp_path)
    try:
        yield started
    finally:
        started.kill()


class Ended(NamedTuple):
    """What processes have found that trained, until one was stopped."""

    trained: list  # by chief, worker, and one process, in all ways
    lost: dict  # by the chief, when the worker was stopped
    timeout: str  # what the chief was told before, in another cluster
    missing: str  # the address of whom it waited for there


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    started = Jobs(tmp_path_factory.mktemp("train"))
    alone, missing = (f"127.0.0.1:{port}" for port in free_ports(2))
    waits = {
        "cluster": {"chief": [alone], "worker": [missing]},
        "task": {"type": "chief", "index": 0},
    }
    try:
        started.start_pair("train", chief=True, ALONE=json.dumps(waits))
        folder = tmp_path_factory.mktemp("alone")
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("TF_CONFIG", raising=False)
            (folder / "workerNone").mkdir()
            # What one process finds does not depend on the steps.
            single = multi_worker_mirrored_job.trained(
                OtherKeys(), folder, (1,)
            )
        chief = started.result("train", 0)
        lost = started.read("stop 1", 0)
        trained = [chief, started.read("train", 1), single]
        return Ended(trained, lost, lost["timeout"], missing)
    finally:
        started.kill()


@pytest.fixture(scope="module")
def trained(ended):
    return ended.trained


def differences(first, second):
    """Paths of two nested results that are not the same to the bit."""
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        return [
            f"{key}/{path}"
            for key in first
            for path in differences(first[key], second[key])
        ]
    if isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        return [
            f"{i}/{path}"
            for i, pair in enumerate(zip(first, second, strict=True))
            for path in differences(*pair)
        ]
    return [] if np.array_equal(first, second) else [""]


def close(first, second):
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, 0, TOLERANCE),
        first,
        second,
    )


def test_all_workers_find_the_same(trained):
    """Losses, metrics, weights, predictions and logs, to the bit."""
    chief, worker, _ = trained
    assert (chief.pop("index"), worker.pop("index")) == (0, 1)
    assert differences(chief, worker) == []
    chief["index"], worker["index"] = 0, 1


def without_batches(found):
    """All but what depends on how many batches an execution has."""
    if not isinstance(found, dict):
        return found
    return {
        key: without_batches(value)
        for key, value in found.items()
        if key not in ("batches", "again", "again weights")
    }


@pytest.mark.parametrize(
    "part",
    [
        *(
            f"{name} {k}"
            for name in ("tutorial", "steps_per_epoch")
            for k in STEPS
        ),
        "backup",
    ],
)
def test_two_processes_find_what_one_does(trained, part):
    """On the whole batch: losses, weights, evaluation and predictions."""
    chief, _, single = trained
    alone = part.replace("4", "1")
    close(without_batches(chief[part]), without_batches(single[alone]))


@pytest.mark.parametrize("name", ["tutorial", "steps_per_epoch"])
def test_two_processes_log_what_one_does(trained, name):
    """To the callbacks, after each batch: here slices are of one size."""
    chief, _, single = trained
    close(chief[f"{name} 1"]["batches"], single[f"{name} 1"]["batches"])


@pytest.mark.parametrize("part", ["tutorial", "steps_per_epoch", "uneven"])
def test_steps_per_execution_changes_no_result(trained, part):
    chief, _, _ = trained
    one, four = (without_batches(chief[f"{part} {k}"]) for k in STEPS)
    assert differences(one, four) == []


@pytest.mark.parametrize("k", STEPS)
def test_a_batch_callback_is_called_once_an_execution(trained, k):
    chief, _, _ = trained
    batches = [batch for batch, _ in chief[f"tutorial {k}"]["batches"]]
    assert batches == 3 * {1: [0, 1, 2, 3, 4, 5], 4: [3, 7]}[k]


@pytest.mark.parametrize("k", STEPS)
@pytest.mark.parametrize("batch_size", [4, 41])
def test_predictions_are_in_the_order_of_the_rows(trained, k, batch_size):
    """Of all rows, whatever the last batch."""
    found = trained[0][f"tutorial {k}"]
    assert found[f"predict {batch_size}"].shape == (41, 3)
    close(found[f"predict {batch_size}"], found["predict 41"])


@pytest.mark.parametrize("k", STEPS)
def test_the_network_learns(trained, k):
    losses = trained[0][f"tutorial {k}"]["history"]["loss"]
    assert losses[2] < losses[1] < losses[0]


@pytest.mark.parametrize("k", STEPS)
@pytest.mark.parametrize("file", ["saved", "checkpoint"])
def test_every_worker_saves_the_network(trained, k, file):
    for found in trained[:2]:
        tutorial = found[f"tutorial {k}"]
        assert differences(tutorial[file], tutorial["weights"]) == []


@pytest.mark.parametrize("k", STEPS)
def test_a_worker_without_rows_takes_part(trained, k):
    """The metrics are those of all rows; see the limits for the gradient."""
    chief, _, single = trained
    assert len(chief[f"uneven {k}"]["history"]["loss"]) == 2
    assert all(np.isfinite(w).all() for w in chief[f"uneven {k}"]["weights"])
    # Up to the last batch of the first epoch the two have done the same.
    if k == 1:
        close(
            chief["uneven 1"]["batches"][:4], single["uneven 1"]["batches"][:4]
        )


def test_an_interrupted_training_is_resumed_to_the_bit(trained):
    """All share one folder, in which only the chief writes."""
    for found in trained:
        part = found["backup"]
        whole = found["tutorial 4" if "tutorial 4" in found else "tutorial 1"]
        assert differences(whole["weights"], part["resumed weights"]) == []
        resumed = part["resumed"]["history"]
        assert {"loss", "accuracy"} <= set(resumed)
        for name, values in resumed.items():
            assert whole["history"][name][2:] == values


def test_a_backup_of_the_first_epoch_is_restored_by_all(trained):
    """Keras begins the epoch again, with the weights of its interruption."""
    for found in trained:
        part = found["backup"]
        [again] = part["again"]["history"]["loss"]
        assert again < found["tutorial 1"]["history"]["loss"][0]


def test_an_elastic_optimizer_is_refused(trained):
    for found in trained[:2]:
        assert "needs an elastic strategy" in found["refused"]
        assert "MultiWorkerMirroredStrategy" in found["refused"]
        assert "ElasticMirroredStrategy" in found["refused"]


def test_a_stopped_worker_is_an_error_that_names_it(ended):
    """Its connections stay open: it is lost when it has said nothing."""
    assert ended.lost["error"] is not None
    assert re.search("/job:worker(/replica:0)?/task:0", ended.lost["message"])


@pytest.mark.full
@pytest.mark.parametrize(
    ("part", "left"), [("stop 1", 0), ("kill 1", 0), ("kill 0", 1)]
)
def test_a_lost_peer_is_an_error_that_names_it(jobs, part, left):
    jobs.start_pair(part)
    found = jobs.result(part, left)
    assert found["error"] is not None
    assert f"task:{1 - left}" in found["message"]


def test_a_peer_that_never_comes_is_an_error_that_names_it(ended):
    assert "chief 0 waited" in ended.timeout
    assert f"worker 0 ({ended.missing})" in ended.timeout
    assert "TF_CONFIG" in ended.timeout


def two_workers(addresses, index):
    """How one of two workers sees the cluster."""
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": addresses}),
        task_type="worker",
        task_id=index,
    )


def test_the_first_worker_too_may_never_come():
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    with pytest.raises(TimeoutError, match="worker 1 waited") as error:
        multi_worker_mirrored._wait_for_tasks(two_workers(addresses, 1), 0.1)
    assert f"worker 0 ({addresses[0]})" in str(error.value)


def test_a_port_in_use_is_an_error_that_names_it():
    with socket.create_server(("", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        resolver = two_workers([address, "127.0.0.1:1"], 0)
        with pytest.raises(OSError, match=f"{address} in TF_CONFIG"):
            multi_worker_mirrored._wait_for_tasks(resolver, 60)


@pytest.mark.parametrize("name", ["startup_timeout_s", "peer_timeout_s"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_a_time_must_be_positive(name, value):
    with pytest.raises(ValueError, match=f"Received: {name}={value}"):
        strategies.MultiWorkerMirroredStrategy(**{name: value})


@pytest.fixture(scope="module")
def two_devices():
    """One process with two devices, as a worker with two GPUs has them."""
    return OwnKeys._from_local_devices(["CPU:0", "CPU:1"])


@pytest.mark.parametrize("k", [pytest.param(1, marks=pytest.mark.full), 4])
def test_several_devices_of_one_process(two_devices, k):
    single = multi_worker_mirrored_job.tutorial_numbers(
        tf.distribute.get_strategy(), 1
    )
    found = multi_worker_mirrored_job.tutorial_numbers(two_devices, k)
    close(without_batches(found), without_batches(single))
    if k == 1:
        close(found, single)


@pytest.mark.parametrize("synchronized", [False, True])
def test_what_is_not_trained_is_each_replicas_own(two_devices, synchronized):
    """What is trained is the same on all, and so are statistics of all rows."""
    with two_devices.scope():
        normalization = keras.layers.BatchNormalization(
            synchronized=synchronized
        )
        model = keras.Sequential([keras.Input((6,)), normalization])
        model.compile("sgd", "mse")
    x = np.random.default_rng(1).normal(size=(8, 6)).astype("float32")
    model.fit(x, x, batch_size=8, verbose=0)
    same = {
        variable.name: bool((first.numpy() == second.numpy()).all())
        for variable in normalization.variables
        for first, second in [variable.value.values]
    }
    assert same == {
        "gamma": True,
        "beta": True,
        "moving_mean": synchronized,
        "moving_variance": synchronized,
    }


def test_slices_of_unlike_shapes_have_their_first_one(two_devices):
    """What Keras asks of a first batch, to learn its shape."""
    slices = two_devices.experimental_distribute_values_from_function(
        lambda context: tf.ones((3 - context.replica_id_in_sync_group, 2))
    )
    found = two_devices.reduce("MEAN", {"x": slices, "y": (slices,)}, None)
    assert found["x"].shape == (3, 2)
    assert found["y"][0].shape == (3, 2)


def test_scalars_are_reduced_over_replicas_whatever_the_axis(two_devices):
    values = two_devices.experimental_distribute_values_from_function(
        lambda context: tf.constant(2.0 * context.replica_id_in_sync_group)
    )
    for axis in (None, 0):
        assert float(two_devices.reduce("MEAN", values, axis)) == 1.0
        assert float(two_devices.reduce("SUM", values, axis)) == 2.0


def test_rows_are_reduced_over_their_axis(two_devices):
    rows = two_devices.experimental_distribute_values_from_function(
        lambda context: tf.ones(2 + context.replica_id_in_sync_group)
    )
    assert float(two_devices.reduce("SUM", rows, 0)) == 5.0
    assert float(two_devices.reduce("MEAN", rows, 0)) == 1.0


def test_one_process_keeps_keras_backups(two_devices):
    assert two_devices.is_chief
    assert not two_devices.shares_backups
