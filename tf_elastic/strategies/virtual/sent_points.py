"""Where the messages of workers were made, for rules that remember it."""

import tensorflow as tf

from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.strategies.virtual.mail import Mail
from tf_elastic.strategies.virtual.places import Row
from tf_elastic.strategies.virtual.places import Tensors
from tf_elastic.strategies.virtual.places import WorkerValues


class SentPoints:
    """The point of each worker's message; nothing, if no rule asks for it.

    A worker that waits for its answer is still where it was. Of one that has
    gone on since, the point is kept in a row.

    Args:
        spec: what is exchanged, by which rule.
        num_workers: p.
        device: where it is kept.
        answers_later: whether a worker goes on before it is answered.
    """

    def __init__(
        self,
        spec: Spec,
        num_workers: int,
        device: str,
        answers_later: bool,
    ) -> None:
        self._parameters = list(spec.parameters)
        self._remembers = spec.rule.remembers
        is_kept = self._remembers and answers_later
        kept = [p.variable for p in self._parameters] if is_kept else []
        shapes = [variable.shape for variable in kept]
        dtypes = [variable.dtype for variable in kept]
        self.mail = Mail(shapes, dtypes, num_workers, device)

    def of(self, values: WorkerValues) -> Tensors | None:
        """Where a message is made now.

        Args:
            values: of its worker.
        """
        if not self._remembers:
            return None
        return [
            parameter.point_of(stored)
            for parameter, stored in zip(
                self._parameters, values.stored, strict=True
            )
        ]

    def keep(self, worker: tf.Tensor, values: WorkerValues) -> None:
        """A message leaves.

        Args:
            worker: its number, int64 scalar.
            values: of the worker.
        """
        if self.mail.variables:
            self.mail.put_row(worker, self.of(values) or [])

    def kept(self, worker: tf.Tensor) -> Tensors | None:
        """Where a worker's message was made, which arrives now.

        Args:
            worker: its number, int64 scalar.
        """
        if self.mail.variables:
            return self.mail.row(worker)
        if not self._remembers:
            return None
        return self.of(WorkerValues.read(Row(worker), self._parameters, []))
