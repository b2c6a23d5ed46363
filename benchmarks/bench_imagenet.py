"""Speed of ImageNet's training pipeline, in images/s, against the usual one.

    python benchmarks/bench_imagenet.py --data_dir=DIR [--stored_dir=DIR]

Three pipelines over the same JPEGs, each with batches of `--batch_size`:

usual       each whole image decoded, `tf.image.resize` to a shortest side of
            256, `random_crop` of 221 x 221, flip, scaled to [0, 1]
originals   `load("imagenet2012", variant="crop")`, the same crops
stored      the same of the images that `tf_elastic.data.prepare` has stored
            with a shortest side of 256 (made in `--stored_dir` if it is given
            and not there, else in a temporary folder)

and Pillow for orientation: one thread, `resize` with a box. They
are timed in turns, `--repeats` times; ratios are of the medians of images per
second of processor time, which depend less on what else the machine does.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile

import _report
import numpy as np
import tensorflow as tf

import tf_elastic.data
from tf_elastic.data import encoded_images
from tf_elastic.data import imagenet
from tf_elastic.data import prepare


def usual_pipeline(files, batch_size, seed):
    """The pipeline of most tutorials, on the same files."""
    features = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }

    def crop(record):
        example = tf.io.parse_single_example(record, features)
        image = tf.io.decode_jpeg(example["image"], channels=3)
        sides = tf.cast(tf.shape(image)[:2], tf.float32)
        new = tf.round(sides * 256 / tf.reduce_min(sides))
        image = tf.image.resize(image, tf.cast(new, tf.int32))
        image = tf.image.random_crop(image, [221, 221, 3])
        image = tf.image.random_flip_left_right(image)
        return image / 255, example["label"]

    return (
        tf.data.TFRecordDataset(files)
        .repeat()
        .shuffle(1000, seed=seed)
        .map(crop, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def pillow_batches(images, batch_size, seed):
    """The same crops by Pillow, in one thread; labels are left out."""
    import io

    from PIL import Image

    rng = np.random.default_rng(seed)
    while True:
        batch = np.empty([batch_size, 221, 221, 3], np.float32)
        for place in range(batch_size):
            encoded = images.read(int(rng.integers(len(images)))).image
            image = Image.open(io.BytesIO(encoded))
            step = min(image.size) / 256
            size = [round(side / step) for side in image.size]
            left, top = (rng.integers(side - 220) * step for side in size)
            box = (left, top, left + 221 * step, top + 221 * step)
            pixels = np.asarray(
                image.convert("RGB").resize(
                    (221, 221),
                    Image.Resampling.BILINEAR,
                    [
                        min(b, s)
                        for b, s in zip(box, image.size * 2, strict=True)
                    ],
                )
            )
            batch[place] = pixels[:, :: rng.choice([1, -1])]
        batch *= 1 / 255
        yield batch, None


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", help="folder that holds imagenet2012/")
    parser.add_argument("--stored_dir", help="for imagenet2012_256/")
    parser.add_argument("--json", help="file to write the results to")
    parser.add_argument("--batch_size", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def pipelines(args, stored_dir):
    """What is compared, by name."""
    prepare.prepare("imagenet2012", data_dir=args.data_dir, out=stored_dir)

    def elastic(data_dir, stored_size):
        return tf_elastic.data.load(
            "imagenet2012",
            "train",
            variant="crop",
            batch_size=args.batch_size,
            data_dir=data_dir,
            stored_size=stored_size,
            seed=args.seed,
            steps_per_epoch=1_000_000,
        )

    builder = imagenet.builder(args.data_dir)
    files = [os.fspath(p) for p in builder.info.splits["train"].filepaths]
    originals = imagenet.read("train", args.data_dir)
    return {
        "usual": usual_pipeline(files, args.batch_size, args.seed),
        "originals": elastic(args.data_dir, None),
        "stored": elastic(stored_dir, 256),
        "Pillow": pillow_batches(originals, args.batch_size, args.seed),
    }


def main():
    args = parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compared = pipelines(args, args.stored_dir or folder)
        runs = {name: [] for name in compared}
        for _ in range(args.repeats):
            for name, batches in compared.items():
                runs[name].append(_report.throughput(batches, args.seconds))
    wall, cpu = (
        {name: [run[i] for run in runs[name]] for name in runs} for i in (0, 1)
    )
    medians = {name: statistics.median(cpu[name]) for name in runs}
    ratios = {name: medians[name] / medians["usual"] for name in runs}
    for name in runs:
        print(
            f"{name:10s} {medians[name]:6.0f} images per processor second "
            f"({min(cpu[name]):.0f} to {max(cpu[name]):.0f}), "
            f"{statistics.median(wall[name]):6.0f} images/s, ratio "
            f"{ratios[name]:.2f}"
        )
    left_out = len(encoded_images.damaged_images())
    print(f"{left_out} images were left out")
    if args.json:
        result = {
            "benchmark": "imagenet",
            "arguments": {
                key: value
                for key, value in vars(args).items()
                if key not in ("data_dir", "stored_dir", "json")
            },
            "images_per_s": wall,
            "images_per_cpu_s": cpu,
            "ratios": ratios,
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "tensorflow": tf.__version__,
            },
            "machine": {
                "cores": os.cpu_count(),
                "architecture": platform.machine(),
            },
        }
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
