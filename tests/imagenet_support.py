"""A small prepared ImageNet, and images for it that are made here."""

import io
import json

import numpy as np
import tensorflow as tf
from PIL import Image

VERSION = "5.1.0"


def picture(number, height=300, width=280):
    """A picture of one colour, which tells its number: red is 5 times it."""
    pixels = np.full((height, width, 3), 128, np.uint8)
    pixels[..., 0] = 5 * number
    return Image.fromarray(pixels)


def saved(image, kind="JPEG"):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def example(image, number, label=None):
    def of(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    label = number if label is None else label
    feature = {
        "image": of(image),
        "file_name": of(f"n{number:04}.JPEG".encode()),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    features = tf.train.Features(feature=feature)
    return tf.train.Example(features=features).SerializeToString()


def make(data_dir, splits):
    """Prepares a folder `imagenet2012`.

    Args:
        data_dir: a pathlib.Path.
        splits: for "train" and "validation" a list of files, each a list of
            records.

    Returns:
        The folder of its version.
    """
    folder = data_dir / "imagenet2012" / VERSION
    folder.mkdir(parents=True)
    told = []
    for split, files in splits.items():
        for i, records in enumerate(files):
            name = f"imagenet2012-{split}.tfrecord-{i:05}-of-{len(files):05}"
            with tf.io.TFRecordWriter(str(folder / name)) as writer:
                for record in records:
                    writer.write(record)
        told.append(
            {
                "name": split,
                "filepathTemplate": (
                    "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
                ),
                "numBytes": str(sum(len(r) for f in files for r in f)),
                "shardLengths": [str(len(f)) for f in files],
            }
        )
    info = {
        "name": "imagenet2012",
        "version": VERSION,
        "fileFormat": "tfrecord",
        "splits": told,
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    features = {
        "pythonClassName": (
            "tensorflow_datasets.core.features.features_dict.FeaturesDict"
        ),
        "featuresDict": {
            "features": {
                "file_name": {
                    "pythonClassName": (
                        "tensorflow_datasets.core.features.text_feature.Text"
                    ),
                    "text": {},
                },
                "image": {
                    "pythonClassName": (
                        "tensorflow_datasets.core.features.image_feature.Image"
                    ),
                    "image": {
                        "dtype": "uint8",
                        "encodingFormat": "jpeg",
                        "shape": {"dimensions": ["-1", "-1", "3"]},
                    },
                },
                "label": {
                    "pythonClassName": (
                        "tensorflow_datasets.core.features."
                        "class_label_feature.ClassLabel"
                    ),
                    "classLabel": {"numClasses": "1000"},
                },
            }
        },
    }
    (folder / "features.json").write_text(json.dumps(features))
    return folder
