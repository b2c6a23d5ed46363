"""The logical devices that workers of the tests are on.

TF_ELASTIC_TEST_DEVICES names the first of them: `CPU:0` if it is not set;
`GPU:0` for logical devices of one card, of TF_ELASTIC_TEST_GPU_MB (512)
each; `CPU:1` for devices that are not the host's, as those of a card are not:
there a variable of the host in a function that XLA compiles for a device is
an error, as on a card, and batches come by TensorFlow's own iterator.
"""

import os

import tensorflow as tf

NUM_DEVICES = 8
FIRST = os.environ.get("TF_ELASTIC_TEST_DEVICES", "CPU:0")
KIND, _BEGIN = FIRST.split(":")


def names(count):
    """The first so many of them."""
    begin = int(_BEGIN)
    return [f"{KIND}:{begin + i}" for i in range(count)]


def set_up():
    """Makes the devices, before TensorFlow starts."""
    of_one = {"CPU": tf.config.LogicalDeviceConfiguration()}
    if KIND == "GPU":
        memory = int(os.environ.get("TF_ELASTIC_TEST_GPU_MB", "512"))
        of_one["GPU"] = tf.config.LogicalDeviceConfiguration(memory)
        # Of two ways to compute the same, one may be without matrix units.
        tf.config.experimental.enable_tensor_float_32_execution(False)
    for kind, configuration in of_one.items():
        physical = tf.config.list_physical_devices(kind)
        if not physical:
            raise RuntimeError(
                f"There is no {kind}. Received: TF_ELASTIC_TEST_DEVICES={FIRST}"
            )
        tf.config.set_logical_device_configuration(
            physical[0], [configuration] * (NUM_DEVICES + int(_BEGIN))
        )
    if FIRST != "CPU:0":
        tf.config.set_soft_device_placement(True)
    if KIND == "CPU" and int(_BEGIN):
        _bring_batches_as_to_a_card()


def _bring_batches_as_to_a_card():
    from tf_elastic.compat import datasets

    datasets._all_on_host = lambda input_workers: False
