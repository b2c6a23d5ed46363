"""One worker of the tests of `MultiWorkerMirroredStrategy`.

    python -m tests.multi_worker_mirrored_job FOLDER PART

Writes what it found to FOLDER/PART-INDEX.pickle.
"""

import gc
import json
import os
import pathlib
import pickle
import signal
import sys

gc.disable()  # There is no garbage among what is imported.

import keras
import numpy as np
import tensorflow as tf

from tests import plain_graphs
from tf_elastic import optimizers
from tf_elastic import strategies

gc.freeze()
gc.enable()
plain_graphs.as_asked()
PEER_TIMEOUT_S = 10
STARTUP_TIMEOUT_S = 300


def index():
    """This worker's number, a chief being the first; None without a cluster."""
    if "TF_CONFIG" not in os.environ:
        return None
    config = json.loads(os.environ["TF_CONFIG"])
    is_second = (
        config["task"]["type"] == "worker" and "chief" in config["cluster"]
    )
    return config["task"]["index"] + is_second


def rows(number, batch_size):
    """Rows to train or to test on."""
    numbers = np.random.default_rng(7)
    x = numbers.normal(size=(number, 6)).astype("float32")
    y = (x @ numbers.normal(size=(6, 3))).argmax(1)
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)


def make_model(strategy, steps_per_execution=1, optimizer=None):
    """A small network, the same each time but on other workers."""
    keras.utils.set_random_seed(5 + (index() or 0))  # the chief's counts
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(8, "tanh"),
                keras.layers.Dense(3),
            ]
        )
        model.compile(
            optimizer or keras.optimizers.SGD(0.1, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            steps_per_execution=steps_per_execution,
        )
    return model


def fit(model, dataset, **kwargs):
    """`fit`, with the logs of each call of the batch callback."""
    seen = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(
            (batch, {name: float(value) for name, value in logs.items()})
        )
    )
    callbacks = [*kwargs.pop("callbacks", []), note]
    history = model.fit(dataset, verbose=0, callbacks=callbacks, **kwargs)
    return {"history": history.history, "batches": seen}


def tutorial(strategy, folder, steps_per_execution):
    """`fit`, `evaluate`, `predict` and `save`."""
    own = folder / f"worker{index()}"
    model = make_model(strategy, steps_per_execution)
    path = own / f"checkpoint-{steps_per_execution}-{{epoch}}.keras"
    found = fit(
        model,
        rows(96, 16),
        epochs=3,
        validation_data=rows(41, 8),
        callbacks=[keras.callbacks.ModelCheckpoint(str(path))],
    )
    found["weights"] = model.get_weights()
    found["evaluate"] = model.evaluate(rows(41, 8), verbose=0)
    for batch_size in (4, 41):
        found[f"predict {batch_size}"] = model.predict(
            rows(41, batch_size), verbose=0
        )
    model.save(own / f"{steps_per_execution}.keras")
    found["steps_per_epoch"] = steps_per_epoch(model)
    found["uneven"] = uneven(model)
    for name, file in (
        ("saved", f"{steps_per_execution}.keras"),
        ("checkpoint", path.name.format(epoch=3)),
    ):
        found[name] = keras.saving.load_model(own / file).get_weights()
    return found


def tutorial_numbers(strategy, steps_per_execution):
    """What `tutorial` finds before it saves."""
    model = make_model(strategy, steps_per_execution)
    found = fit(model, rows(96, 16), epochs=2, validation_data=rows(41, 8))
    found["weights"] = model.get_weights()
    found["predict"] = model.predict(rows(41, 8), verbose=0)
    return found


def steps_per_epoch(model):
    """A data set without an end, as in the tutorial."""
    found = fit(model, rows(96, 16).repeat(), epochs=2, steps_per_epoch=8)
    return {**found, "weights": model.get_weights()}


def uneven(model):
    """The last batch is of one row, so that a worker has none."""
    found = fit(model, rows(41, 8), epochs=2)
    return {**found, "weights": model.get_weights()}


class Stop(Exception):
    """What interrupts a training."""


class StopAt(keras.callbacks.Callback):
    """Interrupts at the begin of an epoch, on all workers."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Stop


class StopAfter(keras.callbacks.Callback):
    """Interrupts after so many calls of the batch callback."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def on_train_batch_end(self, batch, logs=None):
        self.calls -= 1
        if self.calls == 0:
            raise Stop


def backup(strategy, folder, steps_per_execution):
    """Trained as `tutorial`, but interrupted, and resumed from the backup."""
    dataset = rows(96, 16)

    def restore(**kwargs):
        # One folder for all: only the chief writes, and all restore.
        path = folder / f"backup{index() is None}"
        return keras.callbacks.BackupAndRestore(path, **kwargs)

    def interrupted(model, epochs, *callbacks):
        try:
            fit(model, dataset, epochs=epochs, callbacks=callbacks)
        except Stop:
            return
        raise AssertionError("nothing has interrupted it")

    stopped = make_model(strategy, steps_per_execution)
    interrupted(stopped, 3, restore(), StopAt(2))
    model = make_model(strategy, steps_per_execution)
    resumed = fit(model, dataset, epochs=3, callbacks=[restore()])
    found = {"resumed": resumed, "resumed weights": model.get_weights()}
    # In the first epoch: weights are restored, the epoch begins again. Workers
    # wait for each other at a new model: none sees the backup of before.
    make_model(strategy)
    interrupted(stopped, 1, restore(save_freq=1), StopAfter(1))
    model = make_model(strategy, steps_per_execution)
    again = fit(model, dataset, epochs=1, callbacks=[restore()])
    return {**found, "again": again, "again weights": model.get_weights()}


def refused(strategy):
    """The error of an optimizer of this package."""
    with strategy.scope():
        optimizer = optimizers.EASGD(0.1)
    model = make_model(strategy, optimizer=optimizer)
    try:
        model.fit(rows(16, 16), verbose=0)
    except ValueError as error:
        return str(error)
    return None


def trained(strategy, folder, executions):
    """What is found in all ways of training.

    Args:
        strategy: of this worker.
        folder: for what is saved.
        executions: the steps per execution.
    """
    found = {"index": index()}
    for k in executions:
        parts = tutorial(strategy, folder, k)
        for name in ("steps_per_epoch", "uneven"):
            found[f"{name} {k}"] = parts.pop(name)
        found[f"tutorial {k}"] = parts
    found["backup"] = backup(strategy, folder, executions[-1])
    found["refused"] = refused(strategy)
    return found


class DieAt(keras.callbacks.Callback):
    """One worker gets a signal at the end of an epoch."""

    def __init__(self, victim, epoch, what):
        super().__init__()
        self.victim, self.epoch, self.what = victim, epoch, what

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch and index() == self.victim:
            os.kill(os.getpid(), self.what)


def lost(strategy, victim, what):
    """The error of a worker whose peer is killed or stopped."""
    model = make_model(strategy, steps_per_execution=2)
    die = DieAt(victim, 1, what)
    try:
        fit(model, rows(96, 16), epochs=9, callbacks=[die])
    except tf.errors.OpError as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {"error": None}


def make_strategy(startup_timeout_s):
    """One that does not wait for ever."""
    return strategies.MultiWorkerMirroredStrategy(
        startup_timeout_s=startup_timeout_s, peer_timeout_s=PEER_TIMEOUT_S
    )


def waited_in_vain():
    """The error in a cluster whose other worker never comes."""
    config = os.environ["TF_CONFIG"]
    os.environ["TF_CONFIG"] = os.environ["ALONE"]
    try:
        make_strategy(1)
    except TimeoutError as error:
        return str(error)
    finally:
        os.environ["TF_CONFIG"] = config
    return None


def write(folder, part, found):
    """Writes what was found, for the test."""
    path = folder / f"{part}-{index()}.pickle"
    path.write_bytes(pickle.dumps(found))


def main(folder, part):
    """Does one part and writes what was found."""
    folder = pathlib.Path(folder)
    found = {"index": index()}
    if "ALONE" in os.environ and index() == 0:
        found["timeout"] = waited_in_vain()
    strategy = make_strategy(STARTUP_TIMEOUT_S)
    if part == "train":
        write(folder, part, trained(strategy, folder, (1, 4)))
        # They go on until one is lost: a stopped one is, by its silence alone.
        part = "stop 1"
    name, victim = part.split()
    what = signal.Signals[f"SIG{name.upper()}"]
    found.update(lost(strategy, int(victim), what))
    write(folder, part, found)
    # Without the other workers TensorFlow would wait for them at the exit.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
