"""Runs a setting in a virtual cluster, on from where it was stopped."""

import math
import os
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tf_elastic import callbacks
from tf_elastic import core
from tf_elastic import data
from tf_elastic import files
from tf_elastic import models
from tf_elastic import optimizers
from tf_elastic import strategies
from tf_elastic.figures.trained import records
from tf_elastic.figures.trained.records import Record
from tf_elastic.figures.trained.scale import Scale
from tf_elastic.figures.trained.settings import ALL
from tf_elastic.figures.trained.settings import IMAGENET
from tf_elastic.figures.trained.settings import LOWRANK
from tf_elastic.figures.trained.settings import MOMENTUM
from tf_elastic.figures.trained.settings import SINGLE
from tf_elastic.figures.trained.settings import Setting
from tf_elastic.timeline.virtual import LogNormal
from tf_elastic.timeline.virtual import Timing
from tf_elastic.timeline.virtual import presets

_LOSS = "sparse_categorical_crossentropy"
# lambda, section 4.1.
_PENALTY = {IMAGENET: 1e-5}
# The momentum paper's: passes over its 40 000 images after which the rate is a
# fifth, and the seconds of a step, of which it tells nothing.
_PASSES, _CUT, _PASS = (60, 120, 160), 0.2, 40_000
_MOMENTUM_STEP = 0.1
# Section 6.1.2 tells seconds of a step, of a network of machines nothing.
_LOWRANK_STEPS = {LOWRANK: 0.13, SINGLE: 0.01}
_SPREAD, _LATENCY = 0.1, 1e-4
_EVALUATION_BATCH = 200
_TEST_IMAGES = {"cifar10": 10_000, "digits": 360}


def timing(setting: Setting) -> Timing:
    """The times of Table 4.4; for the momentum paper, of one host.

    Of chapter 6 steps take as long as there, give or take a tenth.
    """
    if setting.experiment in _LOWRANK_STEPS:
        mean = _LOWRANK_STEPS[setting.experiment]
        return Timing(step=LogNormal(mean, _SPREAD), latency=_LATENCY)
    if setting.experiment == MOMENTUM:
        return presets.preset("one-host-8-gpus", step=_MOMENTUM_STEP)
    found = presets.preset(f"thesis-{setting.experiment}")
    is_alone = ALL[setting.method].is_sequential
    return found.without_links if is_alone else found


def is_lowrank(setting: Setting) -> bool:
    """Whether it is of chapter 6."""
    return setting.experiment in _LOWRANK_STEPS


def make_optimizer(
    setting: Setting, batch_size: int
) -> keras.optimizers.Optimizer:
    """The optimizer of a setting; to be called in the strategy's scope."""
    method = ALL[setting.method]
    arguments: dict[str, Any] = dict(method.arguments)
    if method.has_period:
        arguments["communication_period"] = setting.period
    if method.averages and setting.experiment == IMAGENET:
        arguments["average_from"] = core.FIRST_CUT
    rate: Any = setting.learning_rate
    if setting.decay:
        rate = optimizers.schedules.InverseSqrtDecay(rate, setting.decay)
    if setting.experiment == MOMENTUM:
        steps = [
            passes * _PASS // (batch_size * setting.workers)
            for passes in _PASSES
        ]
        rates = [rate * _CUT**cuts for cuts in range(len(steps) + 1)]
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(steps, rates)
    return getattr(optimizers, method.optimizer)(rate, **arguments)


def make_model(
    setting: Setting, scale: Scale, device: str = "CPU:0"
) -> keras.Model:
    """The network of a setting, compiled, its optimizer built."""
    scheme = ALL[setting.method].scheme
    how: dict[str, Any] = {"protocol": "blocking"}
    if scheme:
        degree = math.isqrt(setting.workers)
        how = {
            "topology": f"{degree}:2",
            "scheme": scheme,
            "periods": (setting.period, 10 * setting.period),
        }
    strategy = strategies.VirtualClusterStrategy(
        setting.workers,
        timing=timing(setting),
        seed=setting.seed,
        device=device,
        **how,
    )
    # "With a same random initialization", of the runs of chapter 6.
    seed = 0 if is_lowrank(setting) else setting.seed
    keras.utils.set_random_seed(setting.seed)
    network: Callable[..., keras.Model] = models.cifar_convnet
    if is_lowrank(setting):
        network = models.cifar_lowrank_convnet
    arguments: dict[str, Any] = {"l2": _PENALTY.get(setting.experiment, 1e-4)}
    if scale.data == "digits":
        network, arguments = models.digits_convnet, {}
    with strategy.scope():
        model = network(seed=seed, **arguments)
        model.compile(
            make_optimizer(setting, scale.batch_size),
            loss=_LOSS,
            metrics=[
                "accuracy",
                # Without the penalty on the weights.
                keras.metrics.SparseCategoricalCrossentropy(name="nll"),
            ],
        )
        model.optimizer.build(model.trainable_variables)
    return model


class _Looks(keras.callbacks.Callback):
    """Looks at the center where an epoch ends, writes it down, and saves."""

    def __init__(
        self,
        path: str,
        setting: Setting,
        scale: Scale,
        sets: Sequence[Any],
        stop_at: float,
        say: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._path, self._setting, self._scale = path, setting, scale
        self._train, self._test = sets
        self._stop_at, self._say = stop_at, say
        self._known = {
            record.step for record in records.read(path).get(setting, [])
        }

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        strategy = self.model.distribute_strategy
        step = strategy.local_steps // self._setting.workers
        is_last = step >= self._scale.steps
        diverged = not np.isfinite((logs or {})["loss"])
        if step not in self._known:
            record = self._look(step, is_last, diverged)
            records.append(self._path, record)
            self._say(
                f"{self._setting.name}: step {step}, "
                f"{record.virtual_seconds:.1f} virtual s, "
                f"train loss {record.train_loss:.3f}, "
                f"test error {record.test_error:.1%}"
            )
        # A row that was written before its weights is not written again.
        save(self.model, self._path, self._setting)
        if diverged or time.monotonic() >= self._stop_at:
            self.model.stop_training = True

    def _look(self, step: int, is_last: bool, diverged: bool) -> Record:
        strategy, scale = self.model.distribute_strategy, self._scale
        images = scale.test_images
        test = self._test.take(-(-images // _EVALUATION_BATCH))
        if is_last:
            test, images = self._test, _TEST_IMAGES[scale.data]
        train = self._train.take(-(-scale.train_images // _EVALUATION_BATCH))
        of_train, of_test = (
            self.model.evaluate(part, verbose=0, return_dict=True)
            for part in (train, test)
        )
        return Record(
            **self._setting._asdict(),
            data=scale.data,
            batch_size=scale.batch_size,
            step=step,
            local_steps=strategy.local_steps,
            virtual_seconds=round(strategy.virtual_seconds, 3),
            train_loss=float("nan") if diverged else round(of_train["nll"], 5),
            test_loss=round(of_test["nll"], 5),
            test_error=round(1 - of_test["accuracy"], 5),
            test_images=images,
            goodput=round(strategy.goodput, 5),
        )


def weights_path(path: str, setting: Setting) -> str:
    """Where a run's newest weights are: in a folder beside the records."""
    return f"{path}.weights/{setting.name}.weights.h5"


def save(model: keras.Model, path: str, setting: Setting) -> None:
    """Writes the weights, those of before staying until it is done."""
    with files.whole(weights_path(path, setting)) as partial:
        model.save_weights(partial)


def is_done(path: str, setting: Setting, scale: Scale) -> bool:
    """Whether nothing is left to do."""
    seen = records.read(path).get(setting, [])
    return any(record.diverged or record.step >= scale.steps for record in seen)


def check_same(path: str, setting: Setting, scale: Scale) -> None:
    """Refuses to mix runs of other data in one file.

    Raises:
        ValueError: the file has such.
    """
    wanted = scale.data, scale.batch_size
    for other, seen in records.read(path).items():
        found = seen[0].data, seen[0].batch_size
        if other.experiment == setting.experiment and found != wanted:
            raise ValueError(
                "The runs of an experiment in one file are of the same data "
                "and batch size. "
                f"Received: {path} with {found}, and a scale with {wanted}. "
                "Choose another file."
            )


def train(
    path: str,
    setting: Setting,
    scale: Scale,
    *,
    data_dir: str | None = None,
    stop_at: float = float("inf"),
    say: Callable[[str], None] = lambda line: None,
    device: str = "CPU:0",
) -> None:
    """Trains until the scale's end, from where it was stopped before.

    Args:
        path: the file of records, which gets a row for each look; weights are
            kept beside it, in `path.weights/`.
        setting: what is run.
        scale: for how long, and on what.
        data_dir: folder of prepared TensorFlow Datasets.
        stop_at: of `time.monotonic()`, after which the next look is the last.
        say: gets a line for each look.
        device: where it runs.

    Raises:
        ValueError: the file has runs of other data.
    """
    check_same(path, setting, scale)
    if is_done(path, setting, scale):
        return
    model = make_model(setting, scale, device)
    strategy = model.distribute_strategy
    weights = weights_path(path, setting)
    if os.path.exists(weights):
        model.load_weights(weights)
    done = strategy.local_steps
    per_epoch = scale.every * setting.workers
    prepared: dict[str, Any] = {}
    if is_lowrank(setting) and scale.data != "digits":
        prepared = {"variant": "lowrank"}
    train_set = data.load(
        scale.data,
        "train",
        batch_size=scale.batch_size,
        num_workers=setting.workers,
        data_dir=data_dir,
        seed=setting.seed,
        steps_per_epoch=per_epoch,
        skip_steps=done,
        in_turn=True,
        **prepared,
    )
    sets = data.load(
        scale.data,
        ["train_eval", "test"],
        batch_size=_EVALUATION_BATCH,
        data_dir=data_dir,
        **prepared,
    )
    along: list[keras.callbacks.Callback] = [
        _Looks(path, setting, scale, sets, stop_at, say)
    ]
    if setting.experiment == IMAGENET:
        state = weights.replace(".weights.h5", ".cuts.json")
        along.append(callbacks.CutOnStagnation(state_file=state))
    model.fit(
        train_set,
        initial_epoch=done // per_epoch,
        epochs=-(-scale.steps // scale.every),
        shuffle=False,
        verbose=0,
        callbacks=along,
    )
