"""Every method by every order and protocol gives the numbers that it gave.

Other tests compare with the papers' pseudo-code; these pin what there is, so
that nothing changes while the code is rebuilt. `python -m tests.golden_test
--write` writes the traces in `tests/golden` anew, those that have changed; say
in the commit why they may.
"""

import argparse

import keras
import numpy as np
import pytest

from tests import conftest  # noqa: F401 (devices, where no pytest runs)
from tests import golden_support as golden

KINDS = ("orders", "protocols")
REMEDY = "Run: python -m tests.golden_test --write"
_STORED = {kind: golden.stored(kind) for kind in KINDS}

pytestmark = pytest.mark.usefixtures("float64")


# Of these methods `make test` has the traces that are named, of the others
# all: what they compute is another's code in another order or protocol. A
# subclass of the user's own goes the same ways as EASGD, and that one those of
# EAMSGD; LocalSGD goes DiLoCo's, and the average of a sequence the other one's.
ENOUGH = {
    "ElasticOptimizer": (),
    "EASGD": (),
    "Elastic": ("round_robin", "blocking"),
    "AveragedSGD": ("jacobi", "overlapped"),
    "MovingAverageSGD": (),
    "Downpour": ("round_robin", "synchronous"),
    "ADownpour": (),
    "MVADownpour": ("gauss_seidel", "overlapped"),
    "MDownpour": ("round_robin", "blocking"),
    "AsyncMSGD": ("round_robin", "overlapped"),
    "SyncSGD": ("gauss_seidel",),
    "LocalSGD": (),
    "AsyncDiLoCo": ("overlapped",),
    "HeLoCo": ("round_robin",),
    "HALoS": ("blocking",),
}


def cases(kind):
    return [
        pytest.param(
            method,
            choice,
            marks=[pytest.mark.full]
            * (choice not in ENOUGH.get(method, (choice,))),
        )
        for method, choice in golden.choices(kind)
    ]


def check(kind, method, choice):
    case = f"{method}, {choice}"
    expected = _STORED[kind].get(case, {})
    wrong = golden.differences(golden.trace(kind, method, choice), expected)
    assert not wrong, f"{case} has changed:\n" + "\n".join(wrong)


@pytest.mark.parametrize(("method", "order"), cases("orders"))
def test_on_devices(method, order):
    check("orders", method, order)


@pytest.mark.parametrize(("method", "protocol"), cases("protocols"))
def test_in_a_cluster(method, protocol):
    check("protocols", method, protocol)


@pytest.mark.parametrize("kind", KINDS)
def test_every_method_has_its_traces(kind):
    there = [f"{method}, {choice}" for method, choice in golden.choices(kind)]
    assert sorted(_STORED[kind]) == sorted(there), REMEDY


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_orders_or_protocols_are_alike(kind):
    """Or a trace would not tell one from the other. (One worker's are.)"""
    traces = {}
    for method, choice in golden.choices(kind):
        if golden.num_workers(method, 2) > 1:
            case = f"{method}, {choice}"
            traces.setdefault(method, []).append(_STORED[kind][case])
    for method, found in traces.items():
        name = next(name for name in found[0] if name.endswith("w"))
        ends = [tuple(np.ravel(trace[name][-1])) for trace in found]
        assert len(set(ends)) == len(ends), method


def test_a_difference_is_told_by_step_and_variable():
    expected = {"w": np.ones((7, 3)), "v": np.zeros((7, 2)), "u": np.ones(7)}
    found = {"w": expected["w"].copy(), "v": expected["v"].copy()}
    assert golden.differences(found, expected) == ["u is missing"]
    found["u"] = expected["u"] * (1 + 0.5e-13)
    assert golden.differences(found, expected) == []
    found["w"][4:, 1] += 3e-13
    found["v"][2, 0] = np.nan
    assert golden.differences(found, expected) == [
        "step 3: v is away by nan",
        "step 5: w is away by 3.0e-13",
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write traces")
    if not parser.parse_args().write:
        parser.error("Nothing to do. Say --write to write the traces anew.")
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    for each in KINDS:
        print(f"{each}: changed {golden.write(each) or 'none'}")
