"""Training that ends before workers and center have met."""

import warnings


class ShortTrainingWarning(UserWarning):
    """Training has ended before workers and center have met."""


class TrainingLength:
    """Counts the local steps from one end of training to the next."""

    def __init__(self) -> None:
        self._ended_at = 0

    def ends(self, clock: int, period: int | None) -> None:
        """Notes an end of training.

        Args:
            clock: local steps of the worker in all.
            period: local steps between two exchanges; None for none.

        Warns:
            ShortTrainingWarning: there were fewer steps than a period has.
        """
        steps = clock - self._ended_at
        self._ended_at = clock
        if period is None or not 0 < steps < period:
            return
        warnings.warn(
            f"Training has ended after {steps} steps, and workers and "
            f"center exchange every {period}: the center may know little "
            "of them. Received: communication_period="
            f"{period}. Train for longer, or lower it.",
            ShortTrainingWarning,
            stacklevel=4,
        )
