"""Where DOWNPOUR diverges and EASGD and EAMSGD do not, on CIFAR-10.

    python benchmarks/bench_stability.py --data_dir=DIR [--quick]
        [--rates=0.05,...] [--periods=64,...] [--methods=EASGD,...]
        [--json=PATH] [--png=PATH]

Section 4.2 of the thesis: 4 workers of one process, its network, its momentum
of 0.99 and beta = 0.9, periods 16 and 64, learning rates of its Table 4.1. The
batch is smaller than its 128 images, for the time it takes. DOWNPOUR with
period 1 shows that it is the period.

A run *diverges* if the center's loss on fixed training images (no dropout, l2
among it) is, at any look after the start, not finite or above what it was at
the start. At the end alone would not do: a network that has died comes back to
ln(10), which is about where it started.
"""

import math
import time

import _cifar
import _report
import keras
import tensorflow as tf

import tf_elastic as te

WORKERS = 4
LOOK_EVERY = 64  # local steps; both periods divide it
SEED = 1

# Method -> (learning rate, period) -> optimizer.
METHODS = {
    "DOWNPOUR": lambda rate, period: te.optimizers.Downpour(
        rate, communication_period=period
    ),
    "EASGD": lambda rate, period: te.optimizers.EASGD(
        rate, beta=0.9, communication_period=period
    ),
    "EAMSGD": lambda rate, period: te.optimizers.EAMSGD(
        rate, momentum=0.99, beta=0.9, communication_period=period
    ),
}
COLORS = {"DOWNPOUR": "#D55E00", "EASGD": "#0072B2", "EAMSGD": "#009E73"}

# (learning rate, periods, methods): EASGD's rates go from 0.005 to 0.05,
# EAMSGD's from 0.001 to 0.01.
SETTINGS = (
    (0.05, (64, 16), ("DOWNPOUR", "EASGD")),
    (0.001, (64, 16), ("EAMSGD",)),
    (0.01, (64, 16), ("DOWNPOUR", "EAMSGD")),
    (0.01, (1,), ("DOWNPOUR",)),
)
QUICK_SETTINGS = ((0.05, (64,), ("DOWNPOUR", "EASGD")),)


def diverged(losses):
    """Whether a run did: see the top.

    Args:
        losses: of the center, the first at the start.
    """
    return any(not loss <= losses[0] for loss in losses[1:])


def chosen(settings, args):
    """(method, learning rate, period) of the runs that are asked for."""
    rates = [float(rate) for rate in args.rates.split(",")]
    allowed = [int(period) for period in args.periods.split(",")]
    return [
        (method, rate, period)
        for rate, periods, methods in settings
        for period in periods
        for method in methods
        if rate in rates and period in allowed
        if method in args.methods.split(",")
    ]


class Runs:
    """Trains, always from the same parameters and on the same images.

    Args:
        args: of the program.
    """

    def __init__(self, args):
        self._args = args
        self.looks = max(args.steps // LOOK_EVERY, 2)
        self._train_images = _cifar.fixed_data(
            args.data_dir, "train_eval", 1000
        )
        self._test_images = _cifar.fixed_data(
            args.data_dir, "test", args.test_images
        )

    def run(self, method, rate, period):
        """One run.

        Returns:
            What there is to tell of it, JSON-able; losses that there are none
            of any more, since the run ended early, are left out.
        """
        begin = time.perf_counter()
        strategy = te.strategies.ElasticMirroredStrategy(
            [f"CPU:{i}" for i in range(WORKERS)]
        )
        with strategy.scope():
            model = te.models.cifar_convnet(seed=SEED)
            model.compile(
                METHODS[method](rate, period),
                loss="sparse_categorical_crossentropy",
                metrics=["accuracy"],
                steps_per_execution=16,
                jit_compile=False,
            )
        start = model.evaluate(self._train_images, verbose=0)[0]
        history = model.fit(
            _cifar.train_data(
                self._args.data_dir,
                SEED,
                self._args.batch_size,
                WORKERS,
                LOOK_EVERY,
            ),
            epochs=self.looks,
            shuffle=False,
            validation_data=self._train_images,
            callbacks=[keras.callbacks.TerminateOnNaN()],
            verbose=0,
        ).history
        losses = [start, *history["val_loss"]]
        error = 1 - model.evaluate(self._test_images, verbose=0)[1]
        return {
            "method": method,
            "communication_period": period,
            "learning_rate": rate,
            "center_losses": losses,
            "test_error": error,
            "diverged": diverged(losses),
            "seconds": time.perf_counter() - begin,
        }


def row(run, looks):
    """A line of the table."""
    losses = run["center_losses"]
    reached = [
        f"{losses[i]:.4g}" if i < len(losses) else "-"
        for i in (0, looks // 2, looks)
    ]
    highest = max(
        loss if math.isfinite(loss) else math.inf for loss in losses
    )
    return (
        f"| {run['method']} | {run['communication_period']} "
        f"| {run['learning_rate']:g} | {' | '.join(reached)} | {highest:.4g} "
        f"| {100 * run['test_error']:.1f} % "
        f"| {'**diverged**' if run['diverged'] else 'stable'} |"
    )


def draw(runs, path):
    """The center's loss over the steps: a panel for each period and rate."""
    places = sorted(
        {
            (run["communication_period"], run["learning_rate"])
            for run in runs
        }
    )
    figure = _cifar.figure(3.2 * len(places), 3.4)
    panels = figure.subplots(1, len(places), squeeze=False)[0]
    for (period, rate), axes in zip(places, panels, strict=True):
        for run in runs:
            if (run["communication_period"], run["learning_rate"]) == (
                period,
                rate,
            ):
                losses = run["center_losses"]
                axes.plot(
                    [LOOK_EVERY * i for i in range(len(losses))],
                    losses,
                    color=COLORS[run["method"]],
                    label=run["method"]
                    + (" (diverged)" if run["diverged"] else ""),
                )
        axes.axhline(runs[0]["center_losses"][0], color="0.7", lw=0.8)
        axes.set_ylim(0.5, 4)
        axes.set_title(f"period {period}, learning rate {rate:g}", size=9)
        axes.set_xlabel("local steps of each worker")
        axes.legend(fontsize=7)
    panels[0].set_ylabel("center's training loss")
    _cifar.save(figure, path)


def main():
    args = _report.parse_args(
        __doc__,
        data_dir="",
        batch_size=16,
        steps=256,
        test_images=1000,
        rates="0.05,0.01,0.001",
        periods="64,16,1",
        methods=",".join(METHODS),
        png="",
        quick=False,
    )
    settings = chosen(QUICK_SETTINGS if args.quick else SETTINGS, args)
    if args.quick:
        args.steps = min(args.steps, 192)
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * WORKERS,
    )
    # The workers are what runs side by side.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    _cifar.require(args.data_dir)
    trainer = Runs(args)
    print("| method | period | learning rate | start | middle | end ", end="")
    print("| highest | test error | |\n|---|---|---|---|---|---|---|---|---|")
    runs = []
    for method, rate, period in settings:
        runs.append(trainer.run(method, rate, period))
        print(row(runs[-1], trainer.looks), flush=True)
    if args.png:
        draw(runs, args.png)
    _report.write(
        args,
        {
            "runs": runs,
            "workers": WORKERS,
            "batch_size": args.batch_size,
            "look_every": LOOK_EVERY,
            "seed": SEED,
        },
    )


if __name__ == "__main__":
    main()
