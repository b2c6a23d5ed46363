"""How many examples a test with Hypothesis draws, and of which kind.

`make test` draws the same few ones each time, and pytest by itself, as in
`make test-all`, the same ones and more. `make test-random` draws many others
each time; what it finds to fail becomes an `@example` of the test. How that is
done is in the profiles below, of which `conftest.py` loads "same".
"""

import hypothesis

_NORMAL = 100  # examples of a test that says nothing; Hypothesis' default
_FEW = 40  # of them in `make test`
_MORE = 50  # times as many in a search

# A machine under load is slow: neither that nor an earlier run decides.
_COMMON = {
    "deadline": None,
    "suppress_health_check": [hypothesis.HealthCheck.too_slow],
}
for _name, _number in (("few", _FEW), ("same", _NORMAL)):
    hypothesis.settings.register_profile(
        _name,
        derandomize=True,
        database=None,
        max_examples=_number,
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
