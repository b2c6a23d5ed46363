"""An exchange with the center against TensorFlow moving the same bytes.

    python benchmarks/bench_exchange.py [--megabytes=64] [--json=PATH]

Two center servers and one worker, each a process; once by sockets, as between
hosts, and once with memory that they share, as on one. (There a worker fills
the shared memory first; that is counted.) TensorFlow's part: two processes
with a `tf.distribute.Server`, and one function that sends each its half,
negates it there, and brings it back. Processor time is told for both ends: it
depends less on what else the machine does.
"""

import functools
import statistics
import sys
import time

import _crew
import _report
import numpy as np
import tensorflow as tf

from tf_elastic import core
from tf_elastic.cluster import layout
from tf_elastic.cluster.worker.client import CenterClient
from tf_elastic.cluster.worker.exchanger import Room
from tf_elastic.cluster.worker.patience import Timeouts

SHARDS = 2


class Timed:
    """Calls a function, returns its seconds, and notes processor time.

    Args:
        function: without arguments.
        processes: those that serve it.
    """

    def __init__(self, function, processes):
        self._function = function
        self._processes = processes
        self._cpu_s = []  # (this process', the servers'), for each call

    def __call__(self):
        here, there = time.process_time(), self._there()
        start = time.perf_counter()
        self._function()
        seconds = time.perf_counter() - start
        self._cpu_s.append((time.process_time() - here, self._there() - there))
        return seconds

    def _there(self):
        return sum(process.cpu_s() for process in self._processes)

    def cpu_s(self):
        """Means of a call: of this process, and of the servers.

        Those of the servers come in hundredths of a second: not the median.
        """
        # Without the first, which is a warm-up.
        here, there = zip(*self._cpu_s[1:], strict=True)
        return statistics.mean(here), statistics.mean(there)


def center(crew, values, shares):
    """The exchanges of a worker with center servers.

    Args:
        crew: of the processes.
        values: of the worker.
        shares: whether memory is shared.
    """
    cluster, processes = crew.start_centers(
        SHARDS, 1, env={"TF_ELASTIC_SHARE_MEMORY": str(int(shares))}
    )
    client = CenterClient(
        cluster["ps"],
        worker=0,
        is_chief=True,
        expected_workers=1,
        timeouts=Timeouts(exchange_s=60),
    )
    variable = layout.VariableSpec(
        "x", values.shape, "float32", layout.PARAMETERS
    )
    client.join(layout.Layout([variable], SHARDS), [values])

    def rates(num_workers, clock):
        del clock
        return core.elastic_rates(num_workers)._asdict()

    if client.shares_memory != shares:
        raise RuntimeError(f"Memory is shared: {client.shares_memory}.")
    away, back = Room(client), Room(client)

    def run(function):
        sent = [values]
        if shares:
            sent = away.arrays()
            np.copyto(sent[0], values)
        function(sent, rates, back.arrays())

    where = ", memory shared" if shares else ", by sockets"
    return {
        name + where: Timed(functools.partial(run, function), processes)
        for name, function in (
            ("exchange", client.exchange),
            ("read and push", client.read_and_push),
        )
    }


def tensorflow(crew, values):
    """A function that moves the bytes by TensorFlow's own servers."""
    ports = _crew.free_ports(SHARDS)
    cluster = {"ps": [f"127.0.0.1:{port}" for port in ports]}
    processes = [
        crew.start(
            f"TensorFlow's server {index}",
            [sys.executable, __file__, "--serve"],
            {"TF_CONFIG": _crew.tf_config(cluster, "ps", index)},
        )
        for index in range(SHARDS)
    ]
    for process in processes:
        process.tell("serve")
    for process in processes:
        process.answer(120)
    tf.config.experimental_connect_to_cluster(tf.train.ClusterSpec(cluster))
    parts = [tf.constant(part) for part in np.array_split(values, SHARDS)]

    @tf.function
    def there_and_back(*parts):
        results = []
        for index, part in enumerate(parts):
            with tf.device(f"/job:ps/task:{index}/device:CPU:0"):
                there = tf.negative(part)
            with tf.device("/job:localhost/task:0/device:CPU:0"):
                results.append(tf.identity(there))
        return results

    return Timed(
        lambda: [back.numpy() for back in there_and_back(*parts)], processes
    )


def serve():
    """The life of a process with TensorFlow's server."""
    servers = []

    def start():
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        servers.append(
            tf.distribute.Server(
                resolver.cluster_spec(),
                job_name=resolver.task_type,
                task_index=resolver.task_id,
                protocol="grpc",
            )
        )

    _crew.obey({"serve": start})


def main():
    args = _report.parse_args(__doc__, megabytes=64, repeats=15)
    values = np.random.default_rng(0).normal(size=args.megabytes * 250_000)
    values = values.astype("float32")
    with _crew.Crew() as crew:
        ways = {"TensorFlow": tensorflow(crew, values)}
        exchanges = {
            **center(crew, values, False),
            **center(crew, values, True),
        }
        ways.update(exchanges)
        seconds = _report.in_turns(ways, args.repeats)
        cpu_s = {name: way.cpu_s() for name, way in ways.items()}
    for name, times in seconds.items():
        print(
            f"{name:28} {1e3 * statistics.median(times):7.1f} ms "
            f"({1e3 * min(times):.1f} to {1e3 * max(times):.1f}); processor "
            "time %.0f ms here, %.0f ms of the servers"
            % tuple(1e3 * each for each in cpu_s[name])
        )
    result = {"seconds": seconds, "cpu_s": cpu_s, "megabytes": args.megabytes}
    ratios = []
    for name in exchanges:
        found = _report.ratios(seconds[name], seconds["TensorFlow"])
        print(f"{name} / TensorFlow: %.2f (%.2f to %.2f)" % found)
        key = name.replace(",", "").replace(" ", "_")
        result[f"{key}_over_tensorflow"] = found[0]
        ratios.append(
            _report.Ratio(
                f"an exchange ({name}) to TensorFlow moving the same bytes",
                found,
                goal=1.25,
            )
        )
    _report.write(args, result, ratios)


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve()
    else:
        _crew.enter_private_network()
        main()
