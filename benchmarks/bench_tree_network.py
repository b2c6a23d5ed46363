"""A star and a tree over a slow link, for real.

    python benchmarks/bench_tree_network.py [--json=PATH] [--rounds=3]

Three network namespaces at a switch: two sites of two workers each, and the
root, whose cable `tc` limits to 100 Mbit/s, each way. A network of 15 M
parameters (60 MB) is trained with EAMSGD: without any exchange; by a star, all
four workers at a center on the root's host, each 10 steps, overlapped; and by
a tree, a node at each site and the root above them, one way, each 10 steps at
the workers and each 100 above. All in one run, in turns. Needs root, iproute2,
and 10 GiB of memory.

Also told: what has passed the root's cable, for each sample.
"""

import os
import subprocess
import sys
import time

import _crew
import _network
import _report
import _training
import bench_network

RATE = "100mbit"
SITES, WORKERS = 2, 4
STAR, TREE = "star", "tree"
SPEC = '{"tree": "2", "scheme": "multi_scale", "periods": [10, 100]}'
# The cable is at rest if so little passes in a second.
_AT_REST_BYTES = 100_000
_AT_REST_WITHIN_S = 60.0
# What a way is warmed up by, and how many steps are measured.
LEAD, STEPS = 2 * _training.PERIOD, 4 * _training.PERIOD


class Bench(_training.Bench):
    """With nodes of a tree."""

    def add_tree(self, way, network):
        """Adds the tree: the root, and a node at each site."""
        hosts = (0, *range(1, 1 + SITES))
        cluster = {
            "ps": [
                f"{network.addresses[host]}:{port}"
                for host, port in zip(
                    hosts,
                    _crew.free_ports(len(hosts), namespace=network.names[0]),
                    strict=True,
                )
            ],
            # Nobody listens there; the addresses tell who is where.
            "worker": [
                f"{address}:{1 + i}"
                for i, address in enumerate(self._addresses)
            ],
        }
        self._centers[way] = [
            self._crew.start(
                f"node {index}",
                [sys.executable, "-m", "tf_elastic.cluster.ps"],
                {
                    "TF_CONFIG": _crew.tf_config(cluster, "ps", index),
                    "TF_ELASTIC_TREE": SPEC,
                },
                namespace=network.names[host],
            )
            for index, host in enumerate(hosts)
        ]
        self._add(way, self._elastic, cluster, tree=SPEC)

    def add_star(self, way, network, **options):
        """Adds a star, its center on the root's host."""
        if self._elastic is None:
            self._elastic = self._start("worker")
        where = {"namespace": network.names[0]}
        cluster, self._centers[way] = self._crew.start_centers(
            1, WORKERS, network.addresses[0], **where
        )
        self._add(way, self._elastic, cluster, **options)


def at_rest(network):
    """Waits until what is under way has passed the root's cable.

    Returns:
        What has passed it, in bytes.

    Raises:
        CrewError: that has no end.
    """
    deadline = time.monotonic() + _AT_REST_WITHIN_S
    passed = network.bytes_of_first()
    while time.monotonic() < deadline:
        time.sleep(1)
        before, passed = passed, network.bytes_of_first()
        if passed - before < _AT_REST_BYTES:
            return passed
    raise _crew.CrewError(
        f"the root's cable was not at rest within {_AT_REST_WITHIN_S:g} s, "
        "while nobody trains."
    )


def measure(args, network):
    """{way: turns}, and bytes for each sample."""
    cores = sorted(os.sched_getaffinity(0))
    sites = [1 + i * SITES // WORKERS for i in range(WORKERS)]
    hosts = [
        {"cores": (cores[i % len(cores)],), "namespace": network.names[site]}
        for i, site in enumerate(sites)
    ]
    command = [sys.executable, __file__, "--worker"]
    command.append(f"--batch_size={args.batch_size}")
    addresses = [network.addresses[site] for site in sites]
    passed = {}
    with _crew.Crew() as crew:
        bench = Bench(crew, command, hosts, addresses)
        bench.add_star(_training.NO_EXCHANGE, network, period=None)
        bench.add_star(STAR, network)
        bench.add_tree(TREE, network)
        network.limit(RATE)
        results = {way: [] for way in (_training.NO_EXCHANGE, STAR, TREE)}
        for _ in range(args.rounds):
            for way, turns in results.items():
                before = at_rest(network)
                turns.append(bench.turn(way, LEAD, STEPS))
                samples = (LEAD + STEPS) * WORKERS * args.batch_size
                passed.setdefault(way, []).append(
                    (at_rest(network) - before) / samples
                )
                print(
                    f"  {way}: {turns[-1]['steps_per_s']:.2f} steps/s, "
                    f"{passed[way][-1]:.0f} bytes a sample at the root's cable",
                    file=sys.stderr,
                    flush=True,
                )
    return {"turns": results, "bytes_a_sample": passed}


def show(found):
    """Prints the table."""
    print(f"{RATE} at the root: throughput / no exchange, bytes a sample")
    for way in found["turns"]:
        ratio = _training.compare(found["turns"], way, _training.NO_EXCHANGE)
        passed = sorted(found["bytes_a_sample"][way])
        middle = passed[len(passed) // 2]
        print(f"  {way:12} %.2f (%.2f to %.2f)   {middle:.0f}" % ratio)


def main():
    args = _report.parse_args(__doc__, batch_size=256, rounds=3)
    if _network.is_missing():
        print("skipped: it needs root and iproute2 (ip, tc).")
        return
    try:
        with _network.SwitchedNetwork(1 + SITES) as network:
            found = measure(args, network)
    except subprocess.CalledProcessError as error:
        print(f"skipped: no such network here: {error}: {error.stderr}")
        return
    show(found)
    _report.write(args, {"batch_size": args.batch_size, **found})


if __name__ == "__main__":
    if _training.is_worker():
        batch_size = _report.parse_args(__doc__, batch_size=256).batch_size
        _training.Trainer(
            bench_network.make_model, bench_network.make_data, batch_size
        ).run()
    else:
        main()
