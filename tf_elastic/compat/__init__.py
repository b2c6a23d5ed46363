"""Everything private of TensorFlow and Keras that the package relies on.

Nothing else imports a private name. Each piece says what it relies on, and
``tests/compat_test.py`` checks each against the installed versions, so a
release that breaks one is found by a message that names it.
"""

# First: it refuses releases in which the rest may not be there.
from tf_elastic import supported  # noqa: F401

# isort: split
from tf_elastic.compat.checkpoints import RestoredFrom
from tf_elastic.compat.checkpoints import Trackable
from tf_elastic.compat.checkpoints import restored_from
from tf_elastic.compat.checkpoints import tell_what_is_restored
from tf_elastic.compat.collectives import MultiWorkerExtended
from tf_elastic.compat.collectives import NestedLauncher
from tf_elastic.compat.collectives import abort_collectives
from tf_elastic.compat.collectives import configure_coordination
from tf_elastic.compat.collectives import count_collectives
from tf_elastic.compat.collectives import has_collective_server
from tf_elastic.compat.collectives import host_sums
from tf_elastic.compat.collectives import nest_collectives
from tf_elastic.compat.collectives import peer_answers
from tf_elastic.compat.collectives import sum_on_devices
from tf_elastic.compat.collectives import sum_on_hosts
from tf_elastic.compat.contexts import MirroredExtended
from tf_elastic.compat.contexts import MirroredVariable
from tf_elastic.compat.contexts import SyncOnReadVariable
from tf_elastic.compat.contexts import canonical_device
from tf_elastic.compat.contexts import current_replica_id
from tf_elastic.compat.contexts import default_graph
from tf_elastic.compat.contexts import in_compiled_graph
from tf_elastic.compat.contexts import in_replica_context
from tf_elastic.compat.contexts import is_as_written
from tf_elastic.compat.contexts import is_deterministic
from tf_elastic.compat.contexts import is_exporting
from tf_elastic.compat.contexts import is_mean
from tf_elastic.compat.contexts import is_per_replica
from tf_elastic.compat.contexts import is_single_copy_export
from tf_elastic.compat.contexts import is_traced_function
from tf_elastic.compat.contexts import may_be_traced_often
from tf_elastic.compat.contexts import mixes_strategies
from tf_elastic.compat.contexts import own_variable
from tf_elastic.compat.contexts import per_replica
from tf_elastic.compat.contexts import select_replica
from tf_elastic.compat.contexts import tape_is_active
from tf_elastic.compat.datasets import HostIterator
from tf_elastic.compat.datasets import UntunedDistributedDataset
from tf_elastic.compat.keras_optimizers import clock_and_rate
from tf_elastic.compat.keras_optimizers import has_step_of_all
from tf_elastic.compat.keras_optimizers import is_clock
from tf_elastic.compat.keras_optimizers import is_ema_swap
from tf_elastic.compat.keras_optimizers import is_finite_check
from tf_elastic.compat.keras_optimizers import is_on_read
from tf_elastic.compat.keras_optimizers import is_rate
from tf_elastic.compat.keras_optimizers import is_seed_state
from tf_elastic.compat.keras_optimizers import leave_saving
from tf_elastic.compat.keras_optimizers import loss_scale_of
from tf_elastic.compat.keras_optimizers import make_local
from tf_elastic.compat.keras_optimizers import native_variable
from tf_elastic.compat.keras_training import at_end_of
from tf_elastic.compat.keras_training import build_by_specification
from tf_elastic.compat.keras_training import is_keras_step
from tf_elastic.compat.keras_training import is_train_step
from tf_elastic.compat.keras_training import share_backups
from tf_elastic.compat.rows import first_if_no_mean
from tf_elastic.compat.rows import part_spec
from tf_elastic.compat.rows import slice_rows
from tf_elastic.compat.rows import split_rows

__all__ = [
    "HostIterator",
    "MirroredExtended",
    "MirroredVariable",
    "MultiWorkerExtended",
    "NestedLauncher",
    "RestoredFrom",
    "SyncOnReadVariable",
    "Trackable",
    "UntunedDistributedDataset",
    "abort_collectives",
    "at_end_of",
    "build_by_specification",
    "canonical_device",
    "clock_and_rate",
    "configure_coordination",
    "count_collectives",
    "current_replica_id",
    "default_graph",
    "first_if_no_mean",
    "has_collective_server",
    "has_step_of_all",
    "host_sums",
    "in_compiled_graph",
    "in_replica_context",
    "is_as_written",
    "is_clock",
    "is_deterministic",
    "is_ema_swap",
    "is_exporting",
    "is_finite_check",
    "is_keras_step",
    "is_mean",
    "is_on_read",
    "is_per_replica",
    "is_rate",
    "is_seed_state",
    "is_single_copy_export",
    "is_traced_function",
    "is_train_step",
    "leave_saving",
    "loss_scale_of",
    "make_local",
    "may_be_traced_often",
    "mixes_strategies",
    "native_variable",
    "nest_collectives",
    "own_variable",
    "part_spec",
    "peer_answers",
    "per_replica",
    "restored_from",
    "select_replica",
    "share_backups",
    "slice_rows",
    "split_rows",
    "sum_on_devices",
    "sum_on_hosts",
    "supported",
    "tape_is_active",
    "tell_what_is_restored",
]
