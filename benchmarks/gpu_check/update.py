"""The fused update, against the bandwidth that the card copies with.

Nesterov's step reads parameters, velocity and gradient and writes parameters
and velocity: five streams of the parameters' size. A pass that reads and
writes has two.
"""

import statistics
import time

import keras
import tensorflow as tf

from benchmarks.gpu_check import finding
from benchmarks.gpu_check import logical
from benchmarks.gpu_check.logical import wait_for
from tf_elastic import compat
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.optimizers.compiled import can_compile

STREAMS, COPY_STREAMS = 5, 2
LAYERS = 8
GOAL = 0.85


def run(setting):
    [device] = logical.devices(setting, 1, gpu_memory_mb=None)
    parameters = setting.size(60_000_000, 80_000)
    ways = {
        "update": update_on(device, parameters),
        "copy": copy_on(device, parameters),
    }
    seconds = {name: [] for name in ways}
    for k in range(setting.size(103, 5)):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            if k >= 3:  # compiled by then
                seconds[name].append(time.perf_counter() - begin)
    size = 4 * parameters
    rates = {
        name: streams * size / statistics.median(seconds[name]) / 1e9
        for name, streams in (("update", STREAMS), ("copy", COPY_STREAMS))
    }
    share = rates["update"] / rates["copy"]
    return [
        finding.judged(
            setting,
            f"update of {parameters / 1e6:g} M parameters / copy bandwidth",
            f"{share:.2f} ({rates['update']:.0f} of {rates['copy']:.0f} GB/s)",
            f"at least {GOAL}",
            share >= GOAL,
        )
    ]


def update_on(device, parameters):
    """A function that does one update and waits for it."""
    size = parameters // LAYERS
    strategy = strategies.ElasticMirroredStrategy([device])
    with strategy.scope():
        # No exchange falls due.
        optimizer = optimizers.EAMSGD(
            0.01, momentum=0.9, communication_period=None
        )
        variables = [keras.Variable(tf.ones([size])) for _ in range(LAYERS)]
        optimizer.build(variables)
    with tf.device(device):
        gradients = [tf.fill([size], 1e-3) for _ in range(LAYERS)]

    @tf.function
    def update(*gradients):
        strategy.run(lambda: optimizer.apply(list(gradients), variables))

    last = compat.native_variable(variables[-1]).store.live[0]

    def way():
        update(*gradients)
        wait_for(last)

    return way


def copy_on(device, parameters):
    """A function that reads and writes as much, once, and waits for it."""
    with tf.device(device):
        source = tf.Variable(tf.ones([parameters]))
        one = tf.constant(1.0)

    @tf.function(jit_compile=can_compile(device.split(":")[0]))
    def copied(values, factor):
        return values * factor

    def way():
        with tf.device(device):
            wait_for(copied(source.read_value(), one))

    return way
