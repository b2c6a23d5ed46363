"""What the optimizers need from a strategy.

The optimizer says what is exchanged, the strategy where and when. A strategy
whose `extended` has these members can train with every optimizer here.
"""

import contextlib
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import Protocol

import tensorflow as tf

from tf_elastic import core
from tf_elastic.optimizers.elastic_parameter import ElasticParameter


class ElasticExtended(Protocol):
    """The `extended` of an elastic strategy."""

    is_elastic: bool  # True
    num_workers: int  # p
    local_workers: range  # those in this process, by index of their copies
    gradient_scale: float  # by which a worker's gradients are multiplied
    exchange_scheme: str  # one of `theory.EXCHANGES`
    exchange_moments: Sequence[str]  # "before", "after" the local step

    def worker_variables(self) -> contextlib.AbstractContextManager[None]:
        """Inside, variables are created for each worker, without a center."""

    def local_updates(self) -> contextlib.AbstractContextManager[None]:
        """Inside, a replica updates its own worker and waits for nobody."""

    def center_view(self) -> contextlib.AbstractContextManager[None]:
        """Inside, a replica reads the center."""

    def is_elastic_variable(self, variable: Any) -> bool:
        """Whether a native variable was created in the strategy's scope."""

    def untrained_variables(self) -> Sequence[Any]:
        """Model variables of the scope that no gradient moves."""

    def worker_gradients(self, grads: Sequence[Any]) -> list[Any]:
        """The gradients of this replica's worker, up to `gradient_scale`."""

    def make_exchange(
        self,
        parameters: Sequence[ElasticParameter],
        rates: Callable[[int, Any], core.ElasticRates],
        jit_compile: bool | str,
    ) -> Any:
        """Prepares the exchange of these parameters.

        `rates(p, clock)` gives alpha and beta for p workers at a worker's
        clock, a number or a tensor.
        """

    def exchange_if(
        self,
        due: tf.Tensor,
        exchange: Any,
        clock: tf.Tensor,
        then: Callable[[], Any],
    ) -> None:
        """Exchanges if `due`, then calls `then`; in cross-replica context."""

    def refresh_center(self, exchange: Any) -> None:
        """Brings the center's copies up to date; in cross-replica context."""

    def step_ended(self, exchange: Any) -> None:
        """All workers have taken their step; in cross-replica context."""
