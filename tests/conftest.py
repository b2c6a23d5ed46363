"""What all tests share: logical CPU devices, few threads, fixed seeds."""

import gc
import signal

import keras
import pytest
import tensorflow as tf

from tf_elastic import strategies

NUM_DEVICES = 8

# Tests that are run in the background, or by `nohup`, inherit that these are
# ignored; so would the processes that they start, and be told in vain.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Once per process, before TensorFlow starts: it refuses it afterwards.
tf.config.threading.set_inter_op_parallelism_threads(2)
tf.config.threading.set_intra_op_parallelism_threads(2)
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * NUM_DEVICES,
)


def _draw_no_constants_of_the_code():
    """Keeps hypothesis from drawing numbers that it finds in our modules.

    It would make what a derandomized test draws depend on every constant of
    the code, and on which tests ran before. A hypothesis without this private
    part of 6.170 stays as it is.
    """
    from hypothesis.internal.conjecture import providers

    if hasattr(providers, "_get_local_constants") and hasattr(
        providers, "Constants"
    ):
        none = providers.Constants()
        providers._get_local_constants = lambda: none


_draw_no_constants_of_the_code()


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same seeds, whichever ran before it."""
    keras.utils.set_random_seed(20160501)


@pytest.fixture
def strategy():
    """`strategy(p, exchange)`: p workers on logical CPU devices."""

    def make(num_workers, exchange="jacobi"):
        return strategies.ElasticMirroredStrategy(
            [f"CPU:{i}" for i in range(num_workers)], exchange
        )

    yield make
    # A tf.data iterator that is thrown away may keep whoever collects it
    # waiting for about as long as it is old: its tuning thread can miss that
    # it is cancelled, and looks again ever less often. So: while it is young.
    gc.collect()


@pytest.fixture
def float64():
    """Keras computes in float64, as the references do."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    # A policy that any test has set hides floatx from then on.
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(before)
