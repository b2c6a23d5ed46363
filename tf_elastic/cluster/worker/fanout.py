"""Something done with all center servers at once."""

import concurrent.futures
from collections.abc import Callable
from collections.abc import Sequence
from typing import Generic
from typing import TypeVar

from tf_elastic.cluster import errors
from tf_elastic.cluster.worker.patience import Patience

S = TypeVar("S")
T = TypeVar("T")

# A worker goes on after these, if the other servers tell of nothing worse.
_GOES_ON = (
    *errors.BEGUN_ANEW,
    errors.CenterUnavailableError,
    errors.LostSlotError,
)


class Fanout(Generic[S]):
    """Does something with all of a few things at once, and waits for all.

    Args:
        each: what it is done with.
        pool: threads, as many as there are things; None for some of its own.
    """

    def __init__(
        self,
        each: Sequence[S],
        pool: concurrent.futures.Executor | None = None,
    ) -> None:
        self.each = each
        self._pool = pool or concurrent.futures.ThreadPoolExecutor(
            len(each), thread_name_prefix="center"
        )

    def do(
        self, do: Callable[[S], T], patience: Patience | None = None
    ) -> list[T]:
        """Does it, and waits.

        Of several errors the one is raised after which nothing can go on.

        Args:
            do: called with each, in threads.
            patience: that ends for all after an error of one.

        Returns:
            What came of each, in their order.
        """
        futures = [self._pool.submit(do, one) for one in self.each]
        for future in concurrent.futures.as_completed(futures):
            if patience and future.exception():
                patience.give_up()
        found = [error for f in futures if (error := f.exception())]
        if found:
            raise min(found, key=lambda e: isinstance(e, _GOES_ON))
        return [future.result() for future in futures]

    def close(self) -> None:
        """Ends the threads, when they have done what they do."""
        self._pool.shutdown(wait=False, cancel_futures=True)
