"""What the benchmarks that train on CIFAR-10 share: data and pictures."""

import os
import sys

import tf_elastic as te

# Of evaluation; 4 logical devices share each alike.
BATCH_SIZE = 200


def train_data(data_dir, seed, batch_size, num_workers, steps):
    """The training images as the thesis samples them, `steps` an epoch."""
    return te.data.load(
        "cifar10",
        "train",
        batch_size=batch_size,
        num_workers=num_workers,
        data_dir=data_dir or None,
        seed=seed,
        steps_per_epoch=steps,
    )


def fixed_data(data_dir, split, num_images):
    """The first images of a split, center crops, in batches; in memory."""
    data = te.data.load(
        "cifar10", split, batch_size=BATCH_SIZE, data_dir=data_dir or None
    )
    return data.take(num_images // BATCH_SIZE).cache()


def require(data_dir):
    """Ends the program with a sentence if there is no CIFAR-10."""
    try:
        te.data.load("cifar10", "test", data_dir=data_dir or None)
    except (FileNotFoundError, ImportError) as error:
        print(f"skipped: {error}")
        sys.exit(0)


def figure(width, height):
    """A figure without pyplot: nothing global is touched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(made)
    return made


def save(made, path):
    """Writes a figure as PNG, and makes its folder."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    made.savefig(path, format="png")
