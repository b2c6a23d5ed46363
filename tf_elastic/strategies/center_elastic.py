"""A worker's elastic exchange with the center of a cluster."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_elastic.cluster.blocks import blocks
from tf_elastic.core import rules
from tf_elastic.core.arrays import wide_dtype
from tf_elastic.optimizers.compiled import is_compiled_for
from tf_elastic.optimizers.exchange_spec import ExchangeSpec
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.strategies.center_exchange import CenterExchange
from tf_elastic.strategies.center_exchange import Tensors


class ElasticCenterExchange(CenterExchange):
    """Points leave, differences come back: elastic averaging.

    Args:
        spec: what is exchanged, and the rates.
        **kwargs: of `CenterExchange`.
    """

    def __init__(self, spec: ExchangeSpec, **kwargs: Any) -> None:
        super().__init__(spec.parameters, **kwargs)
        self._spec = spec
        device_type = tf.DeviceSpec.from_string(self._devices[0]).device_type
        self._is_on_host = device_type == "CPU"
        self.only_reads = all(
            is_compiled_for(device, self._jit_compile)
            for device in self._devices
        )
        self._pull = [
            self._compile(device, self._pull_on(i))
            for i, device in enumerate(self._devices)
        ]

    def may_be_followed_by(self, spec: Spec) -> bool:
        """Whether the center goes on by another optimizer's rule."""
        return bool(spec.rule == self._spec.rule)

    def outgoing(self) -> Tensors:
        """What the worker sends, and its statistics, for `laid_out`.

        In the memory of the host they need no copy of their own.
        """
        if not self._is_on_host:
            return super().outgoing()
        return [
            *(t for p in self.parameters for t in p.stored(0)),
            *(v.store.read(0) for v in self._statistics),
        ]

    def laid_out(
        self,
        outgoing: Sequence[np.ndarray],
        room: Callable[[], list[np.ndarray]],
    ) -> list[np.ndarray]:
        """Makes of what `outgoing` gave a flat array for each section."""
        if not self._is_on_host:
            return list(outgoing)
        flat = room()
        left = [value.reshape(-1) for value in outgoing]
        stored: list[tuple[Callable, list[np.ndarray]]] = []
        for parameter in self.parameters:
            count = 2 if parameter.looks_ahead else 1
            stored.append((parameter.point_of, left[:count]))
            del left[:count]
        stored += [(lambda values: values[0], [value]) for value in left]
        for section, array in zip(self.layout.sections, flat, strict=True):
            begin = 0
            for k in section.members:
                point_of, values = stored[k]
                end = begin + values[0].size
                for part in blocks(values[0].size):
                    array[begin:end][part] = point_of([v[part] for v in values])
                begin = end
        return flat

    def numbers(self, clock: tf.Tensor) -> tf.Tensor:
        """What the rates depend on, beside p and the clock."""
        return self._spec.numbers(clock)

    def rates(
        self, num_workers: int, clock: int, numbers: Sequence[float]
    ) -> rules.Rates:
        """Alpha and beta."""
        return self._spec.rates(num_workers, clock, [float(n) for n in numbers])

    def _obey(self, moving_rate: tf.Tensor, flat: Tensors) -> None:
        for pull_on_device in self._pull:
            pull_on_device(moving_rate, flat)

    def _pull_on(self, i: int) -> Callable[..., Tensors]:
        def pull(moving_rate: tf.Tensor, flat: Tensors) -> Tensors:
            differences = self._cut(flat)
            for parameter, difference in zip(
                self.parameters, differences, strict=False
            ):
                store = parameter.variable.store
                x = store.read(i)
                dtype = x.dtype.name
                rule = rules.for_dtype(self._spec.rule, dtype)
                rate = tf.cast(moving_rate, wide_dtype(dtype))
                settled = rule.settle(x, difference, {"moving_rate": rate})
                store.assign(i, settled)
            return []

        return pull

    def _begin_anew(self, i: int) -> None:
        for parameter in self.parameters:
            if parameter.velocity is not None:
                store = parameter.velocity.store
                store.assign(i, tf.zeros_like(store.read(i)))
