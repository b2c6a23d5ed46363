"""How a worker of a cluster begins, begins again, and hears of the chief."""

import concurrent.futures
import threading

import keras
import numpy as np
import pytest

from tests import elastic_multi_worker_job as job
from tests import elastic_multi_worker_test as support
from tests.elastic_multi_worker_test import assert_close
from tests.elastic_multi_worker_test import parameters
from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic.callbacks import SharedEpochs

cluster = support.cluster
worker = support.worker

TAU = 4
# Every protocol, and every kind of rule: the method and the protocol. Graphs
# of the others are what `conformance_cluster_test.py` has.
TRACED = [("easgd", "blocking"), ("nesterov", "overlapped")]
KINDS = [
    *TRACED,
    ("downpour", "overlapped"),
    ("admm", "blocking"),
    ("local_sgd", "synchronous"),
    ("nesterov", "synchronous"),
]


def train(model, steps, epochs=1, **kwargs):
    """Stock `fit` on the quadratic's samples, from the first one on."""
    model.fit(
        job.NOISE[0][:steps],
        np.zeros(steps),
        batch_size=1,
        shuffle=False,
        verbose=0,
        epochs=epochs,
        **kwargs,
    )
    job.served(model.distribute_strategy)
    return model


def one_step(model):
    model.train_on_batch(job.NOISE[0][:1], np.zeros(1))
    job.served(model.distribute_strategy)


# A worker without a step has nothing to give.


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("method", "protocol"), KINDS)
def test_a_late_worker_leaves_the_center_alone(
    cluster, worker, method, protocol
):
    """It has joined at the first center; the other one is far from there."""
    servers = cluster(2)
    make = job.optimizer_of(method, TAU)

    meets = protocol == "synchronous"
    eagerly = (method, protocol) not in TRACED

    def build(*worker_of):
        return job.build(
            worker(servers, *worker_of, protocol), make, run_eagerly=eagerly
        )

    def late_one():
        return build(int(meets), 2)

    # Where all meet, the other would wait for it.
    late = None if meets else late_one()
    other = train(build(1 - meets, 2 - meets), 3 * TAU)
    other.distribute_strategy.extended.stop(finished=True)
    late = late or late_one()
    center = parameters(servers)
    assert np.abs(center - job.INITIAL).max() > 0.01
    versions = [shard.version for shard in servers.shards]
    one_step(late)
    np.testing.assert_array_equal(parameters(servers), center)
    assert [shard.version for shard in servers.shards] == versions
    rate = job.LEARNING_RATE
    if method == "admm":
        rate /= 1 + rate * job.ELASTICITY
    assert_close(job.point(late), center - rate * job.gradient(0, 0, center))


class Told(job.Quadratic):
    """Calls `at_trace` when its training step is traced."""

    at_trace = None

    def call(self, inputs):
        if self.at_trace and compat.tape_is_active():
            at_trace, self.at_trace = self.at_trace, None
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                pool.submit(at_trace).result(120)
        return super().call(inputs)


@pytest.mark.usefixtures("float64")
def test_a_worker_is_traced_before_it_begins(cluster, worker):
    """The center that it begins with is that of the end of the tracing."""
    servers = cluster(2)
    make = job.optimizer_of("easgd", TAU)
    other = job.build(worker(servers, 0, 2), make)
    strategy = worker(servers, 1, 2)
    with strategy.scope():
        late = Told()
        late.build((None, job.N))
        late.compile(make(), loss=lambda _, output: output)
    members = servers.shards[0].registry.members

    def meanwhile():
        assert 1 not in members
        train(other, 3 * TAU)

    late.at_trace = meanwhile
    one_step(late)
    assert late.at_trace is None
    center = parameters(servers)
    assert np.abs(center - job.INITIAL).max() > 0.01
    assert members[1].present and members[1].pushes == 0
    assert_close(
        job.point(late),
        center - job.LEARNING_RATE * job.gradient(0, 0, center),
    )
    # Another look at the center changes nothing; the next step goes on.
    late.evaluate(job.NOISE[0][:1], np.zeros(1), verbose=0)
    one_step(late)
    once = center - job.LEARNING_RATE * job.gradient(0, 0, center)
    assert_close(
        job.point(late), once - job.LEARNING_RATE * job.gradient(0, 0, once)
    )


# Its clock goes on.

SCHEDULED = {
    "easgd": lambda rate: optimizers.EASGD(
        rate, communication_period=TAU, jit_compile=False
    ),
    "accumulating": lambda rate: optimizers.EASGD(
        rate,
        communication_period=TAU,
        jit_compile=False,
        gradient_accumulation_steps=2,
    ),
    "inner": lambda rate: optimizers.Elastic(
        keras.optimizers.SGD(rate), communication_period=TAU, jit_compile=False
    ),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", SCHEDULED)
def test_the_rate_before_and_after_a_kill_is_the_same(cluster, worker, name):
    servers = cluster(2)
    calls = 2 if name == "accumulating" else 1
    schedule = optimizers.schedules.InverseSqrtDecay(0.05, 0.5)

    def build():
        return job.build(
            worker(servers, 1, 2),
            lambda: SCHEDULED[name](schedule),
            run_eagerly=name != "easgd",
        )

    job.build(worker(servers, 0, 2), lambda: SCHEDULED[name](schedule))
    killed = build()
    train(killed, 2 * TAU * calls)
    for _ in range(calls):  # At the begin of the step it exchanges.
        one_step(killed)
    member = servers.shards[0].registry.members[1]
    assert member.clock == 2 * TAU
    again = build()
    for _ in range(calls):
        one_step(again)
    assert servers.shards[0].registry.members[1].incarnation == 2
    assert float(again.optimizer.learning_rate) == pytest.approx(
        float(killed.optimizer.learning_rate)
    )
    stepper = again.optimizer._stepper()
    assert int(stepper._iterations) == (2 * TAU + 1) * calls


# What the chief's callbacks decide.


class Set(keras.callbacks.Callback):
    """Does to the model what a stock callback would, after a batch."""

    def __init__(self, at, do):
        super().__init__()
        self.at, self.do = at, do

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.at:
            self.do(self.model)


def set_rate(rate):
    def do(model):
        model.optimizer.learning_rate = rate

    return do


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "protocol",
    ["blocking", pytest.param("overlapped", marks=pytest.mark.full)],
)
def test_the_chiefs_learning_rate_reaches_all(cluster, worker, protocol):
    servers = cluster(2)
    make = job.optimizer_of("easgd", 2)

    def build(index):
        return job.build(
            worker(servers, index, 2, protocol),
            make,
            run_eagerly=protocol == "blocking",
        )

    chief, other = build(0), build(1)
    train(other, 3)
    # As `ReduceLROnPlateau` does it.
    train(chief, 5, callbacks=[Set(1, set_rate(0.01))])
    rate = 0.01
    assert float(other.optimizer.learning_rate) != rate
    train(other, 3)  # Within one exchange.
    assert float(other.optimizer.learning_rate) == rate
    # So it is for those that are started again, and for the chief itself.
    for index in (1, 0):
        again = build(index)
        one_step(again)
        assert float(again.optimizer.learning_rate) == rate
    # What a worker does is its own.
    train(other := build(1), 5, callbacks=[Set(1, set_rate(0.02))])
    assert float(other.optimizer.learning_rate) == 0.02
    assert servers.shards[0].registry.instruction.learning_rate == rate


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("EarlyStopping", marks=pytest.mark.full),
        "TerminateOnNaN",
    ],
)
def test_the_chief_stops_all(cluster, worker, name):
    servers = cluster(1)
    chief, other = (support.compiled(worker(servers, i, 2)) for i in range(2))
    support.fit(chief, 1)
    support.does_not_wait(chief.distribute_strategy)
    if name == "EarlyStopping":
        stopping = keras.callbacks.EarlyStopping("loss", mode="max", patience=0)
    else:
        stopping = keras.callbacks.TerminateOnNaN()

    class Meanwhile(keras.callbacks.Callback):
        """In the third epoch of the other one the chief stops."""

        batches = 0  # of the other's, since then

        def on_train_batch_end(self, batch, logs=None):
            self.batches += bool(self.batches)

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                support.shared_fit(
                    chief,
                    9,
                    [SharedEpochs(96), NaN(name), stopping],
                )
                self.batches = 1

    meanwhile = Meanwhile()
    history = other.fit(
        support.dataset(), epochs=9, verbose=0, callbacks=[meanwhile]
    )
    assert len(history.epoch) == 3
    assert meanwhile.batches - 1 <= 2  # The period.
    # Another `fit` is not concerned, of neither of them.
    assert len(support.fit(other, 2).history.epoch) == 2
    assert len(support.fit(chief, 2).history.epoch) == 2
    assert not servers.shards[0].registry.instruction.stop


class NaN(keras.callbacks.Callback):
    """Shows a loss that is not a number to the callbacks behind it."""

    def __init__(self, name):
        super().__init__()
        self.is_shown = name == "TerminateOnNaN"

    def on_train_batch_end(self, batch, logs=None):
        if self.is_shown:
            logs["loss"] = float("nan")


# What `fit` leaves behind.

CLOSING = [
    *(("easgd", "blocking"), ("nesterov", "overlapped")),
    *(("downpour", "overlapped"), ("admm", "blocking")),
    *(("async_msgd", "overlapped"), ("local_sgd", "synchronous")),
    pytest.param("downpour", "blocking", marks=pytest.mark.full),
    pytest.param("nesterov", "synchronous", marks=pytest.mark.full),
]


@support.SWINGS
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("method", "protocol"), CLOSING)
def test_the_end_of_fit_brings_what_is_left(cluster, worker, method, protocol):
    """Two steps more than the period, which the center would not have."""
    servers = cluster(2)
    model = job.build(
        worker(servers, protocol=protocol),
        job.optimizer_of(method, TAU),
        run_eagerly=True,  # That is not what it is about.
    )
    seen = {}

    def note(epoch, logs):
        job.served(model.distribute_strategy)
        seen.update(x=job.point(model), c=parameters(servers).copy())

    train(
        model,
        TAU + 2,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=note)],
    )
    x, c = seen["x"], seen["c"]
    after_x, after_c = job.point(model), parameters(servers)
    session = model.distribute_strategy.extended.sessions[0]
    assert not session.exchanger.in_flight
    if method in ("easgd", "nesterov"):
        if protocol == "overlapped":
            # What left at the period's end has come back: of the first one,
            # the difference to the first center.
            x = x - (c - job.INITIAL)
        moved = job.BETA * (x - c)
        assert_close(after_x, x - moved)
        assert_close(after_c, c + moved)
    elif method == "async_msgd":
        assert_close(after_c, c)
        assert_close(after_x, c)
    elif method == "admm":
        multiplier = model.optimizer._exchange.parameters
        parts = np.concatenate(
            [p.point(0) - p.multiplier.store.read(0) for p in multiplier]
        )
        assert_close(after_c, parts)  # The mean of one.
        assert_close(after_x, x)
    else:  # The center has all, and the worker goes on from there.
        assert_close(after_c, x)
        assert_close(after_x, x)
    # What is saved is that.
    assert_close(np.concatenate(model.get_weights()), after_c)
    versions = [shard.version for shard in servers.shards]
    train(model, 1, initial_epoch=1)  # No step: nothing to give.
    assert [shard.version for shard in servers.shards] == versions


@pytest.mark.usefixtures("float64")
def test_the_chief_waits_for_those_that_are_finishing(cluster, worker):
    servers = cluster(2)
    make = job.optimizer_of("easgd", TAU)
    chief, other = (
        job.build(worker(servers, i, 2), make, run_eagerly=True)
        for i in range(2)
    )
    trains, ends = threading.Event(), threading.Event()

    def pause(batch, logs):
        if batch == TAU:  # It has exchanged, and so is known to train.
            trains.set()
            assert ends.wait(60)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(
            train,
            other,
            TAU + 2,
            callbacks=[
                keras.callbacks.LambdaCallback(on_train_batch_end=pause)
            ],
        )
        assert trains.wait(60)
        other.distribute_strategy.extended.client.signal()
        client = chief.distribute_strategy.extended.client
        wait = client.wait_for_others

        def waits(seconds):
            assert seconds == 10.0
            assert wait(0.0) == [1]
            ends.set()
            return wait(60.0)  # The machine may be busy.

        client.wait_for_others = waits
        train(chief, TAU + 2)
        call.result(60)
    assert ends.is_set()
    # What it shows, and saves, has the other's end in it.
    assert servers.shards[0].registry.members[1].clock == TAU + 2
    assert_close(np.concatenate(chief.get_weights()), parameters(servers))
