"""This process as the one worker of a cluster, with a center beside it."""

import contextlib
import os

import tf_elastic as te
from benchmarks import _crew


@contextlib.contextmanager
def joined(device, protocol="overlapped"):
    """A strategy on one device, and its center, a process without devices.

    Args:
        device: of this worker.
        protocol: of its exchanges.
    """
    before = os.environ.get("TF_CONFIG")
    with _crew.Crew() as crew:
        cluster, _ = crew.start_centers(1, 1)
        os.environ["TF_CONFIG"] = _crew.tf_config(cluster, "worker", 0)
        try:
            strategy = te.strategies.ElasticMultiWorkerStrategy(
                protocol=protocol, devices=[device]
            )
            try:
                yield strategy
            finally:
                strategy.leave()
        finally:
            if before is None:
                del os.environ["TF_CONFIG"]
            else:
                os.environ["TF_CONFIG"] = before
