"""How many examples a test with Hypothesis draws, and of which kind.

`make test` draws the same ones each time. `make test-random` draws many others
each time; what it finds to fail becomes an `@example` of the test. How that is
done is in the profiles below, which `conftest.py` loads.
"""

import hypothesis

_NORMAL = 100  # examples of a test that says nothing; Hypothesis' default
_MORE = 50  # times as many in a search

# A machine under load is slow: neither that nor an earlier run decides.
_COMMON = {
    "deadline": None,
    "suppress_health_check": [hypothesis.HealthCheck.too_slow],
}
hypothesis.settings.register_profile(
    "same",
    derandomize=True,
    database=None,
    max_examples=_NORMAL,
    **_COMMON,
)
hypothesis.settings.register_profile(
    "search",
    derandomize=False,
    max_examples=_MORE * _NORMAL,
    print_blob=True,
    **_COMMON,
)


def examples(number):
    """The settings of a test that draws so many; in a search, many more."""
    profile = hypothesis.settings.default
    return hypothesis.settings(
        max_examples=number * profile.max_examples // _NORMAL
    )


def same_examples(number):
    """Of one that compares within standard errors.

    One comparison in some thousands fails by chance: it draws the same
    examples in a search as well.
    """
    return hypothesis.settings(
        hypothesis.settings.get_profile("same"), max_examples=number
    )
