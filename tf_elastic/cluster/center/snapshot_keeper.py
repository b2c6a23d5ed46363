"""Takes snapshots of a center server as long as it serves."""

import threading
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster.center.groups import Groups
from tf_elastic.cluster.center.node import Node
from tf_elastic.cluster.center.snapshots import SnapshotError
from tf_elastic.cluster.center.snapshots import SnapshotStore
from tf_elastic.cluster.transport import wire


class Snapshots:
    """Takes snapshots of a server's nodes in a thread of its own.

    Args:
        nodes: what to keep.
        folder: where; locked as long as this object lives.
        interval_s: seconds between two.

    Raises:
        SnapshotError: another server uses the folder.
    """

    def __init__(
        self, nodes: Node | Groups, folder: str, interval_s: float
    ) -> None:
        self._groups = Groups.of(nodes)
        self._store = SnapshotStore(folder)
        self._interval_s = interval_s
        self._saved: list[Any] = []  # of each node version and registry
        self._generation = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="snapshots", daemon=True
        )

    def restore(self) -> bool:
        """Loads the newest whole snapshot into the nodes, if there is one."""
        found = self._store.load()
        if found is None:
            return False
        for skipped in found.skipped:
            logging.warning(
                "snapshot %s is damaged and passed over: %s",
                skipped.file,
                skipped.reason,
            )
        try:
            for group in range(wire.MAX_GROUPS):
                meta, arrays = _of_group(found.state, group)
                if meta is not None:
                    self._groups[group].restore(meta, arrays)
                    self._saved.append((meta["version"], meta["registry"]))
            if not self._saved:
                raise KeyError("shard")
        except (
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
            errors.MessageError,
        ) as error:
            raise SnapshotError(
                f"{found.file} is whole, but no snapshot of a center of this "
                f"release: {error!r}. Use the release that has written it, or "
                "another folder."
            ) from error
        self._generation = found.generation
        return True

    def start(self) -> None:
        """Begins to take snapshots."""
        self._thread.start()

    def stop(self) -> None:
        """Takes a last one."""
        self._stopped.set()
        self._thread.join(timeout=60)
        self._store.close()

    def is_alive(self) -> bool:
        """Whether the thread lives."""
        return self._thread.is_alive()

    def _run(self) -> None:
        going_on = True
        while going_on:
            going_on = not self._stopped.wait(self._interval_s)
            try:
                self._save()
            except Exception as error:
                reason = str(error)
                if not isinstance(error, SnapshotError):
                    logging.exception("a snapshot has failed:")
                    reason = f"No snapshot was taken: {error!r}."
                logging.error(
                    "%s Serving goes on; the next try is in %g s.",
                    reason,
                    self._interval_s,
                )

    def _save(self) -> None:
        state: dict[str, Any] = {}
        now = []
        for group, node in enumerate(self._groups):
            taken = node.snapshot()
            if taken is not None:
                state.update(_named(group, *taken))
                now.append((taken[0]["version"], taken[0]["registry"]))
        if not state:
            return
        if now == self._saved and self._store.has(self._generation):
            return
        self._store.save(state, self._generation + 1)
        self._generation += 1
        self._saved = now


def _prefix(group: int) -> str:
    """What the names of a group begin with in a snapshot."""
    return f"group.{group}." if group else ""


def _named(group: int, meta: Any, arrays: Sequence[Any]) -> dict[str, Any]:
    """The state of a group's node, by the names of a snapshot."""
    prefix = _prefix(group)
    sections = {f"{prefix}section.{k}": a for k, a in enumerate(arrays)}
    return {f"{prefix}shard": meta, **sections}


def _of_group(state: Mapping[str, Any], group: int) -> tuple[Any, list[Any]]:
    """What `_named` was given; None and nothing if it is not there."""
    prefix = _prefix(group)
    arrays: list[Any] = []
    while f"{prefix}section.{len(arrays)}" in state:
        arrays.append(state[f"{prefix}section.{len(arrays)}"])
    return state.get(f"{prefix}shard"), arrays
