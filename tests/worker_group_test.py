"""Groups of synchronous processes, each group one elastic worker.

Processes take steps when they are told to, so that the order of service is
fixed; the center servers are in this process.
"""

import concurrent.futures
import contextlib
import io
import json
import queue
import sys
import threading

import numpy as np
import pytest

from tests import cluster_support as support
from tests import elastic_multi_worker_job as job
from tests import elastic_multi_worker_test as elastic
from tests import reference
from tests import worker_processes_test as separate
from tests.elastic_multi_worker_test import assert_close
from tests.elastic_multi_worker_test import parameters
from tests.reference import overlapped
from tf_elastic.cluster.launch.local import LocalCluster
from tf_elastic.cluster.transport import addresses
from tf_elastic.strategies import group_meeting
from tf_elastic.strategies import peer_watch
from tf_elastic.timeline import event
from tf_elastic.timeline import verify

cluster, worker = elastic.cluster, elastic.worker

GROUPS, MEMBERS, STEPS = 2, 2, 16
TAU = 3
_GENERATOR = np.random.default_rng(9)
NOISE = _GENERATOR.normal(size=(GROUPS, MEMBERS, STEPS, job.N))
SCHEDULE = [int(g) for g in _GENERATOR.permutation(np.arange(STEPS) % GROUPS)]


def gradient(group, step, point):
    """The mean over the members, each of whom has a row of its own."""
    return job.HESSIAN @ point - NOISE[group, :, step].mean(axis=0)


@pytest.fixture
def groups(tmp_path):
    """`groups(count)`: living processes, [group][member]."""
    pool = separate.Pool(tmp_path)

    def make(count):
        made = pool.living(count * MEMBERS)
        return [made[g * MEMBERS : (g + 1) * MEMBERS] for g in range(count)]

    try:
        yield make
    finally:
        for process in pool.made:
            process.kill()


def together(group, what, each=None, **arguments):
    """Asks all members the same; their answers."""
    for k, process in enumerate(group):
        process.ask(what, **arguments, **(each(k) if each else {}))
    return [process.answer() for process in group]


def begin(groups, servers, protocol):
    count = sum(map(len, groups))
    ports = addresses.free_ports(count)
    spec = {
        "worker": [f"127.0.0.1:{port}" for port in ports],
        "ps": servers.centers,
    }
    for g, group in enumerate(groups):
        together(
            group,
            "begin",
            each=lambda k, g=g: {
                "config": {
                    "cluster": spec,
                    "task": {"type": "worker", "index": g * MEMBERS + k},
                }
            },
            protocol=protocol,
            workers_per_group=MEMBERS,
        )


def steps_together(group, g, clock, count=1):
    """Steps of all members, each on its own row; the newest points."""
    for t in range(clock, clock + count):
        found = together(
            group,
            "node_step",
            each=lambda k, t=t: {"rows": [NOISE[g, k, t % STEPS].tolist()]},
        )
        assert found[0] == found[1]  # To the bit.
    return found[0][0]


@pytest.mark.parametrize(
    "protocol", ["blocking", pytest.param("overlapped", marks=pytest.mark.full)]
)
def test_two_groups_of_two_are_two_workers(cluster, groups, protocol):
    """One of them in graphs, the other in eager code."""
    servers, groups = cluster(2), groups(GROUPS)
    begin(groups, servers, protocol)
    for g, group in enumerate(groups):
        together(
            group,
            "quadratic",
            method="nesterov",
            tau=TAU,
            run_eagerly=bool(g),
        )
    settings = {
        "schedule": SCHEDULE,
        "num_workers": GROUPS,
        "communication_period": TAU,
        "learning_rate": job.LEARNING_RATE,
        "moving_rate": job.BETA / GROUPS,
        "momentum": job.MOMENTUM,
    }
    run = reference.eamsgd_asynchronous
    if protocol == "overlapped":
        run = overlapped.overlapped_at_the_end
    expected = run(gradient, job.INITIAL, **settings)
    clocks = [0] * GROUPS
    for row, g in enumerate(SCHEDULE, 1):
        point = steps_together(groups[g], g, clocks[g])
        clocks[g] += 1
        if row % 3 == 0:
            # One alone looks at the center, as the chief does in `fit`.
            shown, _ = groups[g][row % MEMBERS].do("shown")
            assert_close(shown, expected["center"][row])
        assert_close(point, expected["workers"][row, g])
        assert_close(parameters(servers), expected["center"][row])
    assert servers.shards[0].status()["num_workers"] == GROUPS


def test_a_group_does_what_its_leader_does_until_one_is_lost(cluster, groups):
    """A learning rate, the end of training; then whoever is left says so."""
    servers, [group] = cluster(), groups(1)
    begin([group], servers, "blocking")
    leader, other = group
    together(group, "quadratic", method="easgd", tau=TAU)
    steps_together(group, 0, 0, TAU)
    leader.do("set_rate", rate=0.01)
    leader.do("stop")
    assert other.do("rate_and_stop") == [job.LEARNING_RATE, False]
    steps_together(group, 0, TAU)  # An exchange is due: with its step.
    assert other.do("rate_and_stop") == [0.01, True]
    steps_together(group, 0, TAU + 1)
    other.kill()
    leader.ask("node_step", rows=[NOISE[0, 0, 0].tolist()])
    result, error = leader.answers.get(timeout=separate.DEADLINE_S)
    assert result is None
    assert "worker 1 (127.0.0.1:" in error, error
    assert "Start all of the group again" in error, error


@pytest.fixture
def local(tmp_path):
    """`local()`: a cluster of two groups of two, which are started again."""
    with contextlib.ExitStack() as made:
        yield lambda: made.enter_context(
            LocalCluster(
                [sys.executable, "-m", "tests.worker_group_job", str(tmp_path)],
                GROUPS * MEMBERS,
                1,
                tmp_path / "logs",
                restart_workers=True,
                workers_per_group=MEMBERS,
                env={
                    "CUDA_VISIBLE_DEVICES": "",
                    "TF_NUM_INTEROP_THREADS": "1",
                    "TF_ELASTIC_EVENTS": str(tmp_path / "events.jsonl"),
                },
                output=io.StringIO(),
            )
        )


@pytest.mark.parametrize("victim", [3, pytest.param(2, marks=pytest.mark.full)])
def test_a_member_s_death_ends_its_group_which_joins_again(
    local, tmp_path, victim
):
    """The other group trains on; nothing is applied twice."""
    cluster = local()
    workers = cluster.processes("worker")

    def have_begun(numbers):
        return all(
            (tmp_path / f"worker-{i}.begun-{workers[i].pid}").exists()
            for i in numbers
        )

    def until(condition):
        try:
            support.until(condition, separate.DEADLINE_S)
        except AssertionError as error:
            ends = "\n".join(worker.last_lines() for worker in workers)
            raise AssertionError(f"{error}\n{ends}") from error

    until(lambda: have_begun(range(4)))
    pids = [worker.pid for worker in workers]
    cluster.kill("worker", victim)
    until(
        lambda: (
            all(workers[i].pid != pids[i] for i in (2, 3))
            and have_begun((2, 3))
        )
    )
    assert [worker.pid for worker in workers[:2]] == pids[:2]
    (tmp_path / "end").touch()
    assert cluster.wait(separate.DEADLINE_S) == 0, cluster.failure
    assert [worker.exit_codes for worker in workers] == [[0], [0]] + [
        [-9, 0]
    ] * 2
    found = [
        json.loads((tmp_path / f"worker-{i}.json").read_text())
        for i in range(4)
    ]
    for g in range(GROUPS):
        one, other = found[g * MEMBERS : (g + 1) * MEMBERS]
        assert one["points"] == other["points"]
        assert one["clock"] == other["clock"]
    assert [each["is_chief"] for each in found] == [True, False, False, False]
    assert found[0]["accuracy"] > 0.8
    log = list(verify.entries(tmp_path / "events.jsonl"))
    assert verify.verify(log) == []
    applied = [
        (each.event.worker, each.event.incarnation, each.event.sequence)
        for each in log
        if each.event.kind == event.EXCHANGE
        and each.event.outcome == event.APPLIED
    ]
    assert len(applied) == len(set(applied))
    # Two workers, one of whom has come twice.
    starts = {applied_by[:2] for applied_by in applied}
    assert starts == {(0, 1), (1, 1), (1, 2)}


@pytest.mark.parametrize(
    ("kwargs", "workers", "said"),
    [
        ({"workers_per_group": 3}, 4, "workers_per_group=3, while.*4 workers"),
        ({"workers_per_group": 0}, 4, "workers_per_group=0"),
        ({"workers_per_group": 2.0}, 4, "workers_per_group=2.0"),
        (
            {"workers_per_group": 2, "inside": "elastic", "devices": None},
            4,
            "inside='elastic'",
        ),
        (
            {"workers_per_group": 2, "devices": ["CPU:0"]},
            4,
            r"devices=\['CPU:0'\]",
        ),
    ],
)
def test_what_is_no_group_is_refused(worker, kwargs, workers, said):
    with pytest.raises(ValueError, match=said):
        worker(workers=workers, **{"devices": None, **kwargs})


def test_an_evaluator_of_groups_looks_on(cluster, worker):
    """It is in none, and starts no server of TensorFlow."""
    strategy = worker(
        cluster(), workers=4, job="evaluator", devices=None, workers_per_group=2
    )
    assert strategy.worker_index is None
    assert strategy.extended.configuration.num_workers == 2
    assert not strategy.is_chief


class TestThePeerWatch:
    """What it does with what it sees, of peers that a test makes up."""

    def watch(self, answers):
        told = queue.Queue()
        watch = peer_watch.PeerWatch(
            {1: "worker 1", 2: "worker 2"}, 7.0, 600.0, answers, told.put
        )
        return watch, told

    def test_it_gives_up_after_two_vain_looks_at_one(self):
        looks = []

        def answers(peer, seconds):
            looks.append((peer, seconds))
            return peer == 1

        watch, told = self.watch(answers)
        watch.look(True)
        assert told.get(timeout=60).startswith("worker 2 is lost")
        assert looks == [(1, 7.0), (2, 7.0), (2, 7.0)]
        watch.end()

    def test_one_that_answers_again_is_there(self):
        vain, seen = [False, True], queue.Queue()

        def answers(peer, seconds):
            seen.put(peer)
            return not vain or vain.pop(0)

        watch, told = self.watch(answers)
        watch.look(True)
        assert [seen.get(timeout=60) for _ in range(5)] == [1, 1, 2, 1, 2]
        assert told.empty()
        watch.end()

    def test_its_own_death_is_told(self):
        def answers(peer, seconds):
            raise RuntimeError("no such call")

        watch, told = self.watch(answers)
        watch.look(True)
        assert "no such call" in told.get(timeout=60)
        watch.end()

    def test_one_that_answers_but_does_not_come_is_given_up(self):
        told = queue.Queue()
        watch = peer_watch.PeerWatch(
            {1: "worker 1"}, 7.0, 0.0, lambda peer, seconds: True, told.put
        )
        watch.wait()
        said = told.get(timeout=60)
        assert "worker 1 has not come" in said and "group_s" in said
        watch.end()

    def test_one_that_is_not_waited_for_is_not_given_up(self):
        seen, told = queue.Queue(), queue.Queue()

        def answers(peer, seconds):
            seen.put(peer)
            return True

        watch = peer_watch.PeerWatch(
            {1: "worker 1"}, 7.0, 0.0, answers, told.put
        )
        watch.look(True)
        watch.wait()
        watch.wait_no_more()
        assert [seen.get(timeout=60) for _ in range(2)] == [1, 1]
        assert told.empty()
        watch.end()


class TestTheMeeting:
    """Three members, each a thread that says what a test has it say."""

    def meet(self, *plans):
        """What each member's plan comes to; a plan gets its meeting."""
        size = len(plans)
        barrier = threading.Barrier(size, timeout=60)
        said = [None] * size

        def member(k, plan):
            def sums(vector):
                said[k] = vector
                barrier.wait()
                total = sum(said)
                barrier.wait()
                return total

            meeting = group_meeting.GroupMeeting(k, size, sums)

            def step():
                said = meeting.says(group_meeting.STEP)
                return meeting.comes_to_step(sums(said))

            meeting.step = step
            return plan(meeting)

        with concurrent.futures.ThreadPoolExecutor(size) as pool:
            found = [pool.submit(member, k, p) for k, p in enumerate(plans)]
            return [each.result(timeout=60) for each in found]

    def test_all_come_to_a_step(self):
        steps = [lambda meeting: meeting.step()] * 3
        assert self.meet(*steps) == [(True, [])] * 3

    def test_one_s_end_is_all_s(self):
        def steps(meeting):
            first, then = meeting.step(), meeting.step()
            meeting.end()
            return [first, then]

        def ends(meeting):
            meeting.step()
            meeting.end()
            meeting.end()  # Nothing.

        told = [(True, []), (False, [1])]
        assert self.meet(steps, ends, steps) == [told, None, told]

    def test_the_end_of_one_s_epoch_is_that_of_all_s(self):
        def steps(meeting):
            return [meeting.step(), meeting.agree([8, 9])]

        def agrees(meeting):
            return meeting.agree([3, 4])

        assert self.meet(agrees, steps) == [
            ([3, 4], []),
            [(False, []), ([3, 4], [])],
        ]
        assert self.meet(steps, agrees) == [
            [(False, []), ([8, 9], [])],
            ([8, 9], []),
        ]

    def test_who_would_agree_with_one_that_has_ended_is_told(self):
        def agrees(meeting):
            agreed = meeting.agree([3])
            meeting.end()
            return agreed

        found = self.meet(lambda meeting: meeting.end(), agrees)
        assert found == [None, ([3], [0])]
