"""A cluster that is killed at random, and what must hold all the same.

    python -m tests.chaos --seconds=600 --seed=3

Workers train with stock `fit`; the centers are the package's own, each with a
journal of what it applies. Every few seconds a random process gets SIGKILL and
is started again, and now and then a worker is stopped for longer than its
lease. At the end:

* **No push is applied twice.** In the journals no two pushes that are in a
  center have the same worker, incarnation and sequence number, and their
  versions are consecutive. That the journals tell the truth is shown by
  arithmetic: what they say was applied, applied once more in NumPy, gives
  every snapshot and every restored center to the bit.
* **A restarted center goes back to a snapshot at most.** It has at least the
  version of the last snapshot but one that was begun (the last one may have
  been under way when the process was killed), and never zeros.
* **Training goes on.** All workers are back, every center has moved since the
  last kill, the center's loss has fallen.
* **No process is left.**
"""

import argparse
import collections
import dataclasses
import io
import json
import os
import pathlib
import signal
import sys
import tempfile
import time

import numpy as np

from tf_elastic import core
from tf_elastic.cluster import errors
from tf_elastic.cluster import layout as layouts
from tf_elastic.cluster.center import ps
from tf_elastic.cluster.center.center_state import CenterState
from tf_elastic.cluster.center.node import Node
from tf_elastic.cluster.center.node_exchanges import NodeExchanges
from tf_elastic.cluster.launch.local import LocalCluster
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.worker import client

_FOLDER = "CHAOS_FOLDER"
_DATA = (
    pathlib.Path(__file__).resolve().parents[1] / "tf_elastic/data/digits.npz"
)
FEATURES, CLASSES, PERIOD = 64, 10, 20
LEASE_S = 3.0
SNAPSHOT_INTERVAL_S = 1.0
WAIT_S = 300.0  # until all are there (again), on a busy machine
LOOK_S = 0.25


def digits():
    """Images as rows, and their labels."""
    with np.load(_DATA) as data:
        images = data["images"].reshape(-1, FEATURES) / np.float32(16)
        return images, data["labels"]


# A worker.


def train():
    """A worker: stock `fit` without an end."""
    from tf_elastic import strategies

    timeouts = strategies.Timeouts(heartbeat_s=0.5)
    fit_without_end(strategies.ElasticMultiWorkerStrategy(timeouts=timeouts))


def fit_without_end(strategy, period=PERIOD):
    """Trains on the digits until it is killed."""
    import keras
    import tensorflow as tf

    from tf_elastic import optimizers

    keras.utils.disable_interactive_logging()
    keras.utils.set_random_seed(strategy.worker_index)
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((FEATURES,)), keras.layers.Dense(CLASSES)]
        )
        model.compile(
            optimizers.EAMSGD(5e-4, momentum=0.9, communication_period=period),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    rows = tf.data.Dataset.from_tensor_slices(digits())
    model.fit(
        rows.shuffle(2000).batch(32).repeat(),
        steps_per_epoch=10**9,
        verbose=0,
    )


# A center with a journal.


class WatchedCenter(CenterState):
    """Remembers by what it has moved last."""

    moved = ()

    def apply(self, deltas, rates, *args, **kwargs):
        now = super().apply(deltas, rates, *args, **kwargs)
        self.moved = (deltas, rates)
        return now

    def exchange(self, points, rates, worker, deltas):
        squares = super().exchange(points, rates, worker, deltas)
        self.moved = (deltas, rates)
        return squares


class Journal:
    """A file with all that a center server has applied."""

    def __init__(self, node):
        self._node = node
        name = f"center-{node.index}-{time.monotonic_ns():020d}"
        folder = pathlib.Path(os.environ[_FOLDER])
        self._file = open(folder / name, "xb", buffering=0)  # noqa: SIM115

    def close(self):
        self._file.close()

    def note(self, kind, arrays, **fields):
        sizes = [array.size for array in arrays]
        version = self._node.version
        header = json.dumps(
            {"kind": kind, "version": version, "sizes": sizes, **fields}
        )
        self._file.write(
            b"".join([header.encode(), b"\n", *(a.tobytes() for a in arrays)])
        )


class JournaledExchanges(NodeExchanges):
    """Writes down what it applies, at once and under the same lock."""

    def __init__(self, parts, journal):
        super().__init__(parts)
        self._watched = parts.state
        self._lock = parts.changed
        self._journal = journal

    def push(self, push_id, *args, **kwargs):
        with self._lock:
            news = super().push(push_id, *args, **kwargs)
            self._note(push_id)
            return news

    def exchange(self, push_id, *args, **kwargs):
        with self._lock:
            answer = super().exchange(push_id, *args, **kwargs)
            self._note(push_id)
            return answer

    def _note(self, push_id):
        deltas, rates = self._watched.moved
        self._journal.note(
            "push",
            deltas,
            id=[push_id.worker, push_id.incarnation, push_id.sequence],
            rate=[rates["beta"], rates["num_workers"]],
        )


class JournaledNode(Node):
    """Writes down what it begins with, applies and keeps."""

    def __init__(self, *args, now=time.monotonic, **kwargs):
        super().__init__(*args, now=now, **kwargs)
        self.state.__class__ = WatchedCenter
        self.journal = Journal(self)
        self.exchanges = JournaledExchanges(self._parts, self.journal)

    def initialize(self, *args, **kwargs):
        with self.changed:
            was_empty = self.arrays is None
            news = super().initialize(*args, **kwargs)
            if was_empty and self.arrays is not None:
                self.journal.note("begins", self.arrays)
            return news

    def restore(self, *args, **kwargs):
        super().restore(*args, **kwargs)
        self.journal.note("restored", self.arrays)

    def snapshot(self):
        with self.changed:
            if self.arrays is not None:
                self.journal.note("snapshot", self.arrays)
            return super().snapshot()


def serve(arguments):
    """A center: the package's program, its node with a journal."""
    ps.Node = JournaledNode
    return ps.main(["ps", *arguments])


def records(path):
    """What a journal tells; the last record may be cut short by a kill."""
    data = path.read_bytes()
    place = 0
    while (end := data.find(b"\n", place)) >= 0:
        record = json.loads(data[place:end])
        place = end + 1
        arrays = []
        for size in record["sizes"]:
            raw = data[place : place + 4 * size]
            if len(raw) < 4 * size:
                return
            arrays.append(np.frombuffer(raw, np.float32))
            place += 4 * size
        yield record, arrays


@dataclasses.dataclass
class Center:
    """What the journals of a center's processes say."""

    processes: int = 0
    applied: int = 0
    lost: int = 0  # applied, and forgotten with a killed process
    lost_at_once: int = 0  # the most
    begun: int = 0  # times without a snapshot
    version: int = 0
    arrays: list = dataclasses.field(default_factory=list)
    compared: int = 0  # snapshots and restored centers, to the bit


def check_center(paths):
    """Replays the journals of one center; raises if they do not add up."""
    center = Center()
    ids = {}  # of the pushes that are in the center: version -> id
    kept = {}  # snapshots: version -> arrays
    safe, begun = None, None  # versions of whole snapshots, and of the last
    for path in paths:
        center.processes += 1
        for record, arrays in records(path):
            kind, version = record["kind"], record["version"]
            if kind == "push":
                push = tuple(record["id"])
                assert version == center.version + 1, (path, record)
                assert push not in ids.values(), f"{path}: twice: {record}"
                ids[version] = push
                center.applied += 1
                beta, num_workers = record["rate"]
                center.arrays = [
                    core.push(ours, moved, beta, num_workers)
                    for ours, moved in zip(center.arrays, arrays, strict=True)
                ]
            elif kind == "snapshot":
                assert version == center.version, (path, record)
                _assert_equal(center.arrays, arrays)
                center.compared += 1
                safe, begun = begun, version
                kept[version] = arrays
            elif kind == "restored":
                assert safe is None or version >= safe, (
                    f"{path} begins at version {version}, while one of at "
                    f"least {safe} was kept"
                )
                _assert_equal(kept[version], arrays)
                center.compared += 1
                lost = [v for v in ids if v > version]
                center.lost += len(lost)
                center.lost_at_once = max(center.lost_at_once, len(lost))
                ids = {v: push for v, push in ids.items() if v <= version}
                kept = {version: arrays}
                safe = begun = version
                center.arrays = list(arrays)
            else:
                assert kind == "begins" and safe is None, (
                    f"{path} has forgotten its snapshots"
                )
                center.begun += 1
                ids, kept, begun = {}, {}, None
                center.arrays = list(arrays)
            center.version = version
    return center


def _assert_equal(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


# Who kills.


@dataclasses.dataclass
class Report:
    """What has happened."""

    seconds: float = 0.0
    ready_s: float = 0.0  # from the start until all have joined
    back_s: float = 0.0  # from the last kill until all were back
    kills: collections.Counter = dataclasses.field(
        default_factory=collections.Counter
    )
    pauses: int = 0
    refused: collections.Counter = dataclasses.field(  # by life, at least
        default_factory=collections.Counter
    )
    losses: list = dataclasses.field(default_factory=list)  # (s, center's)
    centers: list = dataclasses.field(default_factory=list)
    incarnations: dict = dataclasses.field(default_factory=dict)
    pids: set = dataclasses.field(default_factory=set)

    def table(self):
        """For the terminal."""
        lines = [
            f"{self.seconds:.0f} s, all at work after {self.ready_s:.0f} s, "
            f"back {self.back_s:.0f} s after the last kill; "
            f"{self.pauses} workers paused, {sum(self.refused.values())} late "
            "calls refused",
            "",
            "task        kills",
            *(
                f"{task:10}  {kills:5d}"
                for task, kills in sorted(self.kills.items())
            ),
            "",
            "center  processes  pushes  lost by kills  most at once  version  "
            "compared",
        ]
        lines += [
            f"{k:6d}  {c.processes:9d}  {c.applied:6d}  {c.lost:13d}  "
            f"{c.lost_at_once:12d}  {c.version:7d}  {c.compared:8d}"
            for k, c in enumerate(self.centers)
        ]
        lines += ["", "     s  loss of the center"]
        every = max(len(self.losses) // 10, 1)
        lines += [
            f"{s:6.1f}  {loss:.3f}"
            for s, loss in [*self.losses[::every], self.losses[-1]]
        ]
        return "\n".join(lines)


class Conductor:
    """Starts a cluster, kills its processes, and looks at it meanwhile."""

    def __init__(self, workers, centers, seed, folder):
        self.workers, self.centers = workers, centers
        self.random = np.random.default_rng(seed)
        self.folder = folder
        self.report = Report()
        self._turns = []
        self._observer = None
        self.layout = layouts.Layout(
            [
                layouts.VariableSpec(name, shape, "float32", "parameters")
                for name, shape in (
                    ("kernel", (FEATURES, CLASSES)),
                    ("bias", (CLASSES,)),
                )
            ],
            centers,
        )
        journals = folder / "journals"
        journals.mkdir()
        module = [sys.executable, "-m", "tests.chaos"]
        self.cluster = LocalCluster(
            [*module, "--role=worker"],
            workers,
            centers,
            folder / "logs",
            env={
                _FOLDER: str(journals),
                "TF_NUM_INTRAOP_THREADS": "1",
                "TF_NUM_INTEROP_THREADS": "1",
                "TF_CPP_MIN_LOG_LEVEL": "2",
                "CUDA_VISIBLE_DEVICES": "-1",
            },
            center_command=[
                *module,
                "--role=center",
                f"--lease_s={LEASE_S}",
                f"--snapshot_interval_s={SNAPSHOT_INTERVAL_S}",
            ],
            snapshot_dir=folder / "snapshots",
            restart_workers=True,
            max_restarts=10**6,
            output=io.StringIO(),
        )

    def run(self, seconds, every_s, least=0):
        """All of it.

        Args:
            seconds: of disturbances, at least.
            every_s: between two of them, at least.
            least: kills without which it does not end, whatever the time: on
                a busy machine little happens in it. With them comes a pause.

        Raises:
            AssertionError: something that has to hold did not.
        """
        begin = time.monotonic()
        try:
            with self.cluster:
                self._observer = self._connect()
                self._until(self._all_at_work, "all workers at work")
                self._begin = time.monotonic()
                self.report.ready_s = self._begin - begin
                self._disturb(seconds, every_s, least)
                last = time.monotonic()
                self._until_all_move()
                self._until(self._all_at_work, "all workers back")
                self.report.back_s = time.monotonic() - last
                self._until(self._has_learned, "a lower loss of the center")
        finally:
            self.cluster.stop()
            if self._observer is not None:
                self._observer.leave()
        self.report.seconds = time.monotonic() - begin
        self._check()
        return self.report

    def _connect(self):
        environment = self.cluster.process("worker", 0).environment
        config = json.loads(environment["TF_CONFIG"])
        return client.CenterClient(
            config["cluster"]["ps"],
            None,
            False,
            self.workers,
            Security(token=self.cluster.token),
        )

    def _status(self):
        """Of each center; None for one that is away."""
        self.report.pids |= {
            p.pid for p in self.cluster.processes() if p.started_s
        }
        found = self._observer.status()
        for shard, status in enumerate(found):
            for worker, member in (status or {}).get("members", {}).items():
                life = shard, worker, member["incarnation"]
                self.report.refused[life] = member["refused"]
                self.report.incarnations[worker] = max(
                    self.report.incarnations.get(worker, 0),
                    member["incarnation"],
                )
        return found

    def _versions(self):
        return [s["version"] if s else 0 for s in self._status()]

    def _all_at_work(self):
        """Whether every center has pushes of every worker's present life."""
        return all(
            status is not None
            and status["version"] > 0
            and sum(
                member["present"]
                and member["pushes"] > 0
                and member["silent_s"] < LEASE_S / 2
                for member in status["members"].values()
            )
            == self.workers
            for status in self._status()
        ) and all(process.is_alive for process in self.cluster.processes())

    def _look(self):
        """Notes the loss of the center, if all of it is there."""
        try:
            parameters, *_ = self._observer.look(self.layout)
        except errors.ClusterError:
            return
        for shard in range(self.centers):
            (part,) = self.layout.parts([parameters], shard)
            assert np.count_nonzero(part) > part.size / 2, "zeros"
        kernel = parameters[: FEATURES * CLASSES].reshape(FEATURES, CLASSES)
        images, labels = digits()
        logits = images @ kernel + parameters[FEATURES * CLASSES :]
        logits -= logits.max(axis=1, keepdims=True)
        sums = np.log(np.exp(logits).sum(axis=1))
        loss = np.mean(sums - logits[np.arange(len(labels)), labels])
        self.report.losses.append((time.monotonic() - self._begin, float(loss)))

    def _has_learned(self):
        self._look()
        first, last = self.report.losses[0][1], self.report.losses[-1][1]
        return last < 0.9 * first

    def _until(self, condition, what):
        end = time.monotonic() + WAIT_S
        while not condition():
            if time.monotonic() > end:
                logs = "\n".join(
                    f"{p.name}:\n{p.last_lines(8)}"
                    for p in self.cluster.processes()
                )
                raise AssertionError(f"not within {WAIT_S:g} s: {what}\n{logs}")
            time.sleep(LOOK_S)

    def _until_all_move(self):
        """Every center has new pushes."""
        versions = self._versions()
        self._until(
            lambda: all(
                now > then
                for now, then in zip(self._versions(), versions, strict=True)
            ),
            "pushes at every center",
        )

    def _disturb(self, seconds, every_s, least):
        end = self._begin + seconds

        def has_seen_enough():
            kills, pauses = self.report.kills.total(), self.report.pauses
            return kills >= least and pauses >= bool(least)

        number = 0
        due = self._begin + every_s
        pause_is_due = False
        while due < end or not has_seen_enough():
            while time.monotonic() < due:
                if all(self._status()):
                    self._look()
                time.sleep(LOOK_S)
            number += 1
            if number % 3 == 0:  # The others may meet what is down already.
                self._until_all_move()
            pause_is_due |= number % 5 == 3
            if pause_is_due and self._pause():
                pause_is_due = False
            else:
                self._kill()
            due = max(due + every_s, time.monotonic())

    def _kill(self):
        """Kills one of those alive; all have their turn, in a random order."""
        alive = [p for p in self.cluster.processes() if p.is_alive]
        if not alive:
            return
        if not any(p in alive for p in self._turns):
            self._turns = list(self.cluster.processes())
            self.random.shuffle(self._turns)
        process = next(p for p in self._turns if p in alive)
        self._turns.remove(process)
        self.report.pids.add(process.pid)
        self.cluster.kill(process.role, process.index)
        self.report.kills[process.name] += 1

    def _pause(self):
        """Stops a worker until its lease is over, and lets it go on.

        Returns:
            Whether there was one that had joined.
        """
        present = [
            index
            for index in range(self.workers)
            if self.cluster.process("worker", index).is_alive
            and self._members(
                index, lambda m: m["present"] and m["silent_s"] < LEASE_S / 2
            )
        ]
        if not present:
            return False
        index = present[self.random.integers(len(present))]
        before = self.report.incarnations[str(index)]
        self.cluster.kill("worker", index, signal.SIGSTOP)
        try:
            self._until(
                lambda: self._members(index, lambda m: not m["present"]),
                f"worker {index} loses its slot",
            )
        finally:
            self.cluster.kill("worker", index, signal.SIGCONT)
        self._until(
            lambda: self._members(
                index,
                lambda m: m["present"] and m["incarnation"] > before,
            ),
            f"worker {index} joins again",
        )
        self.report.pauses += 1
        return True

    def _members(self, index, condition):
        """Whether all centers say so of a worker."""
        return all(
            status is not None
            and str(index) in status["members"]
            and condition(status["members"][str(index)])
            for status in self._status()
        )

    # What must hold.

    def _check(self):
        left = [pid for pid in self.report.pids if runs(pid)]
        assert not left, f"processes {left} are left"
        for index in range(self.centers):
            paths = sorted((self.folder / "journals").glob(f"center-{index}-*"))
            self.report.centers.append(check_center(paths))


def runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # Somebody else's by now.
        return False
    return True


def run(seconds, every_s=5.0, seed=0, workers=3, centers=2, least=0):
    """Kills for so many seconds; see `Conductor.run`."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        conductor = Conductor(workers, centers, seed, pathlib.Path(folder))
        return conductor.run(seconds, every_s, least)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--every_s", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--centers", type=int, default=2)
    values, rest = parser.parse_known_args(argv)
    if values.role == "worker":
        return train()
    if values.role == "center":
        return serve(rest)
    if rest:
        parser.error(f"unknown: {' '.join(rest)}")
    report = run(
        values.seconds,
        values.every_s,
        values.seed,
        values.workers,
        values.centers,
    )
    print(report.table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
