"""Any Keras optimizer, made elastic."""

import keras

from tf_elastic.optimizers.elastic_optimizer import ElasticOptimizer
from tf_elastic.optimizers.inner_step import InnerStep
from tf_elastic.optimizers.registry import register


@keras.saving.register_keras_serializable("tf_elastic")
@register(
    stable="as EASGD, with the inner optimizer's own limits",
    use="Adam, AdamW or any other Keras optimizer as the local step",
    reference="Zhang (2016), Algorithm 1, another local step",
    defaults={
        "learning_rate": {"digits": 0.003, "cifar": 0.0003},
        "inner_optimizer": "adam",
    },
)
class Elastic(InnerStep, ElasticOptimizer):
    r"""Elastic averaging around any Keras optimizer.

    Every worker takes the inner optimizer's steps on its own gradients, with
    its own slots; every :math:`\tau` steps it and the center attract each
    other:

    .. math::
        x^i &\leftarrow x^i - \alpha (x^i - \tilde x) \\
        \tilde x &\leftarrow (1 - \beta) \tilde x
            + \beta \frac1p \sum_i x^i

    The inner optimizer's learning rate, clipping, weight decay, gradient
    accumulation and average act within each worker. What is exchanged is
    what the inner optimizer stores in the model's variables; for
    `SGD(nesterov=True)` that is the look-ahead point, so use `EAMSGD` where
    the thesis' form is wanted.

    Args:
        inner_optimizer: a `keras.optimizers.Optimizer`, or its name, such as
            "adam". It becomes part of this optimizer: do not use it
            elsewhere.
        moving_rate: :math:`\alpha`. Default: beta / p.
        beta: :math:`\beta`. Default 0.9, the thesis'.
        communication_period: :math:`\tau`, local steps, >= 1; None for no
            exchange. Default 10.
        symmetric: see `ElasticOptimizer`.
        jit_compile: see `ElasticOptimizer`.
        center_average: see `ElasticOptimizer`.
        average_from: see `ElasticOptimizer`.
        name: name of the optimizer.

    Raises:
        TypeError: `inner_optimizer` is no Keras optimizer, or one that cannot
            be inside.
        ValueError: an argument is out of its range; the message names it.

    Example:

    ```python
    te.optimizers.Elastic(
        keras.optimizers.AdamW(1e-3), communication_period=10
    )
    ```

    Reference:
        Zhang (2016), Algorithm 1, with another local step.
    """

    def __init__(
        self,
        inner_optimizer: keras.optimizers.Optimizer | str,
        *,
        moving_rate: float | None = None,
        beta: float | None = None,
        communication_period: int | None = 10,
        symmetric: bool = True,
        jit_compile: bool | str = "auto",
        center_average: str | float | None = None,
        average_from: int | str = 0,
        name: str = "elastic",
    ) -> None:
        super().__init__(
            inner_optimizer,
            moving_rate=moving_rate,
            beta=beta,
            communication_period=communication_period,
            symmetric=symmetric,
            jit_compile=jit_compile,
            center_average=center_average,
            average_from=average_from,
            name=name,
        )
