"""Timings of clusters that are often met, and of the thesis', by name.

>>> preset("1gbit", step=0.1).of_worker("bandwidth", 0)
117000000.0
>>> sorted(PRESETS)[:3]
['10gbit', '1gbit', 'one-host-8-gpus']
"""

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from tf_elastic.timeline.virtual import names
from tf_elastic.timeline.virtual.durations import Duration
from tf_elastic.timeline.virtual.durations import LogNormal
from tf_elastic.timeline.virtual.faults import Losses
from tf_elastic.timeline.virtual.timing import Timing

# Bytes a second each way of 1 Gbit/s, less headers.
_GIGABIT = 117e6


def _thesis_cifar(num_workers: int) -> dict[str, Any]:
    """Table 4.4, CIFAR: 400 mini-batches of 128 in 11 + 2 s.

    A GPU's step and loading are the table's. The center is fitted: so much of
    the link and of the center's service that a worker's communication seconds
    come out as printed, DOWNPOUR with tau = 1 and EASGD with tau = 10, 1.4 MB
    each way. They do within 0.8 s, where the table has whole seconds:

    =======  =====  =====  ======  ======
    tau      p = 1  p = 4  p = 8   p = 16
    =======  =====  =====  ======  ======
    1        3.2    3.6    4.3     9.3
    printed         3      5       9
    10       0.6    0.6    0.6     0.7
    printed         1      1       1
    =======  =====  =====  ======  ======
    """
    del num_workers
    return {
        "step": LogNormal(0.0275, 0.1),
        "data": 0.005,
        "latency": 0.0023,
        "center_bandwidth": 1.5e9,
        "service": LogNormal(0.0016, 1.2),
    }


def _thesis_imagenet(num_workers: int) -> dict[str, Any]:
    """Table 4.4, ImageNet: 1024 mini-batches of 128 in 1270 + 50 s.

    As `thesis-cifar`, with 233 MB each way. One queue cannot give all that is
    printed: an exchange takes 2.5 times as long with tau = 1 as with tau = 10,
    though the center is idle for most of the time in both. So the fit is of the
    whole running time, which it meets within 2 % in each cell:

    =======  =====  =====
    tau      p = 4  p = 8
    =======  =====  =====
    1        170    270
    printed  173    284
    10       20     24
    printed  7      11
    =======  =====  =====
    """
    del num_workers
    return {
        "step": LogNormal(1.24, 0.1),
        "data": 0.05,
        "latency": 0.001,
        "center_bandwidth": 8.2e9,
        "service": LogNormal(0.051, 1.95),
    }


def _one_host(num_workers: int) -> dict[str, Any]:
    """Eight GPUs of one host, whose memory has the center: PCI Express 4."""
    del num_workers
    return {
        "latency": 20e-6,
        "bandwidth": 20e9,
        "center_bandwidth": 80e9,
        "service": 50e-6,
    }


def _network(gigabits: float) -> Callable[[int], dict[str, Any]]:
    def network(num_workers: int) -> dict[str, Any]:
        """A host for each worker and one for the center, one switch."""
        del num_workers
        return {
            "latency": 100e-6,
            "bandwidth": gigabits * _GIGABIT,
            "center_bandwidth": 2 * gigabits * _GIGABIT,
            "service": 100e-6,
        }

    return network


def _two_regions(num_workers: int) -> dict[str, Any]:
    """10 Gbit/s; the second half of the workers is 80 ms away and back.

    These have half a Gbit/s each, and one in a thousand messages is lost.
    """
    far = num_workers // 2
    near = num_workers - far
    return {
        **_network(10.0)(num_workers),
        "latency": [100e-6] * near + [0.04] * far,
        "bandwidth": [10 * _GIGABIT] * near + [0.5 * _GIGABIT] * far,
        "losses": Losses(0.001, 0.2),
    }


PRESETS: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "thesis-cifar": _thesis_cifar,
    "thesis-imagenet": _thesis_imagenet,
    "one-host-8-gpus": _one_host,
    "1gbit": _network(1.0),
    "10gbit": _network(10.0),
    "two-regions": _two_regions,
}
# These know nothing of the workers' number.
_ANY = 0


def preset(
    name: str,
    *,
    step: Duration | float | None = None,
    num_workers: int | None = None,
    **others: Any,
) -> Timing:
    """The timing of a name.

    Those of a network are round numbers, not measured ones.

    Args:
        name: of `PRESETS`.
        step: of a worker's local step, which depends on the model and the
            device: only the thesis' presets have one.
        num_workers: p; for two-regions.
        **others: fields of `Timing` that are to be different.

    Raises:
        ValueError: there is no such name (the nearest that is, is told); or
            `step`, or `num_workers`, is needed.
    """
    if name not in PRESETS:
        raise ValueError(
            f"There is no timing {name!r:.80}.{names.nearest(name, PRESETS)} "
            f"There are: {', '.join(sorted(PRESETS))}."
        )
    if name == "two-regions" and num_workers is None:
        raise ValueError(
            "The timing 'two-regions' needs `num_workers`: half of them are "
            "far away."
        )
    names.check_known(
        "a timing", others, [f.name for f in dataclasses.fields(Timing)]
    )
    fields = {**PRESETS[name](num_workers or _ANY), **others}
    if step is not None:
        fields["step"] = step
    if "step" not in fields:
        raise ValueError(
            f"The timing {name!r} needs `step`, the seconds of a local step: "
            "they depend on the model and the device."
        )
    return Timing(**fields)
