"""Images that stay encoded in their files, and those that are damaged."""

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_elastic.data import records
from tf_elastic.data.errors import DamagedDataError


class DamagedImage(NamedTuple):
    """An image that could not be read, and was left out."""

    file: str
    """The TFRecord file that it is in."""
    record: int
    """Its number there, from 0."""
    name: str
    """What the data set calls it, or nothing where that is damaged too."""
    reason: str
    """What is wrong with it."""
    times: int
    """How often it has been left out."""


class Encoded(NamedTuple):
    """An image as it is stored."""

    image: bytes
    label: int
    name: str


_DAMAGED: dict[tuple[str, int], DamagedImage] = {}
_lock = threading.Lock()


def damaged_images() -> list[DamagedImage]:
    """The images that this process could not read so far.

    `load("imagenet2012", ...)` reads images as they are needed. One that is
    damaged is left out: in training the next image of the data set takes its
    place, in evaluation nothing does. The log has a warning for each, once.

    Returns:
        One entry for each image, in the order in which they were met.

    Example:
        >>> import tf_elastic.data
        >>> tf_elastic.data.damaged_images()
        []
    """
    with _lock:
        return list(_DAMAGED.values())


def forget_damaged_images() -> None:
    """Begins the count of `damaged_images` anew."""
    with _lock:
        _DAMAGED.clear()


def parse(record: bytes, num_classes: int) -> Encoded:
    """Takes a record apart.

    Raises:
        UnreadableRecordError: it is none of an image and its class.
    """
    try:
        features = tf.train.Example.FromString(record).features.feature
    except Exception as error:  # Protobuf's own, which TensorFlow brings.
        raise records.UnreadableRecordError(
            "the record is overwritten"
        ) from error
    images = features["image"].bytes_list.value
    labels = features["label"].int64_list.value
    if len(images) != 1 or len(labels) != 1:
        raise records.UnreadableRecordError("no image and label in the record")
    if not 0 <= labels[0] < num_classes:
        raise records.UnreadableRecordError(
            f"the label {labels[0]}, outside of [0, {num_classes})"
        )
    names = features["file_name"].bytes_list.value
    name = names[0].decode(errors="replace") if names else ""
    return Encoded(images[0], int(labels[0]), name)


class EncodedImages:
    """Reads images of a split by their numbers.

    Args:
        stored: the records.
        num_classes: labels are in [0, num_classes).
        indices: the images that make the split up, int64 [num_examples];
            None for all.
    """

    def __init__(
        self,
        stored: records.Records,
        num_classes: int,
        indices: np.ndarray | None = None,
    ) -> None:
        self._records = stored
        self._num_classes = num_classes
        self._indices = np.arange(len(stored)) if indices is None else indices
        self._damaged: dict[int, DamagedImage] = {}

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, index: int) -> Encoded | None:
        """Reads an image; None if it is damaged, which is counted."""
        if index in self._damaged:
            self._count(index)
            return None
        try:
            return parse(
                self._records.read(int(self._indices[index])),
                self._num_classes,
            )
        except records.UnreadableRecordError as error:
            self.leave_out(index, "", str(error))
            return None

    def leave_out(
        self, index: int, name: str, reason: str | tf.errors.OpError
    ) -> None:
        """Remembers that an image is damaged, and tells it."""
        if isinstance(reason, tf.errors.OpError):
            reason = str(reason.message).splitlines()[0].rstrip(".")
        file, record = self._records.place(int(self._indices[index]))
        self._damaged[index] = DamagedImage(file, record, name, reason, 0)
        self._count(index)

    def _count(self, index: int) -> None:
        found = self._damaged[index]
        key = found.file, found.record
        with _lock:
            is_new = key not in _DAMAGED
            times = 1 if is_new else _DAMAGED[key].times + 1
            _DAMAGED[key] = found._replace(times=times)
        if is_new:
            logging.getLogger("absl").warning(
                "The image %s, record %d of %s, is left out: %s. Training "
                "goes on with the next one. See "
                "tf_elastic.data.damaged_images().",
                found.name or "(without a name)",
                found.record,
                found.file,
                found.reason,
            )

    def encoded(
        self, indices: np.ndarray, replace: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reads several images.

        Args:
            indices: their numbers, [n].
            replace: whether the next image takes the place of one that is
                damaged. If not it is left out; but if all are, one is read.

        Returns:
            The encoded images, object [m]; their labels, int64 [m]; and which
            of the n they are, or replace, int64 [m].
        """
        found: list[Encoded] = []
        places: list[int] = []
        for place, index in enumerate(indices):
            image = self.read(int(index))
            if image is None and replace:
                image = self._next(int(index))[0]
            if image is not None:
                found.append(image)
                places.append(place)
        if not found:
            found, places = [self._next(int(indices[-1]))[0]], [0]
        images = np.empty(len(found), object)
        images[:] = [image.image for image in found]
        labels = np.array([image.label for image in found], np.int64)
        return images, labels, np.array(places, np.int64)

    def _next(self, index: int) -> tuple[Encoded, int]:
        """The first image after one that can be read, and its number."""
        for number in range(index + 1, index + 1 + len(self)):
            image = self.read(number % len(self))
            if image is not None:
                return image, number % len(self)
        raise DamagedDataError(
            f"An image of {self._records.files[0]!r} and what follows must be "
            f"readable. Received: {len(self)} images, all of which are "
            "damaged. See tf_elastic.data.damaged_images() for what is wrong "
            "with them, and copy the files anew."
        )

    def decoded(
        self,
        indices: np.ndarray,
        codes: np.ndarray,
        decode: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        replace: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads and decodes images one by one, where one of them is damaged.

        Args:
            indices: as of `encoded`.
            codes: one for each of them, int32 [n].
            decode: (encoded image, code) -> float32 [size, size, 3]; raises an
                error of TensorFlow if it cannot.
            replace: as of `encoded`.

        Returns:
            Images float32 [m, size, size, 3] and labels int64 [m].
        """
        images: list[np.ndarray] = []
        labels: list[int] = []
        for place, (index, code) in enumerate(zip(indices, codes, strict=True)):
            is_last = place == len(indices) - 1
            taken = self._decode(int(index), code, decode)
            if taken is None and (replace or (is_last and not images)):
                taken = self._decode_next(int(index), code, decode)
            if taken is not None:
                images.append(taken[0])
                labels.append(taken[1])
        return np.stack(images), np.array(labels, np.int64)

    def _decode(
        self,
        index: int,
        code: int,
        decode: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    ) -> tuple[np.ndarray, int] | None:
        image = self.read(index)
        if image is None:
            return None
        try:
            with tf.device("CPU:0"):
                pixels = decode(tf.constant(image.image), tf.constant(code))
        except tf.errors.OpError as error:
            self.leave_out(index, image.name, error)
            return None
        return pixels.numpy(), image.label

    def _decode_next(
        self,
        index: int,
        code: int,
        decode: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    ) -> tuple[np.ndarray, int]:
        while True:
            _, index = self._next(index)
            taken = self._decode(index, code, decode)
            if taken is not None:
                return taken
