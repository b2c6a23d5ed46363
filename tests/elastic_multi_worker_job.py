"""One worker in a process of its own: does what its standard input says.

Every line that comes in is JSON, [what to do, arguments]; every line of the
answers, too, [result, error]. So a test decides which worker steps when.
"""

import gc
import json
import os
import sys
import threading
import traceback

gc.disable()  # There is no garbage among what is imported.

import keras
import numpy as np
import tensorflow as tf

from tests import plain_graphs
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.callbacks import SharedEpochs
from tf_elastic.cluster.worker import patience

gc.freeze()
gc.enable()
plain_graphs.as_asked()
N, STEPS, WORKERS = 5, 60, 3
SPLIT = 3  # the parameters are two variables, of 3 and of 2 numbers
LEARNING_RATE, MOMENTUM, BETA = 0.05, 0.9, 0.9
INITIAL = np.linspace(-1.0, 2.0, N)
WAIT_S = 60

_GENERATOR = np.random.default_rng(7)
NOISE = _GENERATOR.normal(size=(WORKERS, STEPS, N))
_FACTOR = _GENERATOR.normal(size=(N, N))
HESSIAN = _FACTOR @ _FACTOR.T / N + 0.1 * np.eye(N)

# Generous where nothing is meant to fail: the machine may be busy.
PATIENT = patience.Timeouts(
    join_s=60.0,
    exchange_s=30.0,
    heartbeat_s=0.2,
    control_s=20.0,
    barrier_s=60.0,
)


def gradient(worker, step, point):
    return HESSIAN @ point - NOISE[worker, step]


class Quadratic(keras.Model):
    """Its output is the loss."""

    def build(self, input_shape):
        self.head = self.add_weight(shape=(SPLIT,), name="head")
        self.tail = self.add_weight(shape=(N - SPLIT,), name="tail")

    def call(self, inputs):
        w = tf.concat([tf.convert_to_tensor(v) for v in self.weights], axis=0)
        hessian_w = tf.linalg.matvec(tf.constant(HESSIAN, w.dtype), w)
        return tf.tensordot(w, hessian_w, 1) / 2 - tf.linalg.matvec(inputs, w)


def build(strategy, make_optimizer, initial=INITIAL, **compile_kwargs):
    """A model at `initial` whose worker has joined, in float64."""
    with strategy.scope():
        model = Quadratic()
        model.build((None, N))
        model.set_weights([initial[:SPLIT], initial[SPLIT:]])
        model.compile(
            make_optimizer(), loss=lambda _, output: output, **compile_kwargs
        )
        model.optimizer.build(model.trainable_variables)
    strategy.extended.before_step()
    return model


# Methods that push, by the names of their tests; of the period tau.
AVERAGING_RATE, ELASTICITY, OUTER = 0.2, 1.5, (0.7, 0.9)
_PLAIN = {"jit_compile": False}
PUSHING = {
    "downpour": lambda tau: optimizers.Downpour(
        LEARNING_RATE, communication_period=tau, **_PLAIN
    ),
    "adownpour": lambda tau: optimizers.ADownpour(
        LEARNING_RATE, communication_period=tau, **_PLAIN
    ),
    "mvadownpour": lambda tau: optimizers.MVADownpour(
        LEARNING_RATE,
        communication_period=tau,
        averaging_rate=AVERAGING_RATE,
        **_PLAIN,
    ),
    "async_msgd": lambda tau: optimizers.AsyncMSGD(
        LEARNING_RATE, momentum=MOMENTUM, **_PLAIN
    ),
    "async_msgd_all": lambda tau: optimizers.AsyncMSGD(
        LEARNING_RATE,
        momentum=MOMENTUM,
        adjustment="inverse_sqrt",
        staleness_scaling=True,
        delay_compensation=0.3,
        **_PLAIN,
    ),
    "mdownpour": lambda tau: optimizers.MDownpour(
        LEARNING_RATE, momentum=MOMENTUM, **_PLAIN
    ),
    "local_sgd": lambda tau: optimizers.LocalSGD(
        keras.optimizers.SGD(LEARNING_RATE), communication_period=tau, **_PLAIN
    ),
    "diloco": lambda tau: optimizers.DiLoCo(
        keras.optimizers.SGD(LEARNING_RATE),
        outer_learning_rate=OUTER[0],
        outer_momentum=OUTER[1],
        communication_period=tau,
        **_PLAIN,
    ),
    "admm": lambda tau: optimizers.ADMM(
        LEARNING_RATE,
        elasticity=ELASTICITY,
        communication_period=tau,
        **_PLAIN,
    ),
}


def optimizer_of(method, tau, **kwargs):
    """A function that makes it, to be called in the scope."""
    if method in PUSHING:
        return lambda: PUSHING[method](tau)
    kwargs = {
        "learning_rate": LEARNING_RATE,
        "beta": BETA,
        "communication_period": tau,
        "jit_compile": False,
        **kwargs,
    }
    if method == "easgd":
        return lambda: optimizers.EASGD(**kwargs)
    return lambda: optimizers.EAMSGD(
        momentum=MOMENTUM, nesterov=method == "nesterov", **kwargs
    )


def served(strategy):
    """Waits until the center has what this worker has sent."""
    # Only to fix the order of service; nobody else looks in there.
    exchanger = strategy.extended.sessions[0].exchanger
    if exchanger is not None and exchanger.in_flight:
        exchanger._pending.result(timeout=WAIT_S)


def point(model):
    """The worker's x, flat."""
    return np.concatenate([p[0] for p in model.optimizer.worker_points()])


def center(strategy):
    """What the center servers hold of the parameters, flat."""
    # Parameters are the first section; all have one dtype here.
    return strategy.extended.client.read()[0]


class Unlike(keras.layers.Layer):
    """Passes its input on after so many products of matrices."""

    def __init__(self, products, **kwargs):
        super().__init__(**kwargs)
        self.products = products

    def call(self, inputs):
        # Of the input: it is not computed once and for all.
        _, work = tf.while_loop(
            lambda k, work: k < self.products,
            lambda k, work: (k + 1, tf.matmul(work, work)),
            (0, tf.eye(96) * 0.5 + 0.0 * inputs[0, 0]),
        )
        return inputs + 0.0 * tf.stop_gradient(work[0, 1])


def classifier(strategy, products=0, tau=2):
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((4,)),
                Unlike(products),
                keras.layers.Dense(3, kernel_initializer="zeros"),
            ]
        )
        model.compile(
            optimizers.EASGD(0.1, communication_period=tau, jit_compile=False),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    return model


class Epochs(keras.callbacks.Callback):
    """What everybody and this worker had done at the end of every epoch."""

    def __init__(self):
        super().__init__()
        self.samples = []

    def on_epoch_end(self, epoch, logs=None):
        self.samples.append(self.model.distribute_strategy.samples_trained())


class Stay(keras.callbacks.Callback):
    """Says when training has come so far, and comes no further."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_train_batch_end(self, batch, logs=None):
        self.batches -= 1
        if self.batches == 0:
            answer("so far")
            threading.Event().wait()  # Until it is killed.


class _Setting:
    """As pytest's `monkeypatch`, for as long as the process is there."""

    def setattr(self, owner, name, value):
        setattr(owner, name, value)


class Worker:
    """What the test may ask for."""

    def begin(
        self, config, protocol, float64=True, events=None, devices=1, **kwargs
    ):
        """A new strategy, as a new process would make it.

        Of several devices only the first one in a process can be.
        """
        os.environ["TF_CONFIG"] = json.dumps(config)
        if devices > 1:
            tf.config.set_logical_device_configuration(
                tf.config.list_physical_devices("CPU")[0],
                [tf.config.LogicalDeviceConfiguration()] * devices,
            )
            kwargs["devices"] = [f"CPU:{i}" for i in range(devices)]
        kind = "float64" if float64 else "float32"
        keras.config.set_floatx(kind)
        keras.config.set_dtype_policy(kind)
        keras.utils.set_random_seed(1)
        self.strategy = strategies.ElasticMultiWorkerStrategy(
            protocol=protocol, timeouts=PATIENT, events=events, **kwargs
        )

    def begin_leaf(self, config, tree, method):
        """A leaf of a tree, which does what it is told."""
        from tests import tree_support

        tree_support.without_threads(_Setting())
        os.environ["TF_CONFIG"] = json.dumps(config)
        os.environ["TF_ELASTIC_TREE"] = tree
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        self.strategy = strategies.ElasticTreeStrategy(
            devices=["CPU:0"], timeouts=PATIENT
        )
        self.model = build(self.strategy, optimizer_of(method, 10))

    def leaf(self, event, row=None):
        """One event of a leaf; its point after it."""
        if event == "step":
            self.model.train_on_batch(np.array([row]), np.zeros(1))
        for edge in self.strategy.extended.client.edges:
            if event == "up":
                edge.carry()
            elif event == "down":
                edge.hear(0.0)
            assert not edge.is_away
        return point(self.model).tolist()

    def quadratic(self, method, tau, run_eagerly=True):
        self.model = build(
            self.strategy, optimizer_of(method, tau), run_eagerly=run_eagerly
        )
        self.clock = 0

    def case(self, name, **compile_kwargs):
        """A model that trains by an optimizer of the conformance tables."""
        from tests import conformance_cases

        make = conformance_cases.CASES[name].make
        self.model = build(self.strategy, make, **compile_kwargs)

    def step(self, then_center=True):
        """One step; the worker's and the center's point after it."""
        sample = NOISE[self.strategy.worker_index, self.clock]
        self.model.train_on_batch(sample[None], np.zeros(1))
        self.clock += 1
        served(self.strategy)
        return [
            point(self.model).tolist(),
            center(self.strategy).tolist() if then_center else None,
        ]

    def node_step(self, rows):
        """One step of several workers; their points after it."""
        self.model.train_on_batch(np.array(rows), np.zeros(len(rows)))
        served(self.strategy)
        points = self.model.optimizer.worker_points()
        return np.concatenate(points, axis=1).tolist()

    def set_rate(self, rate):
        """As a callback of this process alone would."""
        self.model.optimizer.learning_rate = rate

    def stop(self):
        """The same."""
        self.model.stop_training = True

    def rate_and_stop(self):
        rate = float(self.model.optimizer.learning_rate.numpy())
        return [rate, self.model.stop_training]

    def fit(self, steps):
        """Stock `fit`, as quickly as it goes; the worker's point after it."""
        worker = self.strategy.worker_index
        samples = NOISE[worker, np.arange(steps) % STEPS]
        self.model.fit(
            samples, np.zeros(steps), batch_size=1, shuffle=False, verbose=0
        )
        return point(self.model).tolist()

    def fit_epochs(self, rows, epochs, stop_at=0, **kwargs):
        """Stock `fit`; steps, the point after it, and whether it was told.

        Args:
            rows: of an epoch, batches of one.
            epochs: at most.
            stop_at: the step at which a callback of this process stops.
            **kwargs: of `fit`.
        """
        before = int(self.model.optimizer.iterations.numpy())

        def stop(batch, logs):
            clock = int(self.model.optimizer.iterations.numpy())
            if clock - before == stop_at:
                self.model.stop_training = True

        self.model.fit(
            np.array(rows),
            np.zeros(len(rows)),
            batch_size=1,
            shuffle=False,
            verbose=0,
            epochs=epochs,
            callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=stop)],
            **kwargs,
        )
        return {
            "steps": int(self.model.optimizer.iterations.numpy()) - before,
            "point": point(self.model).tolist(),
            "stopped": type(self.model.stop_training).__name__,
        }

    def shown(self):
        """What is saved, and where the workers' loss is evaluated."""
        loss = self.model.evaluate(np.zeros((1, N)), np.zeros(1), verbose=0)
        weights = np.concatenate(self.model.get_weights())
        return [weights.tolist(), loss]

    def fit_shared(self, products, samples_per_epoch, epochs, stay_after=0):
        """Stock `fit` under `SharedEpochs`."""
        model = classifier(self.strategy, products)
        x = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
        y = x.argmax(axis=1) % 3
        options = tf.data.Options()
        options.autotune.enabled = False
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).repeat()
        epochs_seen = Epochs()
        history = model.fit(
            data.with_options(options),
            epochs=epochs,
            verbose=0,
            callbacks=[
                SharedEpochs(samples_per_epoch),
                epochs_seen,
                Stay(stay_after),
            ],
        )
        served(self.strategy)
        client = self.strategy.extended.client
        return {
            "epochs": len(history.epoch),
            "samples": epochs_seen.samples,
            "version": client.sessions[0].news.version,
        }

    def end(self):
        """As at the end of a process."""
        self.strategy.extended.stop(finished=True)


def answer(result, error=None):
    print("@" + json.dumps([result, error]), flush=True)


def main():
    keras.utils.disable_interactive_logging()
    worker = Worker()
    answer("ready")
    for line in sys.stdin:
        what, arguments = json.loads(line)
        try:
            answer(getattr(worker, what)(**arguments))
        except Exception as error:
            traceback.print_exc()
            answer(None, f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
