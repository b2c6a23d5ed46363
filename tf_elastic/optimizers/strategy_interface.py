"""What the optimizers need from a strategy.

The optimizer says what is exchanged, the strategy where and when. A strategy
whose `extended` has these members can train with every optimizer here.
"""

import contextlib
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import Protocol
from typing import TypeAlias

import keras
import tensorflow as tf

from tf_elastic.optimizers.exchange_spec import AdmmVariable
from tf_elastic.optimizers.exchange_spec import ExchangedVariable
from tf_elastic.optimizers.exchange_spec import Spec

# Sparse ones are `IndexedSlices`; None: it is of no part of the loss.
Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices | None


class Exchange(Protocol):
    """What a strategy has prepared for an exchange."""

    @property
    def parameters(self) -> Sequence[ExchangedVariable | AdmmVariable]:
        """Those of the spec."""

    @property
    def closing(self) -> Any:
        """See `strategies.closing`; None where nothing is closed."""

    @property
    def under_way(self) -> Any:
        """What workers that take turns have sent, for files; None if none."""

    @property
    def moments(self) -> Sequence[str]:
        """When it happens: "before" a local step, "after" one, or both."""

    def results(self) -> Sequence[tf.Tensor]:
        """Small tensors that are there only when all updates are done."""


class ElasticExtended(Protocol):
    """The `extended` of an elastic strategy."""

    is_elastic: bool  # True
    num_workers: int  # p
    local_workers: range  # those in this process, by index of their copies
    gradient_scale: float  # by which a worker's gradients are multiplied
    holds_center: bool  # whether the center is in this process

    def worker_variables(self) -> contextlib.AbstractContextManager[None]:
        """Inside, variables are created for each worker, without a center."""

    def common_variables(self) -> contextlib.AbstractContextManager[None]:
        """Inside, workers that share a device share what is created."""

    def local_updates(self) -> contextlib.AbstractContextManager[None]:
        """Inside, a replica updates its own worker and waits for nobody."""

    def center_view(self) -> contextlib.AbstractContextManager[None]:
        """Inside, a replica reads the center."""

    def is_elastic_variable(self, variable: tf.Variable) -> bool:
        """Whether a native variable was created in the strategy's scope."""

    def untrained_variables(self) -> Sequence[tf.Variable]:
        """Model variables of the scope that no gradient moves."""

    def worker_gradients(self, grads: Sequence[Gradient]) -> list[Gradient]:
        """The gradients of this replica's worker, up to `gradient_scale`."""

    def order_of(self, method: str) -> str:
        """In which order workers and center move, one of `theory.ORDERS`.

        Raises:
            ValueError: the strategy's is none that the method has.
        """

    def overlaps(self, method: str) -> bool:
        """Whether what comes back of an exchange is applied a period later.

        Raises:
            ValueError: the strategy's protocol is none that the method has.
        """

    def follow_clock(self, stepper: keras.optimizers.Optimizer) -> None:
        """Notes the optimizer whose clock counts the local steps.

        A worker that is started again goes on with it.
        """

    def make_exchange(self, spec: Spec, jit_compile: bool | str) -> Exchange:
        """Prepares an exchange; see `exchange_spec`.

        Raises:
            ValueError: the strategy has no such exchange.
        """

    def exchange_if(
        self,
        moment: str,
        due: tf.Tensor,
        exchange: Exchange,
        clock: tf.Tensor,
        count: tf.Tensor,
        then: Callable[[], None],
    ) -> None:
        """Exchanges if `due`, then calls `then`; in cross-replica context.

        `moment` is "before" or "after" the local step,
        `clock` is the worker's count of local steps, `count` that of the
        exchanges before this one.
        """

    def narrow(
        self,
        exchange: Exchange,
        spec: Spec,
        indices: Sequence[int],
        jit_compile: bool | str,
    ) -> Exchange:
        """The exchange of a step that trains some of the variables only."""

    def prepare_closing(self, exchange: Exchange) -> None:
        """Tells that training may end between two exchanges."""

    def close(
        self, exchange: Exchange, clock: tf.Tensor, count: tf.Tensor
    ) -> None:
        """Training has ended for now; in eager code."""

    def training_begins(self) -> None:
        """This replica sees its worker from now on, in this step."""

    def worker_of(self, replica: int) -> int | tf.Tensor:
        """The number of a replica's worker among all workers."""

    def takes_step(self) -> tf.Tensor | None:
        """Whether this replica's worker takes a step; None: it does."""

    def averages_now(self) -> tf.Tensor | None:
        """Whether an average over steps takes one now; None: it does."""

    def optimizer_applies(
        self,
        optimizer: keras.optimizers.Optimizer,
        exchange: Exchange,
        variables: Sequence[keras.Variable],
    ) -> None:
        """An optimizer has trained variables in this step; cross-replica."""

    def refresh_center(self, exchange: Exchange) -> None:
        """Brings the center's copies up to date; in cross-replica context."""

    def step_ended(self, exchange: Exchange) -> None:
        """All workers have taken their step; in cross-replica context."""
