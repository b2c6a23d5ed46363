"""The best momentum of 8 delayed workers is lower than that of 1.

    python benchmarks/bench_delayed_momentum.py --data_dir=DIR [--quick]
        [--network=thesis] [--rate=0.01] [--batch_size=32] [--steps=500]
        [--json=PATH] [--png=PATH]

Figure 2 of the momentum paper, small but real: CIFAR-10, a small convolutional
network (58 k parameters, 48 times fewer multiplications than the thesis', which
is there too), one learning rate, the momenta of the paper. 8 equal workers that
push one after another are a delay of 7 updates, so that

    x_{k+1} = x_k - eta g(x_{k-7}) + mu (x_k - x_{k-1})        (eq. 1.3),

which is what `DelayedGradient(SGD(eta, mu), delay=7)` does, with one gradient
for each update (tests/delayed_workers_test.py compares it with `AsyncMSGD`);
so both sides see the same images in the same order, and no worker has to be
simulated. Only the first updates differ: 8 workers begin with gradients of 8
minibatches at the same point, here the first of them is used 8 times. Each
number is the mean over seeds of parameters and images, with its standard error.
"""

import math
import statistics
import sys

import _cifar
import _report
import keras

import tf_elastic as te

MOMENTA = (0.1, 0.3, 0.5, 0.7, 0.9)
WORKERS = (1, 8)
COLORS = {1: "#0072B2", 8: "#D55E00"}


def small_network(seed):
    """Two convolutions and two dense layers."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 3)),
            layers.Conv2D(16, 5, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


NETWORKS = {
    "small": small_network,
    "thesis": lambda seed: te.models.cifar_convnet(seed=seed),
}


def make_optimizer(workers, rate, momentum):
    """Momentum SGD whose gradients are `workers` - 1 updates late."""
    inner = keras.optimizers.SGD(rate, momentum=momentum)
    if workers == 1:
        return inner
    return te.optimizers.DelayedGradient(inner, delay=workers - 1)


class Runs:
    """Trains with each setting and each seed.

    Args:
        args: of the program.
    """

    def __init__(self, args):
        self._args = args
        self._test_images = _cifar.fixed_data(
            args.data_dir, "test", args.test_images
        )
        self._train_images = _cifar.fixed_data(
            args.data_dir, "train_eval", 1000
        )

    def run(self, workers, momentum, seed):
        """Test accuracy and training loss at the end."""
        args = self._args
        model = NETWORKS[args.network](seed)
        model.compile(
            make_optimizer(workers, args.rate, momentum),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            steps_per_execution=args.steps,
            jit_compile=False,
        )
        model.fit(
            _cifar.train_data(
                args.data_dir, seed, args.batch_size, 1, args.steps
            ),
            shuffle=False,
            verbose=0,
        )
        loss = model.evaluate(self._train_images, verbose=0)[0]
        accuracy = model.evaluate(self._test_images, verbose=0)[1]
        keras.backend.clear_session()
        return {
            "workers": workers,
            "momentum": momentum,
            "seed": seed,
            "loss": loss,
            "test_accuracy": accuracy,
        }


def mean_and_error(values):
    """The mean, and its standard error."""
    error = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), error


def summarize(runs, workers, key):
    """Momentum -> mean and standard error."""
    return {
        momentum: mean_and_error(
            [
                run[key]
                for run in runs
                if (run["workers"], run["momentum"]) == (workers, momentum)
            ]
        )
        for momentum in MOMENTA
    }


def best_momentum(accuracies):
    """The momentum of the highest mean accuracy."""
    return max(accuracies, key=lambda momentum: accuracies[momentum][0])


def draw(accuracies, path):
    """Accuracy over momentum, as in the paper."""
    figure = _cifar.figure(4.6, 3.6)
    axes = figure.subplots()
    for workers, of_momentum in accuracies.items():
        means, errors = zip(*of_momentum.values(), strict=True)
        axes.errorbar(
            list(of_momentum),
            [100 * mean for mean in means],
            [100 * error for error in errors],
            color=COLORS[workers],
            marker="o",
            capsize=3,
            label=f"{workers} worker{'s' if workers > 1 else ''}",
        )
    axes.set_xlabel("momentum")
    axes.set_ylabel("test accuracy, %")
    axes.legend()
    _cifar.save(figure, path)


def main():
    args = _report.parse_args(
        __doc__,
        data_dir="",
        network="small",
        rate=0.01,
        batch_size=32,
        steps=500,
        seeds=3,
        test_images=2000,
        png="",
        quick=False,
    )
    _cifar.require(args.data_dir)
    if args.quick:
        args.steps, args.seeds = min(args.steps, 200), 2
    trainer = Runs(args)
    runs = []
    for seed in range(args.seeds):
        for momentum in MOMENTA:
            for workers in WORKERS:
                runs.append(trainer.run(workers, momentum, seed))
                print("  {}".format(runs[-1]), file=sys.stderr, flush=True)
    accuracies = {
        workers: summarize(runs, workers, "test_accuracy")
        for workers in WORKERS
    }
    losses = {workers: summarize(runs, workers, "loss") for workers in WORKERS}
    names = [f"{w} worker{'s' if w > 1 else ''}" for w in WORKERS]
    print(
        "| momentum |"
        + "".join(f" {n}: test accuracy |" for n in names)
        + "".join(f" {n}: training loss |" for n in names)
    )
    print("|---" * (1 + 2 * len(WORKERS)) + "|")
    for momentum in MOMENTA:
        cells = [
            f"{100 * mean:.1f} ± {100 * error:.1f} %"
            for mean, error in (accuracies[w][momentum] for w in WORKERS)
        ] + [
            f"{mean:.3f} ± {error:.3f}"
            for mean, error in (losses[w][momentum] for w in WORKERS)
        ]
        print(f"| {momentum} | {' | '.join(cells)} |")
    best = {w: best_momentum(accuracies[w]) for w in WORKERS}
    print(
        "best momentum: "
        + ", ".join(
            f"{best[w]} with {name}"
            for w, name in zip(WORKERS, names, strict=True)
        )
    )
    if args.png:
        draw(accuracies, args.png)
    _report.write(
        args,
        {
            "runs": runs,
            "best_momentum": best,
            "network": args.network,
            "learning_rate": args.rate,
            "batch_size": args.batch_size,
            "steps": args.steps,
        },
    )


if __name__ == "__main__":
    main()
