"""What is copied between the card and the host, in steps and in exchanges."""

import keras
import numpy as np

from benchmarks.gpu_check import finding
from benchmarks.gpu_check import local_worker
from benchmarks.gpu_check import logical
from benchmarks.gpu_check import trace
from benchmarks.gpu_check.finding import Finding
from benchmarks.gpu_check.logical import wait_for
from tf_elastic import compat
from tf_elastic import optimizers

PERIOD = 10


def run(setting):
    [device] = logical.devices(setting, 1, gpu_memory_mb=None)
    width = setting.size(2048, 16)
    with local_worker.joined(device) as strategy:
        model = network(strategy, width)
        draw = np.random.default_rng(0)
        batch = draw.normal(size=(8, width)).astype("float32")
        step_until(model, batch, PERIOD + 2)
        with trace.traced() as between:
            step_until(model, batch, 2 * PERIOD - 2)
        step_until(model, batch, 2 * PERIOD - 1)
        with trace.traced() as exchanging:
            step_until(model, batch, 4 * PERIOD - 1)
        exchanges = strategy.exchange_counts().exchanges
    return judged(setting, between, exchanging, 4 * width**2, exchanges)


def network(strategy, width):
    """One whose parameters are all of the same size."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        layers = [keras.layers.Dense(width, use_bias=False) for _ in range(3)]
        model = keras.Sequential([keras.Input((width,)), *layers])
        model.compile(
            optimizers.EAMSGD(
                1e-4, momentum=0.9, beta=0.5, communication_period=PERIOD
            ),
            loss="mse",
        )
    return model


def step_until(model, batch, clock):
    """Trains, step by step, up to a number of local steps."""
    last = compat.native_variable(model.trainable_variables[-1])
    while (
        not model.optimizer.built
        or int(model.optimizer.iterations.numpy()) < clock
    ):
        model.train_on_batch(batch, batch)
    wait_for(last.store.live[0])


def judged(setting, between, exchanging, parameter_bytes, exchanges):
    """Findings, of the copies in both traces.

    Args:
        setting: of the run.
        between: copies in steps without an exchange.
        exchanging: copies in steps with some.
        parameter_bytes: of each parameter.
        exchanges: that took place.
    """
    large = [c for c in exchanging if c.num_bytes >= parameter_bytes]
    down = [c for c in large if c.direction == "D2H"]
    up = [c for c in large if c.direction == "H2D"]
    if setting.device == "GPU" and not (down and up):
        return [
            Finding(
                "copies in a trace",
                f"{len(exchanging)} in all, {len(down)} D2H and {len(up)} H2D "
                "of a parameter's size",
                "some of each",
                finding.FAILED,
                f"{exchanges} exchanges took place, which copy parameters: "
                "the trace is not whole. Is this user allowed to profile? "
                "(NVreg_RestrictProfilingToAdminUsers)",
            )
        ]
    sizes = [c.num_bytes for c in between if c.direction == "D2H"]
    found = [
        finding.judged(
            setting,
            "D2H copies of a parameter's size in steps without exchange",
            f"{sum(size >= parameter_bytes for size in sizes)} (largest "
            f"{max(sizes, default=0)} bytes, a parameter {parameter_bytes})",
            "none",
            max(sizes, default=0) < parameter_bytes,
        )
    ]
    for name, copies in (("D2H", down), ("H2D", up)):
        num_bytes = sum(c.num_bytes for c in copies)
        pinned = sum(c.num_bytes for c in copies if c.pinned)
        seconds = sum(c.seconds for c in copies)
        speed = num_bytes / seconds / 1e9 if seconds else 0.0
        found.append(
            finding.judged(
                setting,
                f"{name} copies of exchanges from or to pinned memory",
                f"{pinned} of {num_bytes} bytes, {speed:.1f} GB/s",
                "all",
                pinned == num_bytes,
            )
        )
    return found
