"""Logical devices of a check's process."""

import tensorflow as tf


def devices(setting, count, gpu_memory_mb=1024):
    """Logical devices that are not the host's, by name.

    Before TensorFlow has started it makes them, and as many CPU devices
    beside: of one card, or as CPU:1 and the next. Afterwards, they have
    to be there.

    Args:
        setting: of the run.
        count: how many.
        gpu_memory_mb: of each, on a card; None for all that is there, of
            one device.

    Raises:
        RuntimeError: there are not as many.
    """
    begin = int(setting.device == "CPU")
    cpus = [tf.config.LogicalDeviceConfiguration()] * (count + begin)
    try:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], cpus
        )
        if setting.device == "GPU":
            cards = tf.config.list_physical_devices("GPU")[:1]
            tf.config.set_visible_devices(cards, "GPU")
            for card in cards if gpu_memory_mb else ():
                tf.config.set_logical_device_configuration(
                    card,
                    [tf.config.LogicalDeviceConfiguration(gpu_memory_mb)]
                    * count,
                )
    except RuntimeError:
        pass  # TensorFlow has started: they are there, or not.
    found = len(tf.config.list_logical_devices(setting.device))
    if found < count + begin:
        raise RuntimeError(
            f"{count} logical devices are needed beside the host's. "
            f"Received: {found} of the kind {setting.device} in all."
        )
    return [f"{setting.device}:{begin + i}" for i in range(count)]


def wait_for(variable):
    """Waits until a device has done what is queued: by reading one element.

    Args:
        variable: on the device, of rank 1 or more; also a tensor.

    Returns:
        The element.
    """
    return float(tf.reshape(tf.gather(variable, [0]), [-1])[0])
