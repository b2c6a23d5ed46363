"""Center servers as processes that are killed, stopped and started wrongly."""

import json
import logging
import os
import signal
import socket
import textwrap
import threading
import time

import numpy as np
import pytest

from tests import cluster_support as support
from tests.cluster_support import until
from tests.process_support import Processes
from tests.process_support import free
from tests.process_support import tf_config
from tf_elastic.cluster import errors
from tf_elastic.cluster import layout
from tf_elastic.cluster.center import ps
from tf_elastic.cluster.center import snapshot_keeper
from tf_elastic.cluster.center import snapshots
from tf_elastic.cluster.center.registration import PushId
from tf_elastic.cluster.worker import client

SHORT = support.PATIENT._replace(exchange_s=3.0, control_s=3.0, heartbeat_s=0.1)


@pytest.fixture
def processes(tmp_path):
    made = Processes(tmp_path)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _all_is_logged(caplog):
    with caplog.at_level(logging.INFO, logger="absl"):
        yield


class Training:
    """Workers that exchange in threads of their own until `stop`."""

    def __init__(self, centers, starts):
        self.layout = layout.Layout(support.VARIABLES, len(centers))
        self.workers = []
        self.turns = [0] * len(starts)
        self._stop = threading.Event()
        self._threads = []
        for i, start in enumerate(starts):
            # Nobody is late: a busy machine may let one run more than another.
            made = client.CenterClient(
                centers,
                i,
                i == 0,
                len(starts),
                timeouts=SHORT,
                max_lag=None,
            )
            values = support.values(start)
            self.workers.append(
                support.Worker(made, values, "blocking", support.rates)
            )
        self._failures = []

    def join(self):
        for worker in self.workers:
            worker.client.join(self.layout, worker.x)
        return self

    def start(self):
        self._threads = [
            threading.Thread(target=self._run, args=(i,), daemon=True)
            for i in range(len(self.workers))
        ]
        for thread in self._threads:
            thread.start()
        return self

    def _run(self, i):
        try:
            while not self._stop.wait(0.005):
                self.workers[i].exchange()
                self.turns[i] += 1
        except Exception as error:
            self._failures.append(error)
            raise

    def until(self, condition):
        """Waits for something; a worker's failure ends the waiting."""
        until(lambda: self._failures or condition())
        assert not self._failures

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()
        assert not self._failures

    def close(self):
        self._stop.set()
        for worker in self.workers:
            worker.client.leave()

    @property
    def clients(self):
        return [worker.client for worker in self.workers]

    def all_missed(self):
        return all(each.counts.missed >= 3 for each in self.clients)

    def all_back(self):
        return all(
            link.away_since is None
            for each in self.clients
            for link in each.sessions
        )

    def expected_version(self):
        """Of the one server that was away; after `stop`."""
        return sum(self.turns) + sum(
            each.counts.lost_halves - each.counts.forgotten - each.counts.missed
            for each in self.clients
        )

    def settle(self):
        """Exchanges once more with each, so that all is counted."""
        until(self.all_back)
        for i, worker in enumerate(self.workers):
            worker.exchange()
            self.turns[i] += 1


@pytest.fixture
def training():
    made = []

    def make(*args):
        made.append(Training(*args))
        return made[-1].join()

    yield make
    for each in made:
        each.close()


def count(caplog, words):
    return sum(words in record.getMessage() for record in caplog.records)


def kill(process):
    process.kill()
    process.wait(timeout=30)


def newest(folder):
    """The newest generation of snapshots in a folder; 0 for none."""
    names = [path.stem for path in folder.glob("center-*.snapshot")]
    return max((int(name.split("-")[1]) for name in names), default=0)


def test_a_killed_center_goes_on_from_its_snapshot(
    processes, training, tmp_path, caplog
):
    centers = free(2)
    folders = [tmp_path / "snapshots0", tmp_path / "snapshots1"]

    def serve(index):
        return processes.center(
            index,
            centers,
            f"--snapshot_dir={folders[index]}",
            "--snapshot_interval_s=0.2",
        )

    first, second = serve(0), serve(1)
    run = training(centers, [5.0, 3.0]).start()
    one = run.workers[0].client
    run.until(lambda: one.sessions[1].news.version > 20)
    # The second one from now on was begun after that.
    now = newest(folders[1])
    run.until(lambda: newest(folders[1]) > now + 1)
    kill(second)
    run.until(run.all_missed)
    assert one.sessions[0].away_since is None
    with snapshots.SnapshotStore(folders[1]) as store:
        kept = store.load().state["shard"]["version"]
    assert kept > 0
    second = serve(1)
    run.until(run.all_back)
    run.until(lambda: one.sessions[1].news.version > kept)
    run.stop()
    run.settle()
    assert f"center 1 goes on at version {kept}," in processes.log("ps1")
    assert count(caplog, "trains on without it") == 2
    assert count(caplog, "is back after") == 2
    status = one.status()
    assert status[1]["version"] == run.expected_version() >= kept
    assert status[0]["version"] == sum(run.turns)
    center = one.read()[0]
    assert (center > 2.9).all() and (center < 5.1).all()
    # Asked to end, they leave a last snapshot.
    for process in (first, second):
        process.send_signal(signal.SIGTERM)
    assert [p.wait(timeout=30) for p in (first, second)] == [0, 0]
    with snapshots.SnapshotStore(folders[1]) as store:
        found = store.load().state
    assert found["shard"]["version"] == status[1]["version"]
    cut = run.layout.cut(run.layout.sections[0], 1)
    np.testing.assert_array_equal(found["section.0"], center[cut])


def test_a_killed_center_without_snapshots_goes_on_from_a_worker(
    processes, training
):
    centers = free(1)
    first = processes.center(0, centers)
    run = training(centers, [5.0, 3.0]).start()
    run.until(lambda: run.clients[0].sessions[0].news.version > 20)
    kill(first)
    run.until(run.all_missed)
    news = [each.sessions[0].news for each in run.clients]
    seen = max(each.version for each in news)
    processes.center(0, centers)
    run.until(run.all_back)
    run.until(lambda: all(each.version > seen for each in news))
    run.stop()
    assert "begins with the parameters of worker" in processes.log("ps0")
    center = run.clients[0].read()[0]
    assert (center > 2.9).all() and (center < 5.1).all()
    assert all(each.counts.restarts == 0 for each in run.clients)


def test_a_stopped_center_goes_on_and_nobody_loses_its_slot(
    processes, training, caplog
):
    centers = free(1)
    process = processes.center(0, centers, "--lease_s=1")
    run = training(centers, [5.0, 3.0]).start()
    run.until(lambda: run.clients[0].sessions[0].news.version > 20)
    process.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    run.until(run.all_missed)
    run.until(lambda: time.monotonic() - stopped > 2.0)  # Two leases.
    process.send_signal(signal.SIGCONT)
    run.until(run.all_back)
    missed = [each.counts.missed for each in run.clients]
    before = run.clients[0].sessions[0].news.version
    run.until(lambda: run.clients[0].sessions[0].news.version > before + 5)
    run.stop()
    run.settle()
    assert [each.counts.missed for each in run.clients] == missed
    assert all(each.counts.restarts == 0 for each in run.clients)
    assert all(each.counts.forgotten == 0 for each in run.clients)
    [status] = run.clients[0].status()
    assert status["version"] == run.expected_version()
    assert count(caplog, "trains on without it") == 2
    assert count(caplog, "is back after") == 2


def test_who_breaks_off_does_not_wait_for_a_stopped_center(processes):
    centers = free(2)
    started = [processes.center(k, centers) for k in range(2)]
    # Whoever waited would do so until the test is out of time.
    long = support.PATIENT._replace(exchange_s=3000.0, control_s=1000.0)
    worker = client.CenterClient(centers, 0, True, 1, timeouts=long)
    made = layout.Layout(support.VARIABLES, 2)
    worker.join(made, support.values(1.0))
    started[1].send_signal(signal.SIGSTOP)
    failed = []

    def exchange():
        try:
            worker.exchange(support.values(2.0), support.rates)
        except errors.ClusterError as error:
            failed.append(error)

    thread = threading.Thread(target=exchange, daemon=True)
    thread.start()
    until(lambda: worker.sessions[1].standing.pushing)
    worker.leave()
    thread.join(120)
    assert not thread.is_alive()
    assert not failed
    # The other one has heard of it.
    until(lambda: "worker 0 has left; p = 1." in processes.log("ps0"))


def test_what_ends_a_center():
    ends = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    assert ps._ends_of(signal.SIG_DFL) == ends
    assert ps._ends_of(signal.SIG_IGN) == ends[:2]  # By `nohup`.


WORKER = """
    import json
    import sys
    from tf_elastic import core
    from tf_elastic.cluster import layout
    from tf_elastic.cluster.worker import client
    centers, description = sys.argv[1:]
    made = layout.Layout.from_description(json.loads(description))
    worker = client.CenterClient([centers], 1, False, 2)
    values = worker.join(made, made.zeros())
    while True:
        worker.exchange(
            [v.copy() for v in values],
            lambda p, _: core.elastic_rates(p)._asdict(),
        )
"""


def test_a_killed_worker_leaves_its_slot_and_p_follows(processes):
    center = support.Cluster(1, lease_s=1.0)
    try:
        stays = center.client(0, timeouts=SHORT)
        stays.join(center.layout, support.values(1.0))
        process = processes.python(
            "-c",
            textwrap.dedent(WORKER),
            center.centers[0],
            json.dumps(center.layout.describe()),
            name="worker1",
        )
        until(lambda: stays.num_workers == 2)
        until(lambda: center.shards[0].applied > 3)
        kill(process)
        until(lambda: stays.num_workers == 1)
        applied = center.shards[0].applied
        moved = stays.exchange(support.values(1.0), support.rates)
        assert moved.moving_rate == support.BETA
        assert center.shards[0].applied == applied + 1
    finally:
        center.close()


def test_a_truncated_snapshot_is_passed_over(processes, tmp_path):
    folder = tmp_path / "snapshots"
    made = layout.Layout(support.VARIABLES, 1)
    shard = support.new_node(grace_s=0.0)
    shard.join(0, 1, 1, made.describe(), "process")
    shard.offer(0, 1, -1, True)
    shard.initialize(0, 1, -1, support.values(5.0))
    for sequence in (1, 2):
        keeper = snapshot_keeper.Snapshots(shard, str(folder), 1000.0)
        assert keeper.restore() == (sequence == 2)
        shard.exchanges.push(
            PushId(0, 1, sequence, 0),
            support.values(1.0),
            support.push_rate(0.5, 1),
        )
        keeper.start()
        keeper.stop()
    older, newest = sorted(folder.glob("center-*.snapshot"))
    os.truncate(newest, newest.stat().st_size - 100)
    centers = free(1)
    process = processes.center(0, centers, f"--snapshot_dir={folder}")
    looker = client.CenterClient(centers, None, False, 1)
    try:
        [status] = until(
            lambda: looker.status() if looker.status()[0] else None
        )
        assert status["version"] == 1
        assert (looker.look(made)[0] == 5.5).all()
    finally:
        looker.leave()
    log = processes.log("ps0")
    assert f"{newest} is damaged and passed over" in log
    assert "goes on at version 1," in log
    assert process.poll() is None
    assert older.exists()


def test_whoever_starts_wrongly_is_told_at_once(processes, tmp_path):
    good = free(1)
    listener = socket.create_server(("127.0.0.1", 0))
    taken = f"127.0.0.1:{listener.getsockname()[1]}"
    locked = tmp_path / "locked"
    module = ("-m", "tf_elastic.cluster.ps")
    config = tf_config(good, "ps", 0)
    cases = {
        "port": (module, tf_config([taken], "ps", 0), f"listen on {taken}"),
        "public": (
            module,
            tf_config(["8.8.8.8:2222"], "ps", 0),
            "public address 8.8.8.8:2222",
        ),
        "role": (module, tf_config(good, "worker", 0), "the job ps"),
        "json": (module, config[:-1], "must be JSON"),
        "lease": ((*module, "--lease_s=0"), config, "lease_s"),
        "words": ((*module, "nonsense"), config, "Only flags"),
        "folder": (
            (*module, f"--snapshot_dir={locked}"),
            config,
            "in use by another",
        ),
        "token": (module, config, "TF_ELASTIC_TOKEN must have"),
    }
    with listener, snapshots.SnapshotStore(locked):
        started = {}
        for name, (arguments, text, _) in cases.items():
            environment = {"TF_CONFIG": text}
            if name == "token":
                environment["TF_ELASTIC_TOKEN"] = "short"
            started[name] = processes.python(
                *arguments, name=name, **environment
            )
        statuses = {
            name: process.wait(timeout=60) for name, process in started.items()
        }
    for name, (_, _, words) in cases.items():
        log = processes.log(name)
        assert words in log, f"{name}: {log}"
        assert "Traceback" not in log, f"{name}: {log}"
    assert set(statuses.values()) == {2}, statuses
