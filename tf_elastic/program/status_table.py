"""The live table of `--status`."""

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tf_elastic.program import console

if TYPE_CHECKING:
    from tf_elastic.cluster.launch.local import LocalCluster

_EVERY_S = 1.0
_EVERY_S_IN_A_FILE = 10.0


@contextlib.contextmanager
def shown(cluster: "LocalCluster", board: console.Board) -> Iterator[None]:
    """Inside, a table of the cluster is on the board, always new.

    The last one is of the end.

    Args:
        cluster: a `LocalCluster` that was started.
        board: where the chief's output goes, too.
    """
    from tf_elastic.cluster import watch
    from tf_elastic.cluster.launch.security import Security
    from tf_elastic.cluster.worker.client import CenterClient

    cluster_client = CenterClient(
        cluster.centers, None, False, 0, Security(token=cluster.token)
    )
    cluster_watch = watch.ClusterWatch(cluster_client.status)
    over = threading.Event()
    is_terminal = sys.stdout.isatty()

    def show() -> None:
        is_last = False
        while not is_last:
            is_last = over.wait(_EVERY_S if is_terminal else _EVERY_S_IN_A_FILE)
            board.show(watch.table(cluster_watch.view()))

    thread = threading.Thread(target=show, name="status", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=10)
        cluster_client.leave()
