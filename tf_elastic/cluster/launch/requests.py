"""Has another thread do something, and waits for it."""

import concurrent.futures
import contextlib
import queue
from collections.abc import Callable
from typing import Any

from tf_elastic.cluster.errors import LocalClusterError


class Requests:
    """What a thread is asked for by others."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """Has the thread call something, and waits for it."""
        future: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._requests.put((future, function, args))
        try:
            future.result(timeout=60)
        except concurrent.futures.TimeoutError as error:
            raise LocalClusterError(
                "Waited 60 s for the thread that watches the cluster. It "
                "will be left alone; `stop` ends the processes."
            ) from error

    def serve(self, seconds: float) -> None:
        """Does what was asked for, or waits so long for it."""
        with contextlib.suppress(queue.Empty):
            future, function, args = self._requests.get(timeout=seconds)
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)
