"""A worker's client in one thread, for which no time passes by itself.

Its pool does what it is given at once, hearts beat when they are told to
(`signal`), and whoever would sleep moves the clock and goes on.
"""

import concurrent.futures

from tf_elastic.cluster.worker import client
from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.cluster.worker.surroundings import Surroundings

# A worker looks a few times for what is not there, and then goes on.
IMPATIENT = Timeouts(join_s=1.5, exchange_s=1.5)


class AtOnce:
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


class Clock:
    """Goes on when somebody sleeps."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


class Awake:
    """An event; whoever waits for it moves the clock instead."""

    def __init__(self, clock):
        self._clock = clock
        self._is_set = False

    def set(self):
        self._is_set = True

    def is_set(self):
        return self._is_set

    def wait(self, seconds):
        if not self._is_set:
            self._clock.seconds += seconds
        return self._is_set


def of_one_thread(line, *args, clock=None, timeouts=IMPATIENT):
    """A client that has not joined, whose connections `line` makes.

    Args:
        line: called in place of `Connection`.
        *args: of `CenterClient`.
        clock: to go by; None for one of its own.
        timeouts: of the client.
    """
    clock = clock or Clock()
    around = Surroundings(
        now=clock,
        connect=line,
        pool=AtOnce(),
        stopped=Awake(clock),
        beats=False,
    )
    # Messages are numbered; nobody is to ask for more of them.
    return client.CenterClient(
        *args, timeouts=timeouts, max_lag=None, around=around
    )
