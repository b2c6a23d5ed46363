"""What of this machine each worker of a local cluster may use."""

import dataclasses
import itertools
import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from absl import logging


@dataclasses.dataclass(frozen=True)
class MachineShare:
    """What of this machine a worker may use; the centers have none."""

    cores: tuple[int, ...]
    gpus: tuple[str, ...]
    gpus_are_shared: bool = False

    def environment(self) -> dict[str, str]:
        """The variables that say so to TensorFlow."""
        threads = str(max(len(self.cores), 1))
        variables = {
            "TF_NUM_INTRAOP_THREADS": threads,
            "OMP_NUM_THREADS": threads,
            # An empty list would hide them too, -1 says that it is meant.
            "CUDA_VISIBLE_DEVICES": ",".join(self.gpus) or "-1",
        }
        if self.gpus_are_shared:
            # Else the first to come takes nearly all memory.
            variables["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
        return variables


def share_out(num_workers: int) -> list[MachineShare]:
    """Cores and GPUs of this machine, shared out."""
    cores, gpus = _cores(), _gpus()
    return [
        MachineShare(
            _slice(cores, index, num_workers),
            _slice(gpus, index, num_workers),
            gpus_are_shared=0 < len(gpus) < num_workers,
        )
        for index in range(num_workers)
    ]


def _slice(items: Sequence[Any], index: int, count: int) -> tuple[Any, ...]:
    """Part `index` of `count`: neighbours, or one that others have too."""
    if not items:
        return ()
    if len(items) < count:
        return (items[index % len(items)],)
    begin, end = (i * len(items) // count for i in (index, index + 1))
    return tuple(items[begin:end])


def _cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",")]
        # From the first that is none on, CUDA sees none.
        return list(itertools.takewhile(lambda n: n not in ("", "-1"), names))
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        result = subprocess.run(
            [program, "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        logging.warning(
            "nvidia-smi does not tell which GPUs there are, so workers get "
            "none: %s. Set CUDA_VISIBLE_DEVICES to use them.",
            error,
        )
        return []
    return result.stdout.split()
