"""Elastic workers in processes of their own, and their center servers.

A process takes a step when it is told to, so that the order of service is
fixed; the center servers are in this process.
"""

import json
import os
import queue
import threading

import numpy as np
import pytest

from tests import elastic_multi_worker_job as job
from tests import elastic_multi_worker_test as elastic
from tests import family_multi_worker_test as family
from tests import forking
from tests.elastic_multi_worker_test import assert_close
from tests.elastic_multi_worker_test import parameters

cluster = elastic.cluster

DEADLINE_S = 300


class Process:
    """A worker of `elastic_multi_worker_job`, told what to do."""

    def __init__(self, log):
        self.log = log
        self.answers = queue.Queue()
        told, self.stdin = os.pipe()
        self.stdout, answered = os.pipe()
        self.stdin = os.fdopen(self.stdin, "w")
        self.stdout = os.fdopen(self.stdout)
        with (
            open(log, "wb") as stream,
            os.fdopen(told) as stdin,
            os.fdopen(answered, "w") as stdout,
        ):
            self.process = forking.start(
                ["-m", "tests.elastic_multi_worker_job"],
                {
                    **os.environ,
                    "TF_NUM_INTRAOP_THREADS": "1",
                    "TF_NUM_INTEROP_THREADS": "1",
                    "TF_CPP_MIN_LOG_LEVEL": "2",
                    "CUDA_VISIBLE_DEVICES": "",
                },
                stdout,
                stdin=stdin,
                stderr=stream,
            )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.stdout:
            if line.startswith("@"):
                self.answers.put(json.loads(line[1:]))
        self.answers.put([None, "its output has ended"])

    def ask(self, what, **arguments):
        print(json.dumps([what, arguments]), file=self.stdin, flush=True)

    def answer(self):
        try:
            result, error = self.answers.get(timeout=DEADLINE_S)
        except queue.Empty:
            result, error = None, f"no answer within {DEADLINE_S} s"
        assert error is None, f"{error}\n{self.log.read_text()[-3000:]}"
        return result

    def do(self, what, **arguments):
        self.ask(what, **arguments)
        return self.answer()

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=30)
        self.reader.join(timeout=30)
        self.stdin.close()
        self.stdout.close()


class Pool:
    """Processes that all tests of this file share, as many as they need."""

    def __init__(self, folder):
        self.folder = folder
        self.made = []

    def living(self, count):
        """So many, none of which was killed."""
        living = [p for p in self.made if p.process.poll() is None]
        new = [
            Process(self.folder / f"{len(self.made) + i}.log")
            for i in range(count - len(living))
        ]
        self.made += new
        for process in new:
            assert process.answer() == "ready"
        return [*living, *new][:count]


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    made = Pool(tmp_path_factory.mktemp("processes"))
    try:
        yield made
    finally:
        for process in made.made:
            process.kill()


def begin(processes, servers, **kwargs):
    """Makes processes the workers of new servers."""
    for i, process in enumerate(processes):
        begin_one(process, servers, len(processes), i, **kwargs)


def begin_one(process, servers, workers, index, **kwargs):
    config = {
        "cluster": {
            "worker": [f"w{i}.invalid:1" for i in range(workers)],
            "ps": servers.centers,
        },
        "task": {"type": "worker", "index": index},
    }
    process.do("begin", config=config, **kwargs)


# The method, the protocol, the number of workers and the period.
ELASTIC = [
    ("nesterov", "blocking", 3, 4),
    ("nesterov", "overlapped", 2, 4),
    ("nesterov", "synchronous", 2, 4),
    pytest.param("easgd", "blocking", 2, 1, marks=pytest.mark.full),
    pytest.param("easgd", "synchronous", 3, 1, marks=pytest.mark.full),
    pytest.param("heavy_ball", "overlapped", 2, 1, marks=pytest.mark.full),
]
PUSHING = [
    pytest.param("downpour", "blocking", 2, 3, marks=pytest.mark.full),
    ("downpour", "overlapped", 2, 3),
    pytest.param("mvadownpour", "blocking", 2, 2, marks=pytest.mark.full),
    pytest.param("async_msgd", "blocking", 2, 1, marks=pytest.mark.full),
    ("async_msgd_all", "overlapped", 2, 1),
    ("mdownpour", "blocking", 2, 1),
    ("admm", "blocking", 2, 2),
    pytest.param("local_sgd", "synchronous", 2, 3, marks=pytest.mark.full),
    ("diloco", "synchronous", 2, 3),
]
# Traced by `fit` elsewhere, these are traced here, too; the others run eagerly.
TRACED = [
    ("nesterov", "blocking"),
    ("nesterov", "overlapped"),
    ("nesterov", "synchronous"),
    ("mdownpour", "blocking"),
]
TURNS = 9


@pytest.mark.parametrize(("method", "protocol", "p", "tau"), ELASTIC + PUSHING)
def test_processes_equal_the_pseudo_code(
    cluster, pool, method, protocol, p, tau
):
    """Step by step, served in a fixed order (synchronous: all at once)."""
    servers = cluster(2)
    workers = pool.living(p)
    begin(workers, servers, protocol=protocol)
    eagerly = (method, protocol) not in TRACED
    for process in workers:
        process.do("quadratic", method=method, tau=tau, run_eagerly=eagerly)
    schedule = [
        int(i) % p for i in np.random.default_rng(p).permutation(TURNS * p)
    ]
    run = elastic if method in elastic.METHODS else family
    expected = run.expected_run(method, protocol, tau, schedule, p)
    shown = expected.get("shown", expected["center"])
    if protocol == "synchronous":
        for row in range(1, TURNS + 1):
            for process in workers:
                process.ask("step", then_center=False)
            points = [process.answer()[0] for process in workers]
            assert_close(np.array(points), expected["workers"][row])
            assert_close(parameters(servers), expected["center"][row])
    else:
        for row, i in enumerate(schedule, start=1):
            point, looked_at = workers[i].do("step")
            assert_close(np.array(point), expected["workers"][row, i])
            assert_close(parameters(servers), expected["center"][row])
            assert_close(np.array(looked_at), shown[row])
    # What is saved and evaluated, by whichever worker.
    answer = shown[-1]
    for process in workers:
        weights, loss = process.do("shown")
        assert_close(np.array(weights), answer)
        assert_close(loss, answer @ job.HESSIAN @ answer / 2)
    for process in workers:
        process.do("end")


# The one that needs most processes is first: what it leaves is enough then.


def test_unlike_workers_and_a_restarted_one_end_together(cluster, pool):
    """A quick, a slow and a killed one, whose place another process takes."""
    servers = cluster()
    epochs, samples = 3, 1600
    quick, slow, victim, successor = pool.living(4)
    # The victim is the chief: the others begin when it has, and then stays.
    begin([victim, quick, slow], servers, protocol="overlapped", float64=False)
    shared = {"samples_per_epoch": samples, "epochs": epochs}
    victim.ask("fit_shared", products=10, stay_after=5, **shared)
    assert victim.answer() == "so far"
    quick.ask("fit_shared", products=10, **shared)
    slow.ask("fit_shared", products=400, **shared)
    victim.kill()
    begin_one(successor, servers, 3, 0, protocol="overlapped", float64=False)
    successor.ask("fit_shared", products=10, **shared)
    results = [process.answer() for process in (quick, slow, successor)]
    for process in (quick, slow, successor):
        process.do("end")
    ledger = servers.shards[0].registry
    for result in results:
        assert result["epochs"] == epochs
        ends = [total for total, _ in result["samples"]]
        assert all(end >= (k + 1) * samples for k, end in enumerate(ends))
    # Nobody went on alone.
    assert epochs * samples <= ledger.total_samples < (epochs + 1) * samples
    own = [result["samples"][-1][1] for result in results]
    assert own[0] > own[1]
    assert ledger.members[0].incarnation == 2
    assert ledger.members[0].earlier_samples > 0
    assert all(member.finished for member in ledger.members.values())
    assert ledger.num_workers == 3


def test_another_process_goes_on_for_a_killed_one(cluster, pool):
    """The center keeps its velocity, the successor begins where it says."""
    servers = cluster(2)
    first, victim, successor = pool.living(3)
    begin([first, victim], servers, protocol="blocking")
    for process in (first, victim):
        process.do("quadratic", method="mdownpour", tau=1)
    for process in (first, victim, first, victim, victim):
        process.do("step")
    velocity = np.concatenate(
        [shard.state.slots["velocity"][0] for shard in servers.shards]
    )
    center = parameters(servers)
    victim.kill()
    begin_one(successor, servers, 2, 1, protocol="blocking")
    successor.do("quadratic", method="mdownpour", tau=1)
    np.testing.assert_array_equal(parameters(servers), center)
    point, _ = successor.do("step")
    begun_at = center + job.MOMENTUM * velocity
    velocity = job.MOMENTUM * velocity - (
        job.LEARNING_RATE * job.gradient(1, 0, begun_at)
    )
    assert_close(parameters(servers), center + velocity)
    assert_close(np.array(point), center + velocity + job.MOMENTUM * velocity)
    first.do("step")
    assert servers.shards[0].registry.members[1].incarnation == 2
    assert [s.version for s in servers.shards] == [7, 7]
    for process in (first, successor):
        process.do("end")
