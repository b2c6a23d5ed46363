"""Stores: where the workers' values of a variable live."""

from tf_elastic.strategies.stores.bank_store import Bank
from tf_elastic.strategies.stores.bank_store import BankStore
from tf_elastic.strategies.stores.device_store import DeviceStore
from tf_elastic.strategies.stores.nested_store import NestedStore
from tf_elastic.strategies.stores.worker_store import Create
from tf_elastic.strategies.stores.worker_store import TensorLike
from tf_elastic.strategies.stores.worker_store import WorkerStore

__all__ = [
    "Bank",
    "BankStore",
    "Create",
    "DeviceStore",
    "NestedStore",
    "TensorLike",
    "WorkerStore",
]
