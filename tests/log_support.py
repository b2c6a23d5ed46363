"""Logs of real center servers and workers, in threads of this process."""

import concurrent.futures
import contextlib
import math

import pytest

from tests import cluster_support as support
from tf_elastic.cluster import errors
from tf_elastic.cluster.worker.surroundings import Surroundings
from tf_elastic.timeline import EventFile
from tf_elastic.timeline import event as events
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


# What goes wrong, and is told.


@pytest.fixture
def cluster():
    """`cluster(num_shards)`: center servers of this process."""
    with contextlib.ExitStack() as end:

        def make(*args, **kwargs):
            made = support.Cluster(*args, **kwargs)
            end.callback(made.close)
            return made

        yield make


def told(path):
    """The events of a file."""
    return [entry.event for entry in verify.entries(path)]


def heard(path, servers, count, **options):
    """Workers that have begun, whose log is written."""
    file = EventFile(path)
    for node in servers.shards:
        node.events.listen(file)
    around = iter([Surroundings(events=file) for _ in range(count)])
    workers = servers.workers(count, support.values, around=around, **options)
    for worker in workers:
        worker.exchanger.follow_rates(rates)
        worker.begin()
    return workers


def exchange(worker):
    """After a step."""
    worker.clock += 1
    worker.exchange()


def too_late(path, servers):
    """The log of a worker that is left out once."""
    quick, late = heard(path, servers, 2, max_lag=3.0)
    exchange(late)
    for _ in range(12):
        exchange(quick)
    for _ in range(3):
        exchange(late)
    return told(path)


def lost_slot(path, servers):
    """That of a worker that was not heard of, and begins again."""
    first, second = heard(path, servers, 2)
    exchange(first)
    exchange(second)
    node = servers.shards[0]
    with node.changed:
        node.registry.members[1].last_seen = -math.inf
        node.tick()
    exchange(first)
    exchange(second)  # It begins again.
    exchange(second)
    return told(path)


def lost_half(path, servers, monkeypatch):
    """That of a worker whose answer does not come: the center has moved."""
    timeouts = support.PATIENT._replace(heartbeat_s=0.05)
    [worker] = heard(path, servers, 1, timeouts=timeouts)
    exchange(worker)
    session = worker.client.sessions[0]
    stream = session.connection.stream

    def lost(name, *args):
        answer = stream(name, *args)
        if name in ("Push", "Take"):
            monkeypatch.undo()
            raise errors.CenterUnavailableError("it is lost")
        return answer

    monkeypatch.setattr(session.connection, "stream", lost)
    exchange(worker)
    support.until(lambda: session.away_since is None)
    exchange(worker)
    worker.client.leave(finished=True)
    return told(path)


def second_life(path, servers):
    """That of a worker whose process is killed, and of the next one."""
    first, second = heard(path, servers, 2)
    exchange(first)
    exchange(second)
    second.client.leave()
    exchange(first)
    around = Surroundings(events=EventFile(path))
    client = servers.client(1, 2, around=around)
    client.join(servers.layout, support.values())
    again = support.Worker(client, support.values(), "blocking", rates)
    again.exchanger.follow_rates(rates)
    again.clock = client.clock
    again.exchanger.begin(again.moment())
    exchange(again)
    exchange(first)
    return told(path)


def set_back(path, servers):
    """That of a center that begins anew with what it was before."""
    first, second = heard(path, servers, 2)
    exchange(first)
    kept = servers.shards[0].snapshot()
    for _ in range(4):
        exchange(first)
    exchange(second)
    servers.servers[0].stop(0.0)
    exchange(first)
    node = support.new_node()
    node.events.listen(EventFile(path))
    node.restore(*kept)
    servers.serve(0, node)
    support.until(lambda: sum(e.kind == events.BACK for e in told(path)) >= 1)
    for _ in range(3):
        exchange(first)
        exchange(second)
    return told(path)
