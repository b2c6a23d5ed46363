"""Where DOWNPOUR diverges and EASGD and EAMSGD do not, on CIFAR-10.

    python benchmarks/bench_stability.py --data_dir=DIR [--quick]
        [--rates=0.005,...] [--periods=64,...] [--methods=EASGD,...]
        [--batch_size=N] [--steps=N] [--json=PATH] [--png=PATH]

Section 4.2 of the thesis: 4 workers of one process, its network, beta = 0.9,
periods 16 and 64. At 0.005, which its Table 4.1 has for both, DOWNPOUR against
EAMSGD; at 0.05, EASGD's highest there, DOWNPOUR against EASGD, and EAMSGD with
less momentum than the thesis' 0.99. Batches are smaller than its 128 images,
for the time it takes. DOWNPOUR with period 1 is the control.

A run *diverges* if the center's loss on fixed training images (no dropout, l2
among it) is, at any look after the start, not finite or above what it was at
the start. At the end alone would not do: a network that has died comes back to
ln(10), which is about where it started.
"""

import math
import time
from typing import NamedTuple

import _cifar
import _report
import keras
import tensorflow as tf

import tf_elastic as te

WORKERS = 4
LOOK_EVERY = 64  # local steps; both periods divide it
SEED = 1


def eamsgd(momentum):
    """EAMSGD by (learning rate, period)."""

    def make(rate, period):
        return te.optimizers.EAMSGD(
            rate,
            momentum=momentum,
            beta=0.9,
            communication_period=period,
        )

    return make


# Method, with its momentum -> (learning rate, period) -> optimizer.
METHODS = {
    "DOWNPOUR": lambda rate, period: te.optimizers.Downpour(
        rate, communication_period=period
    ),
    "EASGD": lambda rate, period: te.optimizers.EASGD(
        rate, beta=0.9, communication_period=period
    ),
    "EAMSGD 0.99": eamsgd(0.99),
    "EAMSGD 0.9": eamsgd(0.9),
    "EAMSGD 0.5": eamsgd(0.5),
}
COLORS = {
    "DOWNPOUR": "#D55E00",
    "EASGD": "#0072B2",
    "EAMSGD 0.99": "#009E73",
    "EAMSGD 0.9": "#CC79A7",
    "EAMSGD 0.5": "#E69F00",
}


class Setting(NamedTuple):
    """A run, but for the seed."""

    method: str  # of METHODS
    rate: float
    period: int  # local steps
    batch_size: int  # images of a worker's step
    steps: int  # local steps of each worker


# DOWNPOUR passes its start after 384 steps (period 64) and 704 (16) at 0.005,
# and within 256 at 0.05.
SETTINGS = (
    Setting("DOWNPOUR", 0.005, 64, 32, 1024),
    Setting("EAMSGD 0.99", 0.005, 64, 32, 1024),
    Setting("EAMSGD 0.9", 0.005, 64, 32, 1024),
    Setting("DOWNPOUR", 0.005, 16, 32, 1024),
    Setting("EAMSGD 0.99", 0.005, 16, 32, 1024),
    Setting("DOWNPOUR", 0.005, 1, 32, 1024),
    *(
        Setting(method, 0.05, period, 16, 256)
        for period in (64, 16)
        for method in ("DOWNPOUR", "EASGD", "EAMSGD 0.9", "EAMSGD 0.5")
    ),
)
QUICK_SETTINGS = (
    Setting("DOWNPOUR", 0.05, 64, 16, 192),
    Setting("EASGD", 0.05, 64, 16, 192),
)


def diverged(losses):
    """Whether a run did: see the top.

    Args:
        losses: of the center, the first at the start.
    """
    return any(not loss <= losses[0] for loss in losses[1:])


def chosen(settings, args):
    """The settings that are asked for."""
    rates = [float(rate) for rate in args.rates.split(",")]
    periods = [int(period) for period in args.periods.split(",")]
    return [
        setting._replace(
            batch_size=args.batch_size or setting.batch_size,
            steps=args.steps or setting.steps,
        )
        for setting in settings
        if setting.rate in rates and setting.period in periods
        if setting.method in args.methods.split(",")
    ]


class Runs:
    """Trains, always from the same parameters and on the same images.

    Args:
        args: of the program.
    """

    def __init__(self, args):
        self._args = args
        self._train_images = _cifar.fixed_data(
            args.data_dir, "train_eval", 1000
        )
        self._test_images = _cifar.fixed_data(
            args.data_dir, "test", args.test_images
        )

    def run(self, setting):
        """One run.

        Args:
            setting: a `Setting`.

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
                METHODS[setting.method](setting.rate, setting.period),
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
                setting.batch_size,
                WORKERS,
                LOOK_EVERY,
            ),
            epochs=max(setting.steps // LOOK_EVERY, 2),
            shuffle=False,
            validation_data=self._train_images,
            callbacks=[keras.callbacks.TerminateOnNaN()],
            verbose=0,
        ).history
        losses = [start, *history["val_loss"]]
        error = 1 - model.evaluate(self._test_images, verbose=0)[1]
        return {
            **setting._asdict(),
            "center_losses": losses,
            "test_error": error,
            "diverged": diverged(losses),
            "seconds": time.perf_counter() - begin,
        }


def row(run):
    """A line of the table."""
    losses = run["center_losses"]
    looks = max(run["steps"] // LOOK_EVERY, 2)
    reached = [
        f"{losses[i]:.4g}" if i < len(losses) else "-"
        for i in (0, looks // 2, looks)
    ]
    highest = max(loss if math.isfinite(loss) else math.inf for loss in losses)
    return (
        f"| {run['method']} | {run['rate']:g} | {run['period']} "
        f"| {run['batch_size']} | {run['steps']} "
        f"| {' | '.join(reached)} | {highest:.4g} "
        f"| {100 * run['test_error']:.1f} % "
        f"| {'**diverged**' if run['diverged'] else 'stable'} |"
    )


def draw(runs, path):
    """The center's loss over the steps: a panel for each period and rate."""
    places = sorted({(run["rate"], run["period"]) for run in runs})
    figure = _cifar.figure(3.2 * len(places), 3.4)
    panels = figure.subplots(1, len(places), squeeze=False)[0]
    for (rate, period), axes in zip(places, panels, strict=True):
        for run in runs:
            if (run["rate"], run["period"]) == (rate, period):
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
        batch_size=0,
        steps=0,
        test_images=2000,
        rates="0.005,0.05",
        periods="64,16,1",
        methods=",".join(METHODS),
        png="",
        quick=False,
    )
    settings = chosen(QUICK_SETTINGS if args.quick else SETTINGS, args)
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * WORKERS,
    )
    # The workers are what runs side by side.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    _cifar.require(args.data_dir)
    trainer = Runs(args)
    print("| method | learning rate | period | batch | steps ", end="")
    print("| start | middle | end | highest | test error | |")
    print("|---" * 11 + "|")
    runs = []
    for setting in settings:
        runs.append(trainer.run(setting))
        print(row(runs[-1]), flush=True)
    if args.png:
        draw(runs, args.png)
    _report.write(
        args,
        {
            "runs": runs,
            "workers": WORKERS,
            "look_every": LOOK_EVERY,
            "seed": SEED,
        },
    )


if __name__ == "__main__":
    main()
