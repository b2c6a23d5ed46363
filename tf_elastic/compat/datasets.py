"""Passes over distributed data, by what is private of TensorFlow."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.data.ops import multi_device_iterator_ops
from tensorflow.python.distribute import input_lib
from tensorflow.python.distribute import values
from tensorflow.python.framework import composite_tensor
from tensorflow.python.framework import type_spec

from tf_elastic.compat.rows import part_spec
from tf_elastic.compat.rows import split_rows

_HOST_DEVICE = "/device:CPU:0"


class UntunedDistributedDataset(input_lib.DistributedDataset):
    """A distributed data set whose slices are handed out untuned.

    TensorFlow reads each device's slice of a batch through a small data set
    of its own, and tf.data starts a tuner for each. A tuner sleeps, for longer
    and longer, up to a minute, and the iterator cannot be closed before it
    wakes: the end of an epoch hangs. There is nothing to tune in them.

    `on_pass` is called whenever a pass over the data begins.
    """

    on_pass: Callable[[], None] | None = None
    whole: tf.data.Dataset | None = None  # what is distributed

    def __iter__(self) -> Any:
        if self.on_pass is not None:
            self.on_pass()
        if self.whole is not None and _all_on_host(self._input_workers):
            return HostIterator.over(self.whole, self._strategy)
        create = multi_device_iterator_ops._create_device_dataset
        multi_device_iterator_ops._create_device_dataset = _untuned(create)
        try:
            return super().__iter__()
        finally:
            multi_device_iterator_ops._create_device_dataset = create


def _all_on_host(input_workers: Any) -> bool:
    devices = [
        device
        for i in range(input_workers.num_workers)
        for device in input_workers.compute_devices_for_worker(i)
    ]
    return all(
        tf.DeviceSpec.from_string(device).device_type == "CPU"
        for device in devices
    )


class _HostIteratorSpec(type_spec.TypeSpec):
    """Of a `HostIterator`."""

    __slots__ = ("_iterator_spec", "_strategy")

    def __init__(self, iterator_spec: Any, strategy: Any) -> None:
        self._iterator_spec = iterator_spec
        self._strategy = strategy

    @property
    def value_type(self) -> type:
        return HostIterator

    @property
    def _component_specs(self) -> list[Any]:
        return [self._iterator_spec]

    def _to_components(self, value: Any) -> list[Any]:
        return [value._iterator]

    def _from_components(self, components: Sequence[Any]) -> Any:
        return HostIterator(components[0], self._strategy)

    def _serialize(self) -> tuple[Any, ...]:
        return (self._iterator_spec, id(self._strategy))

    def _with_tensor_ranks_only(self) -> "_HostIteratorSpec":
        return self._with(self._iterator_spec._with_tensor_ranks_only())

    def _without_tensor_names(self) -> "_HostIteratorSpec":
        return self._with(self._iterator_spec._without_tensor_names())

    def _with(self, iterator_spec: Any) -> "_HostIteratorSpec":
        return _HostIteratorSpec(iterator_spec, self._strategy)

    def _is_alike(self, other: Any) -> bool:
        return type(self) is type(other) and self._strategy is other._strategy

    def is_subtype_of(self, other: Any) -> bool:
        """Whether an iterator of this kind is one of that kind, too."""
        return self._is_alike(other) and self._iterator_spec.is_subtype_of(
            other._iterator_spec
        )

    def most_specific_common_supertype(self, others: Sequence[Any]) -> Any:
        """The kind of which all of these are, or None."""
        if not all(map(self._is_alike, others)):
            return None
        common = self._iterator_spec.most_specific_common_supertype(
            [other._iterator_spec for other in others]
        )
        if common is None:
            return None
        return self._with(common)


class HostIterator(
    input_lib.DistributedIteratorBase, composite_tensor.CompositeTensor
):
    """Takes batches from a data set on the host, and cuts them for devices.

    TensorFlow's own hands out a slice at a time, through one more data set
    for each device, which is made and traced anew in each pass: it is there
    to have the next batch on a GPU in time. Where the devices are the host's
    there is nothing to be copied.

    A batch is cut as TensorFlow does it for one process: as evenly as can be,
    so that a last, shorter batch leaves a device nothing only if it has fewer
    rows than there are devices.

    Args:
        iterator: an iterator over batches.
        strategy: whose devices they are for.
    """

    def __init__(self, iterator: Any, strategy: Any) -> None:
        self._iterator = iterator
        self._strategy = strategy

    @classmethod
    def over(cls, dataset: tf.data.Dataset, strategy: Any) -> "HostIterator":
        """An iterator over a whole data set, from its beginning."""
        with tf.device(_HOST_DEVICE):
            return cls(iter(dataset.prefetch(1)), strategy)

    @property
    def element_spec(self) -> Any:
        """The specifications of what `get_next` returns."""
        whole = self._iterator.element_spec
        if self._num_parts == 1:
            return whole
        return tf.nest.map_structure(
            lambda spec: values.PerReplicaSpec(
                *(
                    part_spec(spec, i, self._num_parts)
                    for i in range(self._num_parts)
                )
            ),
            whole,
        )

    @property
    def _num_parts(self) -> int:
        return self._strategy.num_replicas_in_sync

    @property
    def _type_spec(self) -> _HostIteratorSpec:
        return _HostIteratorSpec(self._iterator._type_spec, self._strategy)

    def get_next(self, name: str | None = None) -> Any:
        """The next batch, cut up.

        Raises:
            tf.errors.OutOfRangeError: there is none.
        """
        del name
        with tf.device(_HOST_DEVICE):
            return self._cut(self._iterator.get_next())

    def get_next_as_optional(self) -> Any:
        """The next batch, cut up, as a `tf.experimental.Optional`."""
        with tf.device(_HOST_DEVICE):
            batch = self._iterator.get_next_as_optional()
            return tf.cond(
                batch.has_value(),
                lambda: tf.experimental.Optional.from_value(
                    self._cut(batch.get_value())
                ),
                lambda: tf.experimental.Optional.empty(self.element_spec),
            )

    def _cut(self, batch: Any) -> Any:
        return split_rows(batch, self._num_parts)


def _untuned(create: Callable[..., Any]) -> Callable[..., Any]:
    options = tf.data.Options()
    options.autotune.enabled = False
    return lambda *args: create(*args).with_options(options)
