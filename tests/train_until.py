"""`train.py`, which trains until a test says that it is enough.

    python tests/train_until.py FILE EPOCHS [FLAGS of train.py]

A process ends its training when there is such a file, after so many epochs at
least: what a test waits for meanwhile takes the time that it takes.
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import keras

import train


class Until(keras.callbacks.Callback):
    """Ends the training."""

    def __init__(self, path, epochs):
        super().__init__()
        self.path, self.epochs = path, epochs

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 >= self.epochs and os.path.exists(self.path):
            self.model.stop_training = True


def main(path, epochs, *flags):
    fit = keras.Model.fit

    def fit_until(model, *args, callbacks=(), **kwargs):
        ends = Until(path, int(epochs))
        return fit(model, *args, callbacks=[*callbacks, ends], **kwargs)

    keras.Model.fit = fit_until
    return train.main(["train.py", "--epochs=1000000", *flags])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
