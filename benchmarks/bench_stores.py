"""What a turn of a worker costs in a bank, against the update of its step.

    python benchmarks/bench_stores.py [--steps=64] [--json=PATH]

The variables of the thesis' CIFAR network with their velocities, on one device.
A turn puts one worker's values back into the bank and takes the next one's; of
p workers each has its turn, so that none is in the processor's cache. The
update is Nesterov's, compiled, without the gradient. All are timed in turns.
"""

import statistics
import time

import _report
import tensorflow as tf

from tf_elastic import models
from tf_elastic.core import local_steps
from tf_elastic.strategies import stores

NUM_WORKERS = (4, 16, 64)


def create(**kwargs):
    """What a strategy of one device makes variables by."""
    with tf.device("CPU:0"):
        return [tf.Variable(**kwargs)]


def in_bank(weights, p):
    """A bank of p workers, and the stores of weights and velocities."""
    bank = stores.Bank(p)
    return bank, [
        bank.make(create, {"initial_value": value}, lambda dtype: False)
        for weight in weights
        for value in (weight, tf.zeros_like(weight))
    ]


def updater(weights):
    """A function of a worker that takes a step's update."""
    _, held = in_bank(weights, 1)
    live = [store.live[0] for store in held]
    gradients = [tf.fill(weight.shape, 1e-3) for weight in weights]

    @tf.function(jit_compile=True)
    def update(worker):
        del worker
        for x, v, gradient in zip(
            live[::2], live[1::2], gradients, strict=True
        ):
            x_after, v_after = local_steps.lookahead_momentum_step(
                x, v, gradient, 0.01, 0.9
            )
            x.assign(x_after, read_value=False)
            v.assign(v_after, read_value=False)

    return update


def turner(weights, p):
    """A function that gives a worker of p its turn."""
    bank, held = in_bank(weights, p)

    @tf.function
    def give_turn_to(worker):
        bank.give_turn_to(worker)

    give_turn_to.held = held  # The bank knows them weakly.
    return give_turn_to


def timed(function, p, steps):
    """A function that returns the seconds of one call, of a round of them."""
    workers = [tf.constant(i % p) for i in range(steps)]

    def seconds():
        start = time.perf_counter()
        for worker in workers:
            function(worker)
        return (time.perf_counter() - start) / steps

    return seconds


def main():
    args = _report.parse_args(__doc__, steps=64, repeats=25)
    model = models.cifar_convnet(seed=0)
    model.build((None, 28, 28, 3))
    weights = [tf.constant(w.numpy()) for w in model.trainable_weights]
    size = sum(weight.shape.num_elements() for weight in weights)
    seconds = _report.in_turns(
        {
            "update": timed(updater(weights), 1, args.steps),
            **{
                f"p={p}": timed(turner(weights, p), p, args.steps)
                for p in NUM_WORKERS
            },
        },
        args.repeats,
    )
    print(f"{size:,} parameters with velocity, in {len(weights)} variables")
    for name, times in seconds.items():
        of_update = _report.ratios(times, seconds["update"])
        print(
            f"{name:6} {1e3 * statistics.median(times):6.3f} ms "
            f"({1e3 * min(times):.3f} to {1e3 * max(times):.3f}), "
            "%.2f of an update (%.2f to %.2f)" % of_update
        )
    _report.write(args, {"seconds": seconds, "parameters": size})


if __name__ == "__main__":
    main()
