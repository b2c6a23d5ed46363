"""Variables that are added up when they are read, such as those of metrics."""

from collections.abc import Callable
from typing import Any

from tf_elastic import compat
from tf_elastic.strategies.worker_variable import update_if_rows


class OnReadVariable(compat.SyncOnReadVariable):  # type: ignore[misc]
    """TensorFlow's, which an idle replica leaves as it is."""

    def _update_replica(
        self, update_fn: Callable[..., Any], value: Any, **kwargs: Any
    ) -> Any:
        copy = self._get_on_device_or_primary()
        return update_if_rows(update_fn, copy, value, **kwargs)
