"""The callback that fits the center's momentum to the staleness."""

import math
from collections.abc import Callable
from typing import Any

import keras
from absl import logging

from tf_elastic.callbacks import momentum_meters
from tf_elastic.core import momentum_control
from tf_elastic.monitor import probe
from tf_elastic.monitor.run_clock import Logs
from tf_elastic.optimizers.push_optimizer import GradientPush

STALENESS = "staleness"
CLOSED_LOOP = "closed_loop"
MODES = (STALENESS, CLOSED_LOOP)


class MomentumController(keras.callbacks.Callback):
    r"""Fits the momentum of a center to how late its gradients are.

    For `AsyncMSGD` and `MDownpour`. Off unless it is given to `fit`. It sets
    `optimizer.momentum`, every `update_freq` steps at most.

    `mode="staleness"` measures the staleness :math:`\tau` and takes the
    largest momentum that it leaves, at the learning rate of the moment:

    .. math:: \mu = 1 - \sqrt{\tau \sqrt\eta / C}

    In one process the workers take turns, and :math:`\tau = p - 1`. In a
    cluster it is the mean over the pushes of all workers since the last look,
    as the first center server that is there has counted them. Every worker
    process sets the momentum of its own pushes. All see the same pushes, so
    they come to about the same; where they differ the center applies to each
    push the momentum that came with it. If the center is away, or nothing was
    pushed, the momentum stays.

    `mode="closed_loop"` measures the total momentum :math:`\mu_T`, what
    momentum and asynchrony make together (`core.momentum_control`), and leads
    it to a target:

    .. math:: \mu \leftarrow \mu + \gamma (\mu^* - \mu_T)

    This needs centers that follow each other and the gradients taken there.
    In one process a callback sees them if `steps_per_execution=1`. In a
    cluster the center servers see them, and every push gives a reading; a
    worker acts by the median of those since its last look. What it corrects
    for is what asynchrony adds to the momentum of each, so that readings of
    before its last change count as well, and all come to the same momentum.

    It adds to `logs`, of batches and epochs: `momentum`; in the first mode
    `staleness`, in the second `total_momentum`, once they are measured. So
    `History`, the progress bar and, after it in the list of callbacks,
    `ElasticMonitor` and `TensorBoard` have them.

    Args:
        mode: `"staleness"` (default) or `"closed_loop"`.
        constant: :math:`C > 0`, of the first mode. Default 12.5: with it the
            best momentum of the paper's Figure 2, 0.5 for 8 workers at
            :math:`\eta = 0.2`, comes out. It is the inverse of a curvature.
        target: :math:`\mu^*` in [0, 1), of the second mode. Default 0.9: what
            one worker would use.
        gain: :math:`\gamma` in (0, 1], of the second mode. Default 0.1; the
            paper has 0.01 at every update.
        max_momentum: never exceeded, in [0, 1). Default 0.9; where nothing is
            late the first mode takes this.
        update_freq: steps between two changes, an integer >= 1. Default 20.

    Raises:
        ValueError: an argument is out of its range; or, when training begins,
            the optimizer has no momentum at the center, or nothing here can
            be measured.

    If training still diverges, halve `constant`, or lower `target`; if it is
    slow and smooth, double it. If the log says that no momentum is left,
    lower the learning rate.

    Reference:
        Liu et al. (2018), Remark 3.11; Zhang and Mitliagkas (2017),
        "YellowFin and the art of momentum tuning", section 4.
    """

    def __init__(
        self,
        mode: str = STALENESS,
        constant: float = 12.5,
        target: float = 0.9,
        gain: float = 0.1,
        max_momentum: float = 0.9,
        update_freq: int = 20,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(
                f"`mode` must be one of {MODES}. Received: mode={mode!r}."
            )
        _check(
            "constant",
            constant,
            "positive and finite",
            lambda c: 0 < c < math.inf,
        )
        for name, value in (("target", target), ("max_momentum", max_momentum)):
            _check(name, value, "in [0, 1)", lambda m: 0 <= m < 1)
        _check("gain", gain, "in (0, 1]", lambda g: 0 < g <= 1)
        if not (
            isinstance(update_freq, int)
            and not isinstance(update_freq, bool)
            and update_freq >= 1
        ):
            raise ValueError(
                "`update_freq` must be an integer >= 1. "
                f"Received: update_freq={update_freq!r}."
            )
        self.mode = mode
        self.constant = constant
        self.target = target
        self.gain = gain
        self.max_momentum = max_momentum
        self.update_freq = update_freq
        self._optimizer: GradientPush  # as soon as training begins
        self._meter: Any = None
        self._clock = 0
        self._measured: dict[str, float] = {}
        self._has_warned = False

    # What Keras calls.

    def on_train_begin(self, logs: Logs = None) -> None:
        """Checks what it is to control; acts at once where it can."""
        self._optimizer = self._controlled()
        self._measured = {}
        self._has_warned = False
        self._clock = self._steps()
        strategy = self.model.distribute_strategy
        extended = strategy.extended
        is_closed = self.mode == CLOSED_LOOP
        if getattr(extended, "holds_center", False):
            if is_closed:
                self._check_sees_every_step()
                self._meter = momentum_meters.TotalMomentum(self._optimizer)
                return
            self._meter = momentum_meters.RoundRobinStaleness(
                self._optimizer, strategy.num_workers
            )
            self._act()
        elif hasattr(strategy, "center_status"):
            meter = (
                momentum_meters.ClusterTotalMomentum
                if is_closed
                else momentum_meters.ClusterStaleness
            )
            self._meter = meter(strategy.center_status)
        else:
            raise ValueError(
                "`MomentumController` needs a strategy that measures the "
                "staleness or the total momentum. Received: "
                f"strategy={type(strategy).__name__}. Use "
                "`ElasticMirroredStrategy` or `ElasticMultiWorkerStrategy`."
            )

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Acts if it is time, and adds to `logs`.

        Args:
            batch: index of the last step taken, within the epoch.
            logs: gets the new names.
        """
        clock = self._steps()
        if clock != self._clock:
            before, self._clock = self._clock, clock
            is_time = clock // self.update_freq != before // self.update_freq
            meter = self._meter
            if isinstance(meter, momentum_meters.TotalMomentum):
                if -clock % self.update_freq < meter.NEEDS:
                    meter.record()
            if is_time:
                self._act()
        self._add_to(logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Adds to `logs`.

        Args:
            epoch: index of the epoch.
            logs: gets the new names.
        """
        self._add_to(logs)

    # Pieces.

    def _steps(self) -> int:
        return probe.center_step(self.model) or 0

    def _momentum(self) -> float:
        return float(self._optimizer.momentum.numpy())

    def _add_to(self, logs: Logs) -> None:
        if logs is not None:
            logs["momentum"] = self._momentum()
            logs.update(self._measured)

    def _act(self) -> None:
        """Measures, and sets the momentum."""
        if self.mode == CLOSED_LOOP:
            momentum = self._fed_back()
        else:
            momentum = self._admissible()
        if momentum is None:
            return
        self._optimizer.momentum = momentum
        told = ", ".join(
            f"{name.replace('_', ' ')} {value:.4g}"
            for name, value in self._measured.items()
        )
        logging.info("momentum %.4g: %s.", momentum, told)
        if momentum == 0 and not self._has_warned:
            self._has_warned = True
            logging.warning(
                "%s leaves no momentum (it is 0 now); with a lower learning "
                "rate or fewer workers some would be left.",
                told,
            )

    def _admissible(self) -> float | None:
        reading = self._meter.read()
        if reading is None:
            return None
        self._measured = {"staleness": reading.staleness}
        return momentum_control.admissible_momentum(
            reading.staleness,
            momentum_meters.effective_rate(
                self._optimizer,
                probe.learning_rate(self.model),
                reading.update,
                reading.staleness,
            ),
            self.constant,
            self.max_momentum,
        )

    def _fed_back(self) -> float | None:
        reading = self._meter.read()
        if reading is None:
            return None
        self._measured = {"total_momentum": reading.total}
        momentum = self._momentum()
        return momentum_control.feedback_momentum(
            momentum,
            # What it would be if all pushes came with this momentum.
            momentum + reading.asynchrony,
            self.target,
            self.gain,
            self.max_momentum,
        )

    def _controlled(self) -> GradientPush:
        optimizer = probe.training_optimizer(self.model)
        if not isinstance(optimizer, GradientPush):
            raise ValueError(
                "`MomentumController` sets the momentum of the center, and "
                f"{type(optimizer).__name__} has none. Received: optimizer="
                f"{type(optimizer).__name__}. Use `AsyncMSGD` or `MDownpour`, "
                "or leave the callback out."
            )
        return optimizer

    def _check_sees_every_step(self) -> None:
        steps = self.model.steps_per_execution
        if steps != 1:
            raise ValueError(
                "The total momentum is measured from three steps in a row, of "
                "which a callback sees one in `steps_per_execution`. "
                f"Received: mode={self.mode!r}, steps_per_execution={steps}. "
                f"Compile with `steps_per_execution=1`, or use "
                f"mode={STALENESS!r}."
            )


def _check(
    name: str, value: float, rule: str, holds: Callable[[float], bool]
) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and holds(value)):
        raise ValueError(
            f"`{name}` must be {rule}. Received: {name}={value!r}."
        )
