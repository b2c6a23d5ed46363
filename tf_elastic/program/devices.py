"""The workers' devices, and the strategy over them."""

import dataclasses
import subprocess
from typing import TYPE_CHECKING

from tf_elastic.program import defaults
from tf_elastic.program import tree_run
from tf_elastic.program import usage
from tf_elastic.program import virtual_run
from tf_elastic.program.flag import Settings

if TYPE_CHECKING:
    import tensorflow as tf


def make_devices(settings: Settings, count: int | None = None) -> list[str]:
    """Sets up a logical device for each worker, before TensorFlow starts.

    Args:
        settings: what `settings.parse` returned.
        count: of devices; None for the workers.

    Returns:
        The devices' names, one for each worker.

    Raises:
        UsageError: there are not enough devices.
    """
    import tensorflow as tf

    count = count or settings["workers"]
    gpus = tf.config.list_physical_devices("GPU")
    if settings["device"] == "gpu" and not gpus:
        raise usage.UsageError(
            "--device=gpu needs a GPU that TensorFlow can use; there is "
            "none. Use --device=cpu."
        )
    kind = "GPU" if gpus and settings["device"] != "cpu" else "CPU"
    if kind == "GPU":
        physical = gpus[:count]
        shares = [
            len(range(i, count, len(physical))) for i in range(len(physical))
        ]
        memory = settings["gpu_memory_mb"]
        if count > len(physical) and memory is None:
            memory = split_memory_mb(free_gpu_memory_mb(), max(shares))
    else:
        physical, shares, memory = (
            tf.config.list_physical_devices("CPU")[:1],
            [count],
            None,
        )
    try:
        if kind == "CPU":
            tf.config.set_visible_devices([], "GPU")
        for device, share in zip(physical, shares, strict=True):
            if share > 1 or memory:
                tf.config.set_logical_device_configuration(
                    device,
                    [tf.config.LogicalDeviceConfiguration(memory)] * share,
                )
    except RuntimeError:
        pass  # TensorFlow runs already, in a process that imported this.
    found = len(tf.config.list_logical_devices(kind))
    if found < count:
        raise usage.UsageError(
            f"{count} devices need {count} logical devices of kind {kind}. "
            f"Received: {found}, and TensorFlow has started already. Call "
            "`main` before anything else uses TensorFlow."
        )
    return [f"{kind}:{i}" for i in range(count)]


def split_memory_mb(free_mb: int, share: int) -> int:
    """Memory of each of `share` workers on a GPU, with a tenth left over."""
    return int(free_mb * 0.9) // share


def free_gpu_memory_mb() -> int:
    """What is free on the fullest GPU, in MiB."""
    command = [
        "nvidia-smi",
        "--query-gpu=memory.free",
        "--format=csv,noheader,nounits",
    ]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=True
        )
        return min(int(line) for line in result.stdout.split())
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise usage.UsageError(
            "Several workers are to share a GPU, and nvidia-smi could not "
            "tell how much memory is free. Give --gpu_memory_mb, the memory "
            "of each worker."
        ) from error


def make_strategy(settings: Settings) -> "tf.distribute.Strategy":
    """The strategy over the workers' devices."""
    import tensorflow as tf

    if settings["strategy"] in defaults.CLUSTER:
        return _make_cluster_strategy(settings)
    if settings["strategy"] == defaults.VIRTUAL:
        return virtual_run.make_strategy(settings, make_devices(settings, 1)[0])
    devices = make_devices(settings)
    if settings["strategy"] == "mirrored":
        # Not NCCL: it knows no logical devices.
        return tf.distribute.MirroredStrategy(
            devices, cross_device_ops=tf.distribute.ReductionToOneDevice()
        )
    from tf_elastic import strategies

    with usage.explained("See --order and --workers."):
        return strategies.ElasticMirroredStrategy(
            devices, order=settings["order"]
        )


def _make_cluster_strategy(settings: Settings) -> "tf.distribute.Strategy":
    """The strategy of this process of a cluster, on all its devices."""
    import tensorflow as tf

    from tf_elastic import strategies
    from tf_elastic.cluster.launch.security import Security

    count, devices = settings["devices_per_process"], None
    if count is not None:
        devices = make_devices(settings, count)
    gpus = tf.config.list_physical_devices("GPU")
    if settings["device"] == "gpu" and not gpus:
        raise usage.UsageError(
            "--device=gpu needs a GPU that TensorFlow can use; this process "
            "has none. Use --device=cpu."
        )
    if settings["device"] == "cpu" and devices is None:
        tf.config.set_visible_devices([], "GPU")
    with usage.explained("See docs/cluster.md."):
        if settings["strategy"] == "multi_worker_mirrored":
            return strategies.MultiWorkerMirroredStrategy()
        security = Security.from_environment()
        if settings["trusted_network"]:
            security = dataclasses.replace(security, trusted_network=True)
        if settings["strategy"] == defaults.TREE:
            tree_run.tell_this_process(settings)
            return strategies.ElasticTreeStrategy(
                devices=devices, events=settings["events"], security=security
            )
        return strategies.ElasticMultiWorkerStrategy(
            protocol=settings["protocol"],
            compression=settings["compression"],
            devices=devices,
            max_lag=settings["max_lag"] or None,
            events=settings["events"],
            security=security,
            inside=settings["inside"],
            order=settings["order"],
            outer_period=settings["outer_period"],
            workers_per_group=settings["group_size"],
        )
