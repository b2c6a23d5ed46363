"""One process of a group, of the tests of groups: stock `fit`.

    python -m tests.worker_group_job FOLDER

It trains until a file `end` is in the folder, and writes where it is then to
`worker-INDEX.json`, beside `worker-INDEX.begun` when it has trained a while.
"""

import json
import os
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

from tests.chaos import CLASSES
from tests.chaos import FEATURES
from tests.chaos import digits
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.callbacks import SharedEpochs

GROUP_SIZE = 2


class UntilTold(keras.callbacks.Callback):
    """Ends training when the leader of the group has seen a file."""

    def __init__(self, folder, index):
        super().__init__()
        self.end = folder / "end"
        self.begun = folder / f"worker-{index}.begun-{os.getpid()}"

    def on_train_batch_end(self, batch, logs=None):
        if batch >= 50:
            self.begun.touch()
        group = self.model.distribute_strategy.extended.group
        [has_ended] = group.agreed([self.end.exists()])
        if has_ended:
            self.model.stop_training = True


def network(strategy):
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((FEATURES,)),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.1),
                keras.layers.Dense(CLASSES),
            ]
        )
        model.compile(
            optimizers.EAMSGD(2e-3, momentum=0.9, communication_period=5),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            steps_per_execution=2,
        )
    return model


def main(folder):
    folder = pathlib.Path(folder)
    keras.utils.disable_interactive_logging()
    strategy = strategies.ElasticMultiWorkerStrategy(
        timeouts=strategies.Timeouts(heartbeat_s=0.5),
        workers_per_group=GROUP_SIZE,
        events=str(folder / "events.jsonl"),
    )
    index = strategy.worker_index
    keras.utils.set_random_seed(100 + index)
    model = network(strategy)
    images, labels = digits()
    options = tf.data.Options()
    options.autotune.enabled = False
    rows = tf.data.Dataset.from_tensor_slices((images, labels))
    rows = rows.shuffle(2000, seed=index).batch(16).repeat()
    model.fit(
        rows.with_options(options),
        epochs=1000,
        verbose=0,
        callbacks=[SharedEpochs(20_000), UntilTold(folder, index)],
    )
    points = np.concatenate(
        [p[0].ravel() for p in model.optimizer.worker_points()]
    )
    loss, accuracy = model.evaluate(images, labels, verbose=0)
    found = {
        "points": points.tolist(),
        "clock": int(model.optimizer.iterations.numpy()),
        "loss": loss,
        "accuracy": accuracy,
        "is_chief": strategy.is_chief,
    }
    (folder / f"worker-{index}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
