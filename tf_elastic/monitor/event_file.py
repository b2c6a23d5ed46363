"""What TensorBoard reads, as long as it can be written."""

import os
from collections.abc import Mapping

import tensorflow as tf
from absl import logging
from numpy.typing import ArrayLike

from tf_elastic import extras


def check_can_write(log_dir: str | os.PathLike[str]) -> None:
    """Refuses a folder for TensorBoard where nothing can be written for it.

    TensorFlow's own summaries are made by a part of TensorBoard, which
    TensorFlow does not bring.

    Raises:
        extras.MissingExtraError: `tensorboard` is not installed.
    """
    extras.require(
        "tensorboard",
        f"`log_dir={os.fspath(log_dir)!r}`",
        "or leave `log_dir` out",
    )


class EventFile:
    """Scalars and histograms, appended to a file for TensorBoard.

    A full disk is told once, and nothing more is written; training goes on.

    Args:
        folder: where to; it is made.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = os.fspath(folder)
        self._writer: tf.summary.SummaryWriter | None = None
        try:
            self._writer = tf.summary.create_file_writer(self._folder)
        except tf.errors.OpError as error:
            self._give_up(error)

    def write(
        self,
        step: int,
        scalars: Mapping[str, float | None],
        histograms: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Appends values, and has them on the disk.

        Args:
            step: what they are over.
            scalars: by tag; None for what is not known.
            histograms: arrays by tag.
        """
        if self._writer is None:
            return
        try:
            with tf.device("CPU:0"), self._writer.as_default(step):
                for tag, value in scalars.items():
                    if value is not None:
                        tf.summary.scalar(tag, value)
                for tag, values in (histograms or {}).items():
                    tf.summary.histogram(tag, values)
            self._writer.flush()
        except tf.errors.OpError as error:
            self._give_up(error)

    def close(self) -> None:
        """Ends the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _give_up(self, error: tf.errors.OpError) -> None:
        self._writer = None
        lines = str(error.message).splitlines() or [type(error).__name__]
        logging.warning(
            "The events for TensorBoard in %s could not be written: %s. Those "
            "before can be read; training goes on without them.",
            self._folder,
            lines[0].split("; ")[-1],
        )
