"""Workers that take turns on one device."""

import weakref
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_elastic.strategies.stores.device_store import workers_arguments
from tf_elastic.strategies.stores.masters import exact_center
from tf_elastic.strategies.stores.masters import masters_of
from tf_elastic.strategies.stores.masters import set_all_copies
from tf_elastic.strategies.stores.rows import read_row
from tf_elastic.strategies.stores.rows import write_row
from tf_elastic.strategies.stores.worker_store import Create
from tf_elastic.strategies.stores.worker_store import TensorLike


class Bank:
    """p workers on one device, of which one at a time trains.

    It is that one's turn: the live copies of all variables hold its values,
    and replicas train on them as if it were alone. The others wait in rows of
    one variable of shape (p, ...) for each of the model's and the optimizer's.

    Args:
        num_workers: the number of workers, p.

    Raises:
        ValueError: `num_workers` is no positive integer.

    Example:

    >>> import tensorflow as tf
    >>> from tf_elastic.strategies import stores
    >>> bank = stores.Bank(3)
    >>> store = bank.make(
    ...     lambda **kwargs: [tf.Variable(**kwargs)],
    ...     {"initial_value": [0.0, 0.0]},
    ...     has_center=lambda dtype: False,
    ... )
    >>> _ = store.live[0].assign([1.0, 2.0])  # a step of worker 0
    >>> bank.give_turn_to(2)
    >>> store.live[0].numpy().tolist()
    [0.0, 0.0]
    >>> [value.numpy().tolist() for value in store.values()]
    [[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]]
    """

    def __init__(self, num_workers: int) -> None:
        if (
            not isinstance(num_workers, int)
            or isinstance(num_workers, bool)
            or num_workers < 1
        ):
            raise ValueError(
                "`num_workers` must be a positive integer. "
                f"Received: num_workers={num_workers!r}."
            )
        self.num_workers = num_workers
        with tf.init_scope(), tf.device("/device:CPU:0"):
            self._turn = tf.Variable(0, trainable=False, dtype=tf.int64)
        self._stores: list[weakref.ref[BankStore]] = []

    @property
    def turn(self) -> tf.Tensor:
        """The worker whose turn it is, int64 scalar."""
        return self._turn.read_value()

    def make(
        self,
        create: Create,
        arguments: Mapping[str, Any],
        has_center: Callable[[tf.DType], bool],
    ) -> "BankStore":
        """Makes a store whose workers, and center, have the initial value.

        Args:
            create: makes one variable on the device, of `arguments`.
            arguments: of a variable creator.
            has_center: whether a variable of a dtype has a center.

        Raises:
            ValueError: `create` makes variables on several devices.
        """
        first = create(**arguments)
        if len(first) != 1:
            raise ValueError(
                "A bank of workers is on one device. Received: variables on "
                f"{len(first)} devices. Give the strategy one of them."
            )
        center, live = None, first[0]
        if has_center(live.dtype):
            center = live
            (live,) = create(**workers_arguments(arguments, center))
        # One row more, where a new life of a worker begins anew by itself.
        keeps_first = (
            center is None and live.dtype.is_floating and live.shape.rank > 0
        )
        rows = (self.num_workers + keeps_first, *live.shape)
        (bank,) = create(
            **{
                **arguments,
                # Memory of its own: what is shared is copied at the first
                # assignment to a row.
                "initial_value": lambda: tf.broadcast_to(live, rows),
                "name": f"{arguments.get('name') or 'Variable'}/workers",
                "shape": None,
                "trainable": False,
            }
        )
        store = BankStore(
            self,
            bank,
            live,
            center,
            keeps_first,
            masters_of([center], create, arguments)
            if center is not None
            else (),
        )
        self._stores = [weakref.ref(each) for each in self._alive()]
        self._stores.append(weakref.ref(store))
        return store

    def give_turn_to(self, worker: int | tf.Tensor) -> None:
        """Puts the live values back into their rows, and takes others out.

        In a `tf.function` it costs two copies of one worker's values, whatever
        the number of workers, and is traced once for all of them.

        Args:
            worker: its number, from 0 to p - 1; integer scalar, or a tensor of
                one.

        Raises:
            tf.errors.InvalidArgumentError: there is no such worker; nothing
                has changed.
        """
        worker = tf.cast(worker, tf.int64)
        is_one = tf.logical_and(worker >= 0, worker < self.num_workers)
        message = f"The bank has {self.num_workers} workers. Received: worker="
        check = tf.debugging.Assert(is_one, [message, worker])
        with tf.control_dependencies([] if check is None else [check]):
            self.end_turn()
            self.begin_turn(worker)

    def end_turn(self) -> None:
        """Puts the live values back into the rows of whose turn it was.

        Until `begin_turn` all rows are as the workers are.
        """
        turn = self.turn
        for store in self._alive():
            store.put_live(turn)

    def begin_turn(self, worker: tf.Tensor) -> None:
        """Makes a worker's values live.

        Args:
            worker: its number, int64 scalar.
        """
        for store in self._alive():
            store.take_live(worker)
        self._turn.assign(worker, read_value=False)

    def forget(self, worker: tf.Tensor) -> None:
        """Sets what a worker has without a center to what it was at first.

        Numbers such as its clock stay. Between `end_turn` and `begin_turn`.

        Args:
            worker: its number, int64 scalar.
        """
        first = tf.constant(self.num_workers, tf.int64)
        for store in self._alive():
            if store.keeps_first:
                store.put(worker, store.row(first))

    def _alive(self) -> list["BankStore"]:
        stores = [reference() for reference in self._stores]
        return [store for store in stores if store is not None]


class BankStore:
    """One variable of a `Bank`: its live copy, and a row for each worker.

    The row of the worker whose turn it is holds what was there when its turn
    began, so rows are never read but by this class. It reads and assigns
    single rows of the variable and never the whole of it, which would be
    copied then.

    Args:
        bank: whose turn it is.
        rows: the variable of shape (p, ...), not trainable.
        live: the variable that is trained on, on the same device.
        center: the center, there too; None if there is none.
        keeps_first: whether a last row has the first value.
        masters: of the center: one, or none.
    """

    def __init__(
        self,
        bank: Bank,
        rows: tf.Variable,
        live: tf.Variable,
        center: tf.Variable | None,
        keeps_first: bool,
        masters: Sequence[tf.Variable] = (),
    ) -> None:
        self.keeps_first = keeps_first
        self._bank = bank
        self._rows = rows
        self.live = (live,)
        self.centers = () if center is None else (center,)
        self.masters = tuple(masters)

    @property
    def num_workers(self) -> int:
        """See `WorkerStore`."""
        return self._bank.num_workers

    @property
    def shown(self) -> tuple[tf.Variable, ...]:
        """The center if there is one, else whose turn it is."""
        return self.centers or self.live

    def put_live(self, worker: tf.Tensor) -> None:
        """Puts the live value into a worker's row.

        Args:
            worker: whose it is, int64 scalar.
        """
        self.put(worker, self.live[0].read_value())

    def take_live(self, worker: tf.Tensor) -> None:
        """Makes what is in a worker's row the live value.

        Args:
            worker: whose it is, int64 scalar.
        """
        self.live[0].assign(self.row(worker), read_value=False)

    def read(self, worker: int | tf.Tensor) -> tf.Tensor:
        """See `WorkerStore`; the number may be an integer tensor."""
        worker = tf.cast(worker, tf.int64)
        is_live = tf.equal(worker, self._bank.turn)
        return tf.where(is_live, self.live[0].read_value(), self.row(worker))

    def assign(
        self, worker: int | tf.Tensor, value: TensorLike
    ) -> tf.Operation | None:
        """See `WorkerStore`; the number may be an integer tensor."""
        live = self.live[0]
        worker = tf.cast(worker, tf.int64)
        value = tf.convert_to_tensor(value, live.dtype)
        put = self.put(worker, value)
        is_live = tf.equal(worker, self._bank.turn)
        kept = tf.where(is_live, value, live.read_value())
        return tf.group(put, live.assign(kept, read_value=False))

    def center_at(self, worker: int) -> tf.Variable:
        """See `WorkerStore`."""
        del worker  # All are on one device.
        return self.centers[0]

    def read_center(self, worker: int) -> tf.Tensor:
        """See `WorkerStore`."""
        del worker
        return exact_center(*self.centers, next(iter(self.masters), None))

    def values(self) -> list[tf.Tensor]:
        """See `WorkerStore`."""
        return [self.read(worker) for worker in range(self.num_workers)]

    def set_all(self, value: TensorLike) -> None:
        """See `WorkerStore`."""
        live = self.live[0]
        value = tf.convert_to_tensor(value, live.dtype)
        self._for_each(lambda worker: self.put(worker, value))
        live.assign(value, read_value=False)
        self.set_center(value)

    def set_center(self, value: TensorLike) -> None:
        """See `WorkerStore`."""
        set_all_copies(self.centers, self.masters, value)

    def update_all(self, update: Callable[[int, tf.Variable], object]) -> None:
        """See `WorkerStore`; each worker's value is live for its update."""
        live = self.live[0]
        turn = self._bank.turn
        self.put(turn, live.read_value())

        def update_row(worker: tf.Tensor) -> None:
            live.assign(self.row(worker), read_value=False)
            with tf.device(live.device):
                update(0, live)
            self.put(worker, live.read_value())

        self._for_each(update_row)
        live.assign(self.row(turn), read_value=False)
        for center in self.centers:
            with tf.device(center.device):
                update(0, center)

    def _for_each(self, function: Callable[[tf.Tensor], object]) -> None:
        """Calls a function once for each worker; in a graph, in a loop."""

        def body(worker: tf.Tensor) -> list[tf.Tensor]:
            function(worker)
            return [worker + 1]

        last = tf.constant(self.num_workers, tf.int64)
        tf.while_loop(
            lambda worker: worker < last,
            body,
            [tf.constant(0, tf.int64)],
            parallel_iterations=1,
        )

    def row(self, worker: tf.Tensor) -> tf.Tensor:
        """What waits in a worker's row.

        Args:
            worker: its number, int64 scalar.
        """
        return read_row(self._rows, worker)

    def put(self, worker: tf.Tensor, value: tf.Tensor) -> tf.Operation:
        """Sets a worker's row.

        Args:
            worker: its number, int64 scalar.
            value: of the variable's shape, rounded to its dtype.
        """
        value = tf.cast(value, self._rows.dtype)
        return write_row(self._rows, worker, value)
