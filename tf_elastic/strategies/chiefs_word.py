"""What the chief's callbacks decide, for all workers of a cluster."""

import math
import weakref

import keras

from tf_elastic.cluster.worker.client import CenterClient


class ChiefsWord:
    """Tells what the chief's model does, or does what the chief has told.

    Two things are passed on: that training was stopped (`EarlyStopping`,
    `TerminateOnNaN`), and a learning rate that is not the script's any more
    (`ReduceLROnPlateau`). A callback of a worker's own stays its own.

    Args:
        client: of this process.
    """

    def __init__(self, client: CenterClient) -> None:
        self._client = client
        self._model: weakref.ref[keras.Model] | None = None
        self._script_rate: float | None = None
        # The newest instructions that were followed.
        self._rate_heard = self._stop_heard = 0
        self._between_fits = False

    def is_for(self, model: keras.Model) -> None:
        """Notes the Keras model that trains here."""
        if self._model is None or self._model() is not model:
            self._model = weakref.ref(model)

    def begins(self, rate: float) -> None:
        """Notes the learning rate of the script, and obeys, from now on."""
        if self._script_rate is None:
            self._script_rate = float(rate)
        self._stop_if_told()

    def tell(self, rate: float) -> None:
        """The chief tells what is new; another worker hears.

        Args:
            rate: of this worker; NaN if it follows a schedule.
        """
        self._between_fits = False
        if self._script_rate is None:
            self._script_rate = float(rate)
        if not self._client.is_chief:
            self._stop_if_told()
            return
        word = self._client.instruction
        if word.number > self._rate_heard and self._told_rate() is not None:
            return  # Of the process before this one; to be taken first.
        rate = float(rate)
        told = self._told_rate()
        before = self._script_rate if told is None else told
        is_new = math.isfinite(rate) and rate != before
        if is_new or word.stop != self.is_stopped:
            self._instruct(rate if is_new else told)

    def fit_ends(self) -> None:
        """The chief tells whether its `fit` was stopped."""
        if self._between_fits:
            return
        self._between_fits = True
        if self._client.is_chief and self._client.joined and self.is_stopped:
            if not self._client.instruction.stop:
                self._instruct(self._told_rate())

    def pass_begins(self) -> None:
        """What was told when nothing was trained is of the past."""
        if self._between_fits:
            self._stop_heard = self._client.instruction.number

    def rate_to_take(self) -> float:
        """The learning rate that the chief has told; NaN if none is new."""
        word = self._client.instruction
        if word.number <= self._rate_heard or self._script_rate is None:
            return math.nan
        self._rate_heard = word.number
        told = self._told_rate()
        return math.nan if told is None else told

    def _told_rate(self) -> float | None:
        if self._script_rate is None:
            return None
        return self._client.instruction.rate_for(self._script_rate)

    def _instruct(self, rate: float | None) -> None:
        instead_of = self._script_rate
        if instead_of is not None and not math.isfinite(instead_of):
            instead_of = None
        self._client.instruct(
            self.is_stopped, rate, None if rate is None else instead_of
        )
        self._rate_heard = self._client.instruction.number

    def _stop_if_told(self) -> None:
        word = self._client.instruction
        model = self._model() if self._model is not None else None
        if word.number <= self._stop_heard or model is None:
            return
        self._stop_heard = word.number
        if word.stop:
            self.stop()

    def stop(self, why: object = True) -> None:
        """Stops the training of the model here, if it is known.

        Args:
            why: what `stop_training` becomes; only of True the chief tells.
        """
        model = self._model() if self._model is not None else None
        if model is not None and model.stop_training is not True:
            model.stop_training = why

    @property
    def is_stopped(self) -> bool:
        """Whether the training here is stopped."""
        model = self._model() if self._model is not None else None
        return getattr(model, "stop_training", False) is True
