"""What the tests of `theory` draw, the same in every run.

Hypothesis mixes the constants of all modules that are loaded into the numbers
that it draws. So even a derandomized test draws other settings when a constant
changes anywhere in the code, or when other tests ran before it, and one in many
comparisons at four standard errors then fails for no reason. It has no such
constants for truth values: what is made of these alone stays as it is.
"""

from hypothesis import strategies as st

_BITS = 16

# Seeds of random generators, below 2^16.
seeds = st.lists(st.booleans(), min_size=_BITS, max_size=_BITS).map(
    lambda bits: sum(bit << place for place, bit in enumerate(bits))
)


def uniform(low, high):
    """A float in [low, high)."""
    return seeds.map(lambda seed: low + (high - low) * seed / 2**_BITS)


def whole(low, high):
    """An integer in [low, high]."""
    return seeds.map(lambda seed: low + seed % (high - low + 1))
