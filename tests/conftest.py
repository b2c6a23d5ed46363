"""What all tests share: logical devices, few threads, fixed seeds."""

import gc
import signal

gc.disable()  # There is no garbage among what is imported.

import hypothesis
import keras
import pytest
import tensorflow as tf

from tests import devices
from tests import drawing  # noqa: F401 (it registers the profiles)
from tests import plain_graphs
from tf_elastic import strategies

gc.enable()
# Processes that share the tests begin with these files, so that none is left
# alone with a long one at the end.
_LONGEST = {
    f"{name}_test": rank
    for rank, name in enumerate(
        (
            "virtual_resume",
            "multi_worker_mirrored",
            "conformance",
            "conformance_cluster",
            "conformance_options",
            "train_run",
            "elastic_multi_worker",
            "train_cluster",
            "worker_processes",
            "virtual_training",
            "batches",
            "cut_on_stagnation",
            "device_tree",
            "workers_per_device",
            "golden",
            "virtual_equal",
            "registry",
            "first_cut",
            "layer_files",
            "figures",
            "virtual_methods",
            "virtual_uses",
            "figures_trained",
            "delayed_gradient",
            "optimizers_exact",
            "cluster_faults",
            "several_optimizers",
            "interleaving",
            "closing",
            "worker_begins",
            "compat",
            "momentum_controller",
            "cluster_attack",
            "cluster_exact",
            "cluster_processes",
            "data_load",
            "family_exact",
            "compiled_again",
            "user_rule",
            "conformance_cluster_refused",
            "cluster_local",
            "untrained",
            "center_average",
            "family_wire",
            "cluster_local_socket",
            "virtual_parts",
            "scopes",
            "late_processes",
        )
    )
}

# Tests that are run in the background, or by `nohup`, inherit that these are
# ignored; so would the processes that they start, and be told in vain.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Once per process, before TensorFlow starts: it refuses it afterwards.
tf.config.threading.set_inter_op_parallelism_threads(2)
tf.config.threading.set_intra_op_parallelism_threads(2)
devices.set_up()


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
# What `--hypothesis-profile` names comes after this, and before any test file.
hypothesis.settings.load_profile("same")


def pytest_addoption(parser):
    parser.addoption(
        "--plain-graphs",
        action="store_true",
        help="graphs as they are traced; XLA for jit_compile=True alone",
    )


def pytest_configure(config):
    """Lets processes that share the tests take the files in our order."""
    gc.disable()  # Until all files are imported.
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
    if config.getoption("plain_graphs"):
        plain_graphs.begin()


def pytest_collection_modifyitems(items):
    """Puts long files first; leaves out what another case of a table shows.

    Cells of the tier `make test-all` are marked as such.
    """
    items[:] = sorted(
        (item for item in items if not _shown_by_another(item)),
        key=lambda item: _LONGEST.get(item.path.stem, len(_LONGEST)),
    )
    for item in items:
        tier = getattr(getattr(item, "function", None), "tier", None)
        if tier and "case" in item.callspec.params:
            params = item.callspec.params
            if tier(params["case"], params.get("use")) == "test-all":
                item.add_marker(pytest.mark.full)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """Leaves what lives as long as the process out of each `gc.collect`.

    TensorFlow alone has 400,000 such objects; to go through them would take
    longer than many a test.
    """
    gc.enable()
    gc.collect()
    gc.freeze()


def _shown_by_another(item):
    is_for = getattr(getattr(item, "function", None), "is_for", None)
    if is_for is None or "case" not in item.callspec.params:
        return False
    return not is_for(item.callspec.params["case"])


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same seeds, whichever ran before it."""
    keras.utils.set_random_seed(20160501)


@pytest.fixture
def strategy():
    """`strategy(p, exchange)`: p workers on logical devices.

    The center is that of the last exchange also when `fit` has ended, as the
    papers have it, unless `closing` is given.
    """

    def make(num_workers, order="jacobi", closing=False):
        return strategies.ElasticMirroredStrategy(
            devices.names(num_workers),
            order,
            closing=closing,
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
