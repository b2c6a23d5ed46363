"""What the layers of all networks have in common: initial values and l2."""

import keras
import numpy as np


def split_seed(seed: int | None, count: int) -> list[int | None]:
    """Derives a seed for each random part of a network.

    Args:
        seed: Non-negative int, or None.
        count: How many are needed.

    Returns:
        `count` different ints, the same for the same `seed`; or Nones for
        None, so that `keras.utils.set_random_seed` decides.
    """
    if seed is None:
        return [None] * count
    states = np.random.SeedSequence(seed).generate_state(count)
    return [int(state) >> 1 for state in states]  # Keras wants 31 bits.


def layer_options(
    seed: int | None, l2: float, bias: float = 0.0
) -> dict[str, object]:
    """Returns the arguments shared by convolutions and dense layers.

    Args:
        seed: Seed of the weights, or None.
        l2: lambda, >= 0, of the term lambda/2 * ||x||^2 over weights and
            biases. Keras' `L2(c)` is c * ||x||^2, hence the half.
        bias: Where all biases start.

    Returns:
        Keyword arguments for a Keras layer.
    """
    options: dict[str, object] = {
        "kernel_initializer": keras.initializers.GlorotUniform(seed=seed),
        "bias_initializer": keras.initializers.Constant(bias),
    }
    if l2:
        options["kernel_regularizer"] = keras.regularizers.L2(l2 / 2)
        options["bias_regularizer"] = keras.regularizers.L2(l2 / 2)
    return options


def check_options(dropout: float, l2: float) -> None:
    """Checks the arguments that all networks have.

    Args:
        dropout: Rate of dropout.
        l2: Strength of the l2 term.

    Raises:
        ValueError: If `dropout` is not in [0, 1) or `l2` is negative.
    """
    if not 0 <= dropout < 1:
        raise ValueError(
            f"`dropout` must be in [0, 1). Received: dropout={dropout!r}. "
            "The thesis uses 0.5; pass 0 for none."
        )
    if not l2 >= 0:
        raise ValueError(
            f"`l2` must be >= 0. Received: l2={l2!r}. The thesis uses 1e-4; "
            "pass 0 for none."
        )
