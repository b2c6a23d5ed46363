"""Asynchronous local SGD with momentum on two levels of servers."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_elastic import core
from tf_elastic.core import rules
from tf_elastic.optimizers.async_diloco import AsyncDiLoCo
from tf_elastic.optimizers.push_optimizer import check_momentum
from tf_elastic.optimizers.registry import register


@keras.saving.register_keras_serializable("tf_elastic")
@register(
    option="halos",
    rule="as AsyncDiLoCo at each server; after K updates a region sends "
    "d = x - m, and of the answer c: x = m = (1 - alpha) x + alpha c",
    up="update",
    stable="not known: theory knows one server",
    use="regions behind slow links, in a virtual tree",
    reference="Kim et al. (2025), Algorithm 1",
)
class HALoS(AsyncDiLoCo):
    r"""HALoS: local steps below regional servers below a global one.

    For trees, of a virtual cluster: `VirtualClusterStrategy(topology=...,
    scheme="accumulated", periods=(H, K))`. The root is the global server,
    inner nodes are regional ones. (Without a tree there is the global server
    alone, and this is `AsyncDiLoCo`.)

    A worker takes H local steps, sends the way d that it has gone to its
    regional server, and goes on from where that then is:

    .. math::
        x &\leftarrow x + \eta_l d / N_l, \quad b \leftarrow b + d \\
        v &\leftarrow \mu_l v + b / N_l, \quad x \leftarrow x + \eta_l \mu_l v,
            \quad b \leftarrow 0 \quad \text{with every } N_l \text{-th way}

    After K such updates the server sends :math:`x - m` up, m being where it
    was when it last merged, and goes on serving its workers. The global server
    takes that for a way, by its own :math:`\eta_g, \mu_g, N_g`, and answers
    with where it then is, :math:`\tilde x`. When the answer is there

    .. math::
        x \leftarrow (1 - \alpha) x + \alpha \tilde x, \quad m \leftarrow x

    and the next K updates are counted from here.

    The equations are the paper's with Liu et al.'s delayed Nesterov momentum,
    as its authors' program has them (github.com/utnslab/halos). Where the text
    can be read in several ways, that program was followed: what a region does
    between its message and the answer is in no later message, it stays in the
    region by its share :math:`1 - \alpha`; :math:`\alpha` is the weight of the
    global model; the velocity acts only with every N-th way (c = 0 in
    `AsyncDiLoCo`). Trees of any depth: a server in the midst is regional too.

    Args:
        inner_optimizer: a `keras.optimizers.Optimizer`, or its name. Default
            "adamw".
        outer_learning_rate: :math:`\eta_g > 0`, of the global server. Default
            0.3, the authors' 0.15 for each of two updates.
        outer_momentum: :math:`\mu_g` in [0, 1). Default 0.5, the authors'.
        momentum_delay: :math:`N_g`, updates, >= 1; None for as many as it has
            children. Default 2, the authors'.
        regional_learning_rate: :math:`\eta_l > 0`. Default 3.2, the authors'
            0.2 for each of 16 updates.
        regional_momentum: :math:`\mu_l` in [0, 1). Default 0.9, the authors'.
        regional_delay: :math:`N_l`, >= 1; None for as many as a server has
            children. Default 16, the authors'.
        merge_weight: :math:`\alpha` in [0, 1]. Default 0.25, the authors'.
        communication_period: H, local steps, >= 1; None for no exchange. In a
            tree the first of its `periods` counts. Default 8, the authors'.
        jit_compile: see `ElasticOptimizer`.
        name: name of the optimizer.

    Raises:
        TypeError: `inner_optimizer` is no Keras optimizer, or one that cannot
            be inside.
        ValueError: an argument is out of its range; the strategy has no such
            exchange.

    If regions drift apart, raise `merge_weight` or lower K.

    Reference:
        Kim et al. (2025), "HALoS: Hierarchical asynchronous local SGD over
        slow networks for geo-distributed large language model training",
        Algorithm 1; Liu et al. (2024), Algorithm 3.
    """

    def __init__(
        self,
        inner_optimizer: keras.optimizers.Optimizer | str = "adamw",
        *,
        outer_learning_rate: float = 0.3,
        outer_momentum: float = 0.5,
        momentum_delay: int | None = 2,
        regional_learning_rate: float = 3.2,
        regional_momentum: float = 0.9,
        regional_delay: int | None = 16,
        merge_weight: float = 0.25,
        communication_period: int | None = 8,
        jit_compile: bool | str = "auto",
        name: str = "halos",
    ) -> None:
        core.check_rate("regional_learning_rate", regional_learning_rate)
        check_momentum("regional_momentum", regional_momentum)
        if regional_delay is not None and not (
            type(regional_delay) is int and regional_delay >= 1
        ):
            raise ValueError(
                "`regional_delay` must be an integer >= 1, or None. "
                f"Received: regional_delay={regional_delay!r}."
            )
        if not (
            isinstance(merge_weight, (int, float)) and 0 <= merge_weight <= 1
        ):
            raise ValueError(
                "`merge_weight` must be a number in [0, 1]. Received: "
                f"merge_weight={merge_weight!r}."
            )
        super().__init__(
            inner_optimizer,
            outer_learning_rate=outer_learning_rate,
            outer_momentum=outer_momentum,
            momentum_delay=momentum_delay,
            communication_period=communication_period,
            jit_compile=jit_compile,
            name=name,
        )
        self.regional_learning_rate = regional_learning_rate
        self.regional_momentum = regional_momentum
        self.regional_delay = regional_delay
        self.merge_weight = merge_weight

    @property
    def center_rule(self) -> rules.Rule:
        """Momentum at the root and at each region."""
        return rules.GlobalServer()

    def push_numbers(self, clock: tf.Tensor) -> list[tf.Tensor]:
        """None: all rates are known before, as a tree needs it."""
        del clock
        return []

    def push_rates(
        self, num_workers: int, numbers: Sequence[float | tf.Tensor]
    ) -> rules.Rates:
        """The rates of a push; see `PushOptimizer.push_rates`.

        Args:
            num_workers: in a tree how many children the server has.
            numbers: none.
        """
        del numbers
        known = [self.outer_learning_rate, self.outer_momentum]
        return {
            **super().push_rates(num_workers, known),
            "regional_learning_rate": self.regional_learning_rate,
            "regional_momentum": self.regional_momentum,
            "regional_delay": self.regional_delay or num_workers,
            "merge_weight": self.merge_weight,
        }

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal optimizer."""
        config = super().get_config()
        del config["momentum_activation"]
        return {
            **config,
            "regional_learning_rate": self.regional_learning_rate,
            "regional_momentum": self.regional_momentum,
            "regional_delay": self.regional_delay,
            "merge_weight": self.merge_weight,
        }
