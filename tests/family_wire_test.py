"""An exchange moves no more bytes than is registered with the method."""

import contextlib
import socket
import threading
import types

import numpy as np
import pytest
import tensorflow as tf

from tests import cluster_support
from tests import elastic_multi_worker_job as job
from tests import family_support as support
from tests.family_support import cluster  # noqa: F401
from tf_elastic import core
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.cluster import layout
from tf_elastic.cluster.worker.exchanger import Exchanger
from tf_elastic.cluster.worker.exchanger import Moment
from tf_elastic.optimizers import registry

PERIOD, STEPS = 2, 6
SILENT = cluster_support.PATIENT._replace(heartbeat_s=1000.0)
# Of one exchange with one server: headers, and gRPC's calls beside.
OVERHEAD_BYTES = 2048

KEYWORDS = {
    "EASGD": {"communication_period": PERIOD},
    "EAMSGD": {"communication_period": PERIOD, "momentum": 0.8},
    "Elastic": {"communication_period": PERIOD, "inner_optimizer": "adam"},
    "AveragedSGD": {},
    "MovingAverageSGD": {"averaging_rate": 0.2},
    "Downpour": {"communication_period": PERIOD},
    "ADownpour": {"communication_period": PERIOD},
    "MVADownpour": {"communication_period": PERIOD},
    "MDownpour": {},
    "AsyncMSGD": {"delay_compensation": 0.1},
    "SyncSGD": {},
    "LocalSGD": {"communication_period": PERIOD},
    "DiLoCo": {"communication_period": PERIOD},
    "AsyncDiLoCo": {"communication_period": PERIOD},
    "HeLoCo": {"communication_period": PERIOD},
    "HALoS": {"communication_period": PERIOD},
    "ADMM": {"communication_period": PERIOD},
}
# In every protocol; the others exchange as one of these does.
EACH = ("EASGD", "Downpour", "AsyncMSGD")


def test_every_method_is_counted():
    assert set(KEYWORDS) == {method.name for method in registry.listed()}


def moved(client):
    """Bytes of arrays that a client has (sent, received) so far."""
    return np.array(
        [
            sum(link.connection.bytes_sent for link in client.sessions),
            sum(link.connection.bytes_received for link in client.sessions),
        ]
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        (name, p)
        for name in KEYWORDS
        for p in registry.named(name).protocols[: None if name in EACH else 1]
    ],
)
def test_as_many_copies_as_the_table_says(
    cluster,
    name,
    protocol,
):
    servers = cluster(2)
    resolver = types.SimpleNamespace(
        cluster_spec=lambda: tf.train.ClusterSpec(
            {"worker": ["w0.invalid:1"], "ps": servers.centers}
        ),
        task_type="worker",
        task_id=0,
    )
    strategy = strategies.ElasticMultiWorkerStrategy(
        resolver, protocol, devices=["CPU:0"], timeouts=SILENT
    )
    try:
        model = job.build(
            strategy,
            lambda: getattr(optimizers, name)(
                jit_compile=False, **KEYWORDS[name]
            ),
            run_eagerly=True,
        )
        client = strategy.extended.client
        assert client.joined
        before, exchanges = moved(client), client.counts.exchanges
        for sample in job.NOISE[0][:STEPS]:
            model.train_on_batch(sample[None], np.zeros(1))
            job.served(strategy)
        up, down = moved(client) - before
        exchanges = client.counts.exchanges - exchanges
    finally:
        strategy.leave()
    period = model.optimizer.communication_period
    # Of what the steps have led to, or of the point before a step: then the
    # first has nothing to give.
    before = protocol != "overlapped" and issubclass(
        getattr(optimizers, name), optimizers.ElasticOptimizer
    )
    assert exchanges == (STEPS - before) // period
    nbytes = 8 * job.N
    method = model.optimizer.method
    assert method.name == name
    assert 0 < up <= method.copies_up * nbytes * exchanges
    # The first step begins at the center as it is then.
    assert 0 < down <= nbytes * (method.copies_down * exchanges + 1)


class Proxy:
    """Passes on what comes to 127.0.0.2 to the same port of 127.0.0.1.

    It counts the bytes of both ways, whatever they are.
    """

    def __init__(self):
        self.up = self.down = 0
        self._lock = threading.Lock()
        self._end = contextlib.ExitStack()
        self._threads = []

    def listen(self, port):
        listener = socket.create_server(("127.0.0.2", port))
        self._end.callback(listener.close)
        self._end.callback(listener.shutdown, socket.SHUT_RDWR)
        self._begin(self._accept, listener, port)

    def _begin(self, run, *args):
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener, port):
        while True:
            try:
                near, _ = listener.accept()
            except OSError:  # The end.
                return
            far = socket.create_connection(("127.0.0.1", port), timeout=20)
            for end in (near, far):
                end.settimeout(None)
                self._end.callback(end.close)
                self._end.callback(shut, end)
            self._begin(self._pass_on, near, far, "up")
            self._begin(self._pass_on, far, near, "down")

    def _pass_on(self, source, target, way):
        with contextlib.suppress(OSError):  # Either side has gone.
            while data := source.recv(65536):
                with self._lock:
                    setattr(self, way, getattr(self, way) + len(data))
                target.sendall(data)
        shut(target)

    def counted(self):
        with self._lock:
            return np.array([self.up, self.down])

    def close(self):
        self._end.close()
        for thread in self._threads:
            thread.join(timeout=60)
            assert not thread.is_alive()


def shut(end):
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy():
    made = Proxy()
    yield made
    made.close()


VARIABLES = (
    layout.VariableSpec("w", (300, 401), "float32", layout.PARAMETERS),
)


def elastic(p, clock, numbers):
    return core.elastic_rates(p, beta=0.9)._asdict()


def pushing(p, clock, numbers):
    return {"learning_rate": 0.1, "momentum": 0.5}


WAYS = {  # a method of the kind, its center's rule, protocol and rates
    "elastic": ("EASGD", None, "overlapped", elastic),
    "elastic_blocking": ("EASGD", None, "blocking", elastic),
    "elastic_synchronous": ("EASGD", None, "synchronous", elastic),
    "update": ("Downpour", support.ADD, "blocking", pushing),
    "update_overlapped": ("Downpour", support.ADD, "overlapped", pushing),
    "gradient": ("MDownpour", support.NESTEROV, "blocking", pushing),
    "meeting": ("DiLoCo", support.OUTER_NESTEROV, "synchronous", pushing),
    "admm": ("ADMM", support.ADMM_RULE, "blocking", elastic),
}


@pytest.mark.parametrize("way", WAYS)
def test_as_many_bytes_cross_the_wire(cluster, proxy, way):
    """Counted by somebody else, between the worker and its center server."""
    name, rule, protocol, rates = WAYS[way]
    center = cluster(1, rule, variables=VARIABLES, shares_memory=False)
    server = center.servers[0]
    for port in (int(center.centers[0].split(":")[1]), server.array_port):
        proxy.listen(port)
    center.centers[:] = [center.centers[0].replace(".0.1:", ".0.2:")]
    client = center.client(0, timeouts=SILENT)
    points = [np.ones(300 * 401, np.float32)]
    client.join(center.layout, points)
    worker = Exchanger(client, protocol, rates)

    def exchange(clock):
        moment = Moment(clock, clock)
        if way == "admm":
            worker.read(moment)
            worker.push(moment, points)
        elif protocol == "overlapped":
            worker.collect(moment)
            worker.send(moment, points)
            worker._pending.result(timeout=60)
        else:
            worker.now(moment, points)

    exchange(1)  # The connections are made.
    exchanges = 4
    before, told = proxy.counted(), moved(client)
    for clock in range(exchanges):
        exchange(2 + clock)
    found = proxy.counted() - before
    nbytes = points[0].nbytes * exchanges
    method = registry.named(name)
    copies = method.copies_up, method.copies_down
    for bytes_, copy in zip(found, copies, strict=True):
        most = copy * nbytes + OVERHEAD_BYTES * exchanges
        assert copy * nbytes < bytes_ <= most
    assert (moved(client) - told == np.array(copies) * nbytes).all()
