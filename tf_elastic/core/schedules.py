"""Learning rates that depend on a worker's own clock."""

from tf_elastic.core.arrays import Array
from tf_elastic.core.arrays import Scalar


def inverse_sqrt_decay(
    learning_rate: Scalar[Array], step: Array, decay: Scalar[Array]
) -> Array:
    r"""The thesis' decay :math:`\eta_t = \eta / (1 + \gamma t)^{0.5}`.

    Args:
        learning_rate: :math:`\eta`, a scalar.
        step: t, the worker's own count of local steps, from 0; a number or a
            floating scalar tensor.
        decay: :math:`\gamma \ge 0`, per step.

    Returns:
        :math:`\eta_t`, a scalar.

    Example:

    >>> inverse_sqrt_decay(0.1, step=300, decay=0.01)
    0.05

    Reference:
        Zhang (2016), Figure 4.13.
    """
    return learning_rate * (1 + decay * step) ** -0.5
