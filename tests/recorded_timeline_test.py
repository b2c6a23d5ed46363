"""The logs of real clusters, repeated: to their centers, and workers."""

import collections
import contextlib

import keras
import numpy as np
import pytest

from tests import cluster_support as support
from tests import elastic_multi_worker_job as job
from tests import elastic_multi_worker_test as elastic
from tests import replay_support
from tests import virtual_support
from tests import worker_processes_test as processes
from tf_elastic import compat
from tf_elastic import strategies
from tf_elastic.timeline import EventFile
from tf_elastic.timeline import event as events
from tf_elastic.timeline import event_file
from tf_elastic.timeline.verify import entries
from tf_elastic.timeline.verify import verify
from tf_elastic.timeline.virtual import moves
from tf_elastic.timeline.virtual.moves import Move
from tf_elastic.timeline.virtual.recorded import RecordedTimeline

cluster, pool = elastic.cluster, processes.pool

P = 2
EXCHANGES = 100  # of each worker
# Of a method and a protocol: the period.
RUNS = {
    ("nesterov", "blocking"): 2,
    ("nesterov", "overlapped"): 2,
    ("nesterov", "synchronous"): 2,
    ("downpour", "blocking"): 3,
    ("downpour", "overlapped"): 2,
    ("mdownpour", "blocking"): 1,
    ("mdownpour", "overlapped"): 1,
    ("local_sgd", "synchronous"): 2,
    ("diloco", "synchronous"): 2,
}


def rates_of(method):
    """Of p."""
    if method in elastic.METHODS:
        return replay_support.elastic_rates(job.BETA)
    rate, momentum = {
        "mdownpour": (job.LEARNING_RATE, job.MOMENTUM),
        "diloco": job.OUTER,
    }.get(method, (0.0, 0.0))
    return lambda p: {
        "num_workers": p,
        "learning_rate": rate,
        "momentum": momentum,
    }


def gradient(worker, call, point):
    return job.gradient(worker, call % job.STEPS, point)


def bank_of(timeline, method):
    return replay_support.Bank(
        timeline,
        job.INITIAL,
        gradient,
        rates_of(method),
        job.LEARNING_RATE,
        job.MOMENTUM if method in ("nesterov", "heavy_ball") else 0.0,
    )


class Run:
    """What a cluster of processes has come to, and told."""

    def __init__(
        self, servers, workers, path, method, protocol, steps, float64=True
    ):
        file = EventFile(path)
        servers.shards[0].events.listen(file)
        processes.begin(
            workers,
            servers,
            protocol=protocol,
            events=str(path),
            float64=float64,
            max_lag=None,  # On a busy machine one of them may stand still.
        )
        for process in workers:
            process.do(
                "quadratic",
                method=method,
                tau=RUNS[method, protocol],
                run_eagerly=False,
            )
        for process in workers:
            process.ask("fit", steps=steps)
        self.points = [np.array(process.answer()) for process in workers]
        for process in workers:
            process.do("end")
        self.center = elastic.parameters(servers)
        self.path, self.found = path, event_file.read(path)


@pytest.fixture(scope="module")
def runs(pool, tmp_path_factory):
    """`runs(method, protocol)`: each is run once."""
    made = {}
    folder = tmp_path_factory.mktemp("logs")

    def run(method, protocol):
        key = method, protocol
        if key not in made:
            with contextlib.closing(support.Cluster(1)) as servers:
                made[key] = Run(
                    servers,
                    pool.living(P),
                    folder / f"{method}-{protocol}.jsonl",
                    method,
                    protocol,
                    # It ends within a period, where that is longer.
                    EXCHANGES * RUNS[key] - 1,
                )
        return made[key]

    return run


@pytest.mark.parametrize(("method", "protocol"), RUNS)
def test_a_real_cluster_is_repeated(runs, method, protocol):
    run = runs(method, protocol)
    timeline = RecordedTimeline(run.found)
    assert (timeline.num_workers, timeline.protocol) == (P, protocol)
    bank = bank_of(timeline, method)
    bank.follow(timeline)
    scale = np.max(np.abs(run.center))
    np.testing.assert_allclose(
        bank.center["center"], run.center, rtol=0, atol=1e-9 * scale
    )
    for i in range(P):
        np.testing.assert_allclose(
            bank.x[i], run.points[i], rtol=0, atol=1e-9 * scale
        )
    steps = EXCHANGES * RUNS[method, protocol] - 1
    assert bank.steps == [steps] * P
    if protocol != "synchronous":
        arrived = sorted(
            (e.version_applied, e.staleness)
            for e in run.found
            if e.shard is not None and e.outcome == events.APPLIED
        )
        assert bank.staleness == [stale for _, stale in arrived]
        assert len(arrived) > EXCHANGES


@pytest.mark.parametrize(("method", "protocol"), RUNS)
def test_the_log_of_a_real_cluster_can_have_been_so(runs, method, protocol):
    found = entries(runs(method, protocol).path)
    assert [str(violation) for violation in verify(found)] == []


def test_the_moves_are_the_same_each_time(runs):
    timeline = RecordedTimeline(runs("nesterov", "overlapped").found)
    found = list(timeline.moves())
    assert found == list(timeline.moves())
    virtual_support.check(found, P)
    times = [move.time for move in found]
    assert times == sorted(times) and times[0] == 0.0
    counted = collections.Counter(
        move.worker for move in found if move.kind in moves.STEPS
    )
    assert sum(counted.values()) == timeline.num_steps


class OneMore:
    """A log's timeline, and a step that moves no center."""

    def __init__(self, timeline):
        self.num_workers, self._timeline = timeline.num_workers, timeline
        self.kinds, self.protocol = timeline.kinds, timeline.protocol
        self.p_varies = timeline.p_varies

    def moves(self):
        for move in self._timeline.moves():
            yield move
        yield Move(move.time, moves.STEP, 0, self._timeline.num_steps // P)


def repeated(run, method, protocol):
    """The center of a training that goes by a log."""
    timeline = RecordedTimeline(run.found)
    strategy = strategies.VirtualClusterStrategy(
        P, timing=lambda workload, p: OneMore(timeline), protocol=protocol
    )
    with strategy.scope():
        model = job.Quadratic()
        model.build((None, job.N))
        model.set_weights([job.INITIAL[: job.SPLIT], job.INITIAL[job.SPLIT :]])
        model.compile(
            job.optimizer_of(method, RUNS[method, protocol])(),
            loss=lambda _, output: output,
        )
    samples = np.array(
        [
            job.NOISE[move.worker, move.clock % job.STEPS]
            for move in OneMore(timeline).moves()
            if move.kind in moves.STEPS
        ]
    )
    model.fit(
        samples,
        np.zeros(len(samples)),
        batch_size=1,
        shuffle=False,
        verbose=0,
    )
    return np.concatenate(
        [
            np.ravel(compat.native_variable(v).numpy())
            for v in model.trainable_variables
        ]
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("method", "protocol"), RUNS)
def test_training_repeats_a_real_cluster(runs, method, protocol):
    """By stock `fit`, in a virtual cluster that goes by the log."""
    run = runs(method, protocol)
    center = repeated(run, method, protocol)
    scale = np.max(np.abs(run.center))
    np.testing.assert_allclose(center, run.center, rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize("protocol", ["blocking", "overlapped"])
def test_in_single_precision_it_is_near(pool, tmp_path, protocol):
    """A server in NumPy may round otherwise than a graph; here it did not."""
    with contextlib.closing(support.Cluster(1)) as servers:
        run = Run(
            servers,
            pool.living(P),
            tmp_path / "events.jsonl",
            "nesterov",
            protocol,
            EXCHANGES * RUNS["nesterov", protocol] - 1,
            float64=False,
        )
    center = repeated(run, "nesterov", protocol)
    assert center.dtype == run.center.dtype == np.float32
    scale = np.max(np.abs(run.center))
    error = np.max(np.abs(center - run.center)) / scale
    assert error < 1e-5


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("p", "method", "protocol", "message"),
    [
        (3, "nesterov", "blocking", "the number of workers is 2 in the log"),
        (P, "nesterov", "overlapped", "the protocol is blocking in the log"),
        (P, "downpour", "blocking", "the rule is {'rule': 'elastic'} in the"),
    ],
)
def test_another_training_does_not_repeat_it(
    runs, p, method, protocol, message
):
    timeline = RecordedTimeline(runs("nesterov", "blocking").found)
    strategy = strategies.VirtualClusterStrategy(
        p, timing=lambda workload, p: timeline, protocol=protocol
    )
    with pytest.raises(ValueError, match=message), strategy.scope():
        model = job.Quadratic()
        model.build((None, job.N))
        optimizer = job.optimizer_of(method, 2)()
        optimizer.build(model.trainable_variables)


def test_another_model_does_not_repeat_it(runs):
    """This one is of float32."""
    timeline = RecordedTimeline(runs("nesterov", "blocking").found)
    strategy = strategies.VirtualClusterStrategy(
        P, timing=lambda workload, p: timeline, protocol="blocking"
    )
    with pytest.raises(ValueError, match="the model is 2 variables, 5 values"):
        with strategy.scope():
            variable = keras.Variable(np.zeros(5, "float32"), dtype="float32")
            job.optimizer_of("nesterov", 2)().build([variable])
