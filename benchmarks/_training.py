"""Ways to train one model on two workers, measured in turns.

The same processes are in all elastic ways, one model for each of them, so that
what differs is the exchange. `MultiWorkerMirroredStrategy` needs processes of
its own, which are idle meanwhile, as the others are in its turn.
"""

import os
import sys
import time

import _crew
import _report
import keras
import tensorflow as tf

import tf_elastic as te

NO_EXCHANGE = "no exchange"
MIRRORED = "MultiWorkerMirrored"
PERIOD = 10

# Large arrays come from memory that the process has already: else each of them
# costs as many page faults as it has pages, in all ways to train.
MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}


class _StepTimes(keras.callbacks.Callback):
    """Wall and processor time at the end of each step."""

    def __init__(self):
        super().__init__()
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        self.ends.append((time.perf_counter(), time.process_time()))


class Trainer:
    """The life of one worker: models, trained when it is told.

    Args:
        make_model: () -> a model that is not compiled.
        make_data: batch size, seed -> an endless data set.
        batch_size: of one worker.
    """

    def __init__(self, make_model, make_data, batch_size):
        self._make_model = make_model
        self._make_data = make_data
        self._batch_size = batch_size
        self._ways = {}

    def run(self):
        """Does what it is told, to the end."""
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        _crew.obey({"add": self.add, "train": self.train, "told": self.told})

    def add(
        self,
        way,
        index,
        config,
        protocol="overlapped",
        compression="none",
        period=PERIOD,
        tree=None,
    ):
        """Makes a model for a way to train, with the first steps.

        Args:
            way: its name; `MIRRORED` for TensorFlow's strategy.
            index: of the worker.
            config: its TF_CONFIG.
            protocol: of the elastic strategy.
            compression: likewise.
            period: of communication; None for no exchange.
            tree: what TF_ELASTIC_TREE says, for a tree; it has the periods.
        """
        os.environ["TF_CONFIG"] = config
        keras.utils.set_random_seed(index)
        batch_size = self._batch_size
        if way == MIRRORED:
            strategy = te.strategies.MultiWorkerMirroredStrategy(
                startup_timeout_s=120
            )
            batch_size *= strategy.num_replicas_in_sync
        elif tree is not None:
            os.environ["TF_ELASTIC_TREE"] = tree
            strategy = te.strategies.ElasticTreeStrategy()
            del os.environ["TF_ELASTIC_TREE"]
        else:
            strategy = te.strategies.ElasticMultiWorkerStrategy(
                protocol=protocol, compression=compression
            )
        with strategy.scope():
            model = self._make_model()
            if way == MIRRORED:
                optimizer = keras.optimizers.SGD(1e-3, momentum=0.9)
            else:
                optimizer = te.optimizers.EAMSGD(
                    1e-3, momentum=0.9, communication_period=period
                )
            model.compile(
                optimizer,
                loss="sparse_categorical_crossentropy",
                jit_compile=False,
            )
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = (
            tf.data.experimental.AutoShardPolicy.OFF
        )
        data = self._make_data(batch_size, index).with_options(options)
        self._ways[way] = strategy, model, data
        self.train(way, 0, 2)

    def train(self, way, lead, steps):
        """Trains for `lead` steps, then for `steps` that are measured."""
        _, model, data = self._ways[way]
        times = _StepTimes()
        model.fit(
            data,
            steps_per_epoch=max(lead, 1) + steps,
            callbacks=[times],
            verbose=0,
        )
        begin, end = times.ends[-1 - steps], times.ends[-1]
        return {"wall_s": end[0] - begin[0], "cpu_s": end[1] - begin[1]}

    def told(self, way):
        """What the strategy has counted: of the exchanges."""
        counts = self._ways[way][0].exchange_counts()
        return {
            "exchanges": counts.exchanges,
            "missed": counts.missed,
            "exchange_ms": 1e3 * counts.exchange_s / max(counts.exchanges, 1),
            "wait_ms": 1e3 * counts.wait_s / max(counts.exchanges, 1),
        }


class Bench:
    """The driver's side: two workers for each way.

    Args:
        crew: of processes.
        command: what a worker runs.
        hosts: where each worker is: options of `Crew.start`.
        addresses: the address of each of these hosts.
    """

    def __init__(self, crew, command, hosts, addresses):
        self._crew = crew
        self._command = command
        self._hosts = hosts
        self._addresses = addresses
        self._elastic = None
        os.environ.update(MALLOC)
        self._workers = {}
        self._centers = {}

    def add_elastic(self, way, num_centers=1, **options):
        """Adds an elastic way, with center servers on the first host."""
        if self._elastic is None:
            self._elastic = self._start("worker")
        where = {**self._hosts[0], "cores": ()}
        cluster, self._centers[way] = self._crew.start_centers(
            num_centers, len(self._hosts), self._addresses[0], **where
        )
        self._add(way, self._elastic, cluster, **options)

    def add_mirrored(self):
        """Adds TensorFlow's strategy."""
        cluster = {
            "worker": [
                f"{address}:{port}"
                for address, port in zip(
                    self._addresses,
                    _crew.free_ports(len(self._hosts), **self._hosts[0]),
                    strict=True,
                )
            ]
        }
        self._centers[MIRRORED] = []
        self._add(MIRRORED, self._start(MIRRORED), cluster)

    def _start(self, name):
        return [
            self._crew.start(f"{name} {index}", self._command, **host)
            for index, host in enumerate(self._hosts)
        ]

    def _add(self, way, workers, cluster, **options):
        self._workers[way] = workers
        for index, worker in enumerate(workers):
            config = _crew.tf_config(cluster, "worker", index)
            worker.tell("add", way=way, index=index, config=config, **options)
        for worker in workers:
            worker.answer()

    def turn(self, way, lead, steps):
        """Trains one way; steps/s of all workers, processor s for each.

        The processor time is a worker's, with its share of the centers'.
        """
        centers = self._centers[way]
        before = sum(center.cpu_s() for center in centers)
        found = _crew.tell_all(
            self._workers[way], "train", way=way, lead=lead, steps=steps
        )
        served = sum(center.cpu_s() for center in centers) - before
        served *= steps / (steps + lead)
        count = steps * len(found)
        return {
            "steps_per_s": sum(steps / one["wall_s"] for one in found),
            "cpu_s": (sum(one["cpu_s"] for one in found) + served) / count,
        }

    def measure(self, ways, rounds):
        """Turns, one after another.

        Args:
            ways: name -> (lead, steps).
            rounds: how many.

        Returns:
            Name -> list of what `turn` gives.
        """
        results = {way: [] for way in ways}
        for _ in range(rounds):
            for way, (lead, steps) in ways.items():
                turn = self.turn(way, lead, steps)
                results[way].append(turn)
                print(
                    f"  {way}: {turn['steps_per_s']:.2f} steps/s, "
                    f"{1e3 * turn['cpu_s']:.0f} ms of processor time a step",
                    file=sys.stderr,
                    flush=True,
                )
        return results

    def told(self, way):
        """What the workers have counted."""
        return _crew.tell_all(self._workers[way], "told", way=way)


def compare(results, of, to):
    """Ratio of the throughputs of two ways, turn by turn."""
    return _report.ratios(
        *([turn["steps_per_s"] for turn in results[way]] for way in (of, to))
    )


def middle(results, way, key):
    """The median of something."""
    values = sorted(turn[key] for turn in results[way])
    return values[len(values) // 2]


def is_worker():
    """Whether this process was started as a worker."""
    return "--worker" in sys.argv
