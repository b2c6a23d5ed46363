"""Logs of real center servers and workers, in threads of this process."""

import concurrent.futures
import contextlib

from tests import cluster_support as support
from tf_elastic.cluster.worker.surroundings import Surroundings
from tf_elastic.timeline import EventFile
from tf_elastic.timeline import verify

PROTOCOLS = ("blocking", "overlapped", "synchronous")


def rates(p, clock, numbers):
    """For any rule."""
    elastic = support.rates(p, clock)
    return {**elastic, "learning_rate": 0.1, "momentum": 0.5}


def train(worker, protocol, period, steps):
    """What a strategy does, without what is learned."""
    own = worker.exchanger
    worker.begin()
    before = protocol != "overlapped" and not own._is_push
    for _ in range(steps):
        due = worker.clock % period == 0 and own.has_something(worker.moment())
        if before and due:
            worker.exchange()
        worker.step(lambda *_: 0.01, 0.1, 0.0)
        if not before and worker.clock % period == 0:
            if protocol == "overlapped":
                worker.obey(own.collect(worker.moment()))
                own.send(worker.moment(), worker.sent())
            else:
                worker.exchange()
    own.ends(worker.moment())
    if own.in_flight:
        worker.obey(own.collect(worker.moment()))
    if own.has_something(worker.moment()):
        worker.exchange()


def record(path, protocol, rule=None, shards=1, period=2, steps=11, p=2):
    """Writes the log of a cluster that does its part and ends."""
    with contextlib.closing(support.Cluster(shards, rule=rule)) as servers:
        file = EventFile(path)
        for node in servers.shards:
            node.events.listen(file)
        workers = servers.workers(
            p,
            support.values,
            protocol,
            around=iter([Surroundings(events=file) for _ in range(p)]),
        )
        for worker in workers:
            worker.exchanger.follow_rates(rates)
        with concurrent.futures.ThreadPoolExecutor(p) as pool:
            done = [
                pool.submit(train, worker, protocol, period, steps)
                for worker in workers
            ]
            for one in done:
                one.result(timeout=120)
        for worker in workers:
            worker.client.leave(finished=True)
        file.close()
    return list(verify.entries(path))
