"""Speed of the training pipeline, in images/s, against the usual one.

    python benchmarks/bench_data.py --data_dir=DIR [--json=PATH]

The usual one decodes nothing either: from the same images in memory it
shuffles them one by one, maps `tf.image.random_crop`,
`tf.image.random_flip_left_right`, a cast and a scaling over each, batches and
prefetches. The two are timed in turns, `--repeats` times, and the ratio is of
the medians. Images per second of processor time are given too: they depend
less on what else the machine does.
"""

import argparse
import json
import os
import platform
import statistics
import time

import _report
import numpy as np
import tensorflow as tf

import tf_elastic.data
from tf_elastic.data import sources


def usual_pipeline(source, batch_size, seed):
    """The pipeline of most tutorials, on the same data."""

    def augment(image, label):
        image = tf.image.random_crop(image, [28, 28, 3])
        image = tf.image.random_flip_left_right(image)
        return tf.cast(image, tf.float32) / 255, label

    return (
        tf.data.Dataset.from_tensor_slices(tuple(source))
        .shuffle(10_000, seed=seed)
        .repeat()
        .map(augment, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", help="folder that holds cifar10/")
    parser.add_argument("--json", help="file to write the results to")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--num_workers", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = parse_args()
    start = time.perf_counter()
    source = sources.read_cifar("cifar10", "train", args.data_dir, False)
    load_s = time.perf_counter() - start
    elastic = tf_elastic.data.load(
        "cifar10",
        "train",
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        data_dir=args.data_dir,
        seed=args.seed,
        steps_per_epoch=1_000_000,
    )
    usual = usual_pipeline(
        source, args.batch_size * args.num_workers, args.seed
    )
    datasets = {"tf_elastic": elastic, "usual": usual}
    runs = {name: [] for name in datasets}
    for _ in range(args.repeats):
        for name, dataset in datasets.items():
            runs[name].append(_report.throughput(dataset, args.seconds))
    wall, cpu = (
        {name: [run[i] for run in runs[name]] for name in runs} for i in (0, 1)
    )
    medians = {name: statistics.median(wall[name]) for name in runs}
    cpu_medians = {name: statistics.median(cpu[name]) for name in runs}
    ratio = medians["tf_elastic"] / medians["usual"]
    cpu_ratio = cpu_medians["tf_elastic"] / cpu_medians["usual"]
    print(f"decoding the training images: {load_s:.1f} s")
    for name in runs:
        print(
            f"{name:10s} {medians[name]:7.0f} images/s "
            f"({min(wall[name]):.0f} to {max(wall[name]):.0f}), "
            f"{cpu_medians[name]:7.0f} images per processor second "
            f"({min(cpu[name]):.0f} to {max(cpu[name]):.0f})"
        )
    print(f"ratio      {ratio:7.1f} (processor time {cpu_ratio:.1f})")
    if args.json:
        result = {
            "benchmark": "data",
            "arguments": {
                key: value
                for key, value in vars(args).items()
                if key not in ("data_dir", "json")
            },
            "images_per_s": wall,
            "images_per_cpu_s": cpu,
            "median_images_per_s": medians,
            "median_images_per_cpu_s": cpu_medians,
            "ratio": ratio,
            "cpu_ratio": cpu_ratio,
            "decode_s": load_s,
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "tensorflow": tf.__version__,
            },
            "machine": {
                "cores": os.cpu_count(),
                "architecture": platform.machine(),
                "malloc": {
                    key: value
                    for key, value in sorted(os.environ.items())
                    if key.startswith("MALLOC_")
                },
            },
        }
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
