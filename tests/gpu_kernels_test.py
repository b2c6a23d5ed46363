"""What is done with variables has kernels for GPUs, which no GPU is needed for.

A tensor may go to the host and back where there is no kernel; a variable stays
where it is, so that an operation on it without one ends the program.
"""

import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels
from tensorflow.python.framework import op_def_registry

from tests import stores_test
from tf_elastic.strategies.virtual.mail import Mail

pytestmark = pytest.mark.skipif(
    not tf.test.is_built_with_cuda(), reason="TensorFlow knows no GPU kernels"
)


def has_kernel(op, types):
    """Whether an operation of these types can be on a GPU."""
    return any(
        kernel.device_type in ("GPU", "DEFAULT")
        and all(
            types[constraint.name] in constraint.allowed_values.list.type
            for constraint in kernel.constraint
        )
        for kernel in kernels.get_registered_kernels_for_op(op).kernel
    )


def without_kernel(function):
    """(operation, types) on variables, in the graph of a function."""
    graph = tf.function(function).get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node]
    for inner in graph.library.function:
        nodes += inner.node_def
    found = []
    for node in nodes:
        if not takes_variable(node.op):
            continue
        types = {
            name: value.type
            for name, value in node.attr.items()
            if value.WhichOneof("value") == "type"
        }
        if not has_kernel(node.op, types):
            names = {k: tf.as_dtype(v).name for k, v in types.items()}
            found.append((node.op, names))
    return found


def takes_variable(op):
    definition = op_def_registry.get(op)
    return definition is not None and any(
        argument.type == tf.resource.as_datatype_enum
        for argument in definition.input_arg
    )


def on_gpus(dtype):
    """Whether TensorFlow puts variables of a dtype there at all."""
    return has_kernel(
        "VarHandleOp", {"dtype": tf.as_dtype(dtype).as_datatype_enum}
    )


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        *(("devices", dtype) for dtype in ("float32", "bool", "uint32")),
        *(("bank", dtype) for dtype in stores_test.DTYPES if on_gpus(dtype)),
    ],
)
def test_stores(kind, dtype):
    value = stores_test.numbers(0, (2, 3), dtype)
    store, bank = stores_test.store_of(kind, value)

    def use():
        if bank is not None:
            bank.give_turn_to(tf.constant(1))
        store.assign(0, store.read(1))
        store.set_all(value)
        store.set_center(value)
        store.update_all(lambda i, copy: copy.assign(copy.read_value()))
        return store.values()

    assert without_kernel(use) == []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_mail(dtype):
    shape = tf.TensorShape([3])
    mail = Mail([shape], [tf.as_dtype(dtype)], 2, "CPU:0", grows=True)

    def use():
        row = tf.constant(1, tf.int64)
        mail.put_row_of_any(row, mail.row(row))

    assert without_kernel(use) == []


def test_one_without_a_kernel_is_found():
    rows = tf.Variable([[True], [False]])

    def use():
        tf.raw_ops.ResourceScatterUpdate(
            resource=rows.handle,
            indices=tf.constant(1, tf.int64),
            updates=[True],
        )

    [(op, types)] = without_kernel(use)
    assert op == "ResourceScatterUpdate"
    assert types["dtype"] == "bool"


def test_integers_of_32_bits_stay_on_the_host():
    assert not on_gpus("int32")
    assert on_gpus("int64")
