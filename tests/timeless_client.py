"""A worker's client in one thread, for which no time passes.

Its pool does what it is given at once, hearts beat when they are told to
(`signal`), whoever would sleep goes on, and patience ends after so many looks,
not seconds.
"""

import concurrent.futures
import contextlib
from unittest import mock

from tf_elastic.cluster import client
from tf_elastic.cluster import delivery
from tf_elastic.cluster import membership

_MOST_LOOKS = 8


class _AtOnce:
    """A pool without threads."""

    def submit(self, do, *args):
        future = concurrent.futures.Future()
        try:
            future.set_result(do(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, **options):
        pass


class _Looks:
    """A `Patience` that is over after so many looks."""

    def __init__(self, seconds):
        self.seconds = seconds
        self._left = _MOST_LOOKS

    def give_up(self):
        self._left = 0

    def is_over(self):
        self._left -= 1
        return self._left < 0


class _Awake:
    """An event that nobody waits for."""

    def __init__(self):
        self._is_set = False

    def set(self):
        self._is_set = True

    def is_set(self):
        return self._is_set

    def wait(self, seconds):
        return self._is_set


@contextlib.contextmanager
def without_time():
    """Patience of workers is counted in looks."""
    with contextlib.ExitStack() as end:
        for module in (membership, delivery, client):
            end.enter_context(mock.patch.object(module, "Patience", _Looks))
        yield


def of_one_thread(line, *args):
    """A client that has not joined, whose connections `line` makes.

    Args:
        line: called in place of `Connection`.
        *args: of `CenterClient`.
    """
    with mock.patch.object(membership, "Connection", line):
        # Who is late is asked by time.
        made = client.CenterClient(*args, max_lag=None)
    made._pool.shutdown()
    made._pool = _AtOnce()
    made._stopped = _Awake()
    made._hearts = [mock.Mock()]  # There is one, and no other is started.
    return made
