"""Snapshots of a center on disk, so that a new server goes on where one died.

A folder holds the newest few generations, a file for each. A file appears
under its name only when it is whole and on the disk, and says by a checksum
whether it still is. Nothing is pickled: reading a file runs no code of it.

See `snapshot_file` for the file.
"""

import contextlib
import fcntl
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from tf_elastic import files
from tf_elastic.cluster.center import snapshot_file

_FILE_NAME = re.compile(r"center-(\d{6}|[1-9]\d{6,})\.snapshot")
_DAMAGED = ".damaged"
_LOCK_NAME = "center.lock"


class SnapshotError(RuntimeError):
    """A snapshot could not be written or read, or its folder is in use."""


class Skipped(NamedTuple):
    """A damaged file that `SnapshotStore.load` passed over."""

    file: pathlib.Path
    reason: str


class Snapshot(NamedTuple):
    """What `SnapshotStore.load` found."""

    state: dict[str, Any]  # as saved; arrays are writable
    generation: int
    file: pathlib.Path
    skipped: list[Skipped]  # newer first


class SnapshotStore:
    """Saves and loads the generations of one center in one folder.

    The folder belongs to one process at a time. It is locked from here until
    `close`, or until the process ends in whatever way. (A child that was
    forked without starting another program keeps the lock as well.) If it is
    removed meanwhile, the next save makes and locks it anew. Only the user
    that writes the files can read them.

    Args:
        folder: where the files are; made if it is missing.
        keep: how many generations stay, >= 1, default 2. With 1, a snapshot
            that a failing disk has damaged has no older one behind it.

    Raises:
        ValueError: `keep` < 1.
        SnapshotError: the folder is in use by another process, or cannot be
            made or written.

    Example:

    >>> import tempfile
    >>> import numpy as np
    >>> with (
    ...     tempfile.TemporaryDirectory() as folder,
    ...     SnapshotStore(folder) as store,
    ... ):
    ...     _ = store.save({"center": np.ones(3), "pushes": 7}, generation=1)
    ...     store.load().state
    {'center': array([1., 1., 1.]), 'pushes': 7}
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"keep must be >= 1. Received: keep={keep}.")
        self._folder = pathlib.Path(folder).absolute()
        self._keep = keep
        self._damaged: set[int] = set()
        self._lock: int | None = None
        try:
            self._take_lock()
            # Of a process that died while it saved. Nobody else writes here.
            for file in self._folder.glob(".partial-center-*.snapshot"):
                file.unlink()
        except OSError as error:
            self.close()
            raise SnapshotError(
                f"The folder of snapshots {self._folder} cannot be used: "
                f"{error.strerror or error}. Choose one that this process may "
                "write to."
            ) from error

    def __enter__(self) -> "SnapshotStore":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Gives the folder free. Calling it again does nothing."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def generations(self) -> list[int]:
        """The generations that have a file, whole or not, newest first."""
        try:
            names = os.listdir(self._folder)
        except OSError as error:
            raise SnapshotError(
                f"The folder of snapshots {self._folder} cannot be read: "
                f"{error.strerror or error}."
            ) from error
        found = map(_FILE_NAME.fullmatch, names)
        return sorted({int(match[1]) for match in found if match}, reverse=True)

    def has(self, generation: int) -> bool:
        """Whether the folder is the one that was locked, with this file."""
        with contextlib.suppress(OSError):
            return self._is_locked() and self._file(generation).exists()
        return False

    def save(self, state: Mapping[str, Any], generation: int) -> pathlib.Path:
        """Writes a generation; returns once it is on the disk.

        Older generations beyond `keep` are removed afterwards. Damaged ones
        count as none, and a damaged one with a higher number is renamed to
        end in ``.damaged``.

        Args:
            state: by name, NumPy arrays (bool, integer, floating, bfloat16;
                any shape) and values that JSON can hold. As in JSON, tuples
                come back as lists and the keys of dictionaries as text. The
                arrays must not change meanwhile.
            generation: >= 0, no smaller than that of any whole file here. A
                file of the same generation is replaced.

        Returns:
            The file that was written.

        Raises:
            TypeError: a value that can be neither stored nor put in JSON.
            ValueError: `generation` is negative, or the folder holds a newer
                one that is whole.
            SnapshotError: the file could not be written, for example because
                the disk is full. The earlier generations are as they were.
        """
        if self._lock is None:
            raise ValueError("This SnapshotStore is closed; make a new one.")
        contents = snapshot_file.contents(state, generation)
        file = self._file(generation)
        try:
            self._keep_lock()
            self._check_generation(generation)
            with files.whole(file) as partial:
                snapshot_file.write(partial, contents)
        except OSError as error:
            there = []
            with contextlib.suppress(SnapshotError):
                there = self.generations()
            raise SnapshotError(
                f"Generation {generation} of the center ({contents.length} "
                "bytes) "
                f"could not be saved in {self._folder}: {_reason(error)}. "
                + (
                    f"Generation {there[0]} is still there, and training "
                    "would go on from it"
                    if there
                    else "There is no earlier one, and training would begin "
                    "anew"
                )
                + " if the server died now. The center itself is unharmed; "
                "make room or mend the disk, and the next save can succeed."
            ) from error
        self._damaged.discard(generation)
        with contextlib.suppress(SnapshotError):
            self._remove_older(generation)
        return file

    def load(self) -> Snapshot | None:
        """Reads the newest generation that is whole.

        Returns:
            A `Snapshot`, whose `skipped` names newer files that are damaged;
            None if the folder holds no snapshot at all.

        Raises:
            SnapshotError: there are snapshots, but none is whole. To begin
                anew in spite of them is for a person to decide.
        """
        found, skipped = self._newest()
        if found is not None or not skipped:
            return found
        listed = "; ".join(
            f"{item.file.name}: {item.reason}" for item in skipped
        )
        raise SnapshotError(
            f"No snapshot in {self._folder} is whole ({listed}). To begin "
            "anew, move these files away or choose another folder."
        )

    def _newest(self, above: int = -1) -> tuple[Snapshot | None, list[Skipped]]:
        """The newest whole generation above one, and what is passed over."""
        skipped: list[Skipped] = []
        for generation in self.generations():
            if generation <= above:
                break
            file = self._file(generation)
            try:
                state = snapshot_file.read(file, generation)
            except FileNotFoundError:
                continue
            except OSError as error:
                reason = f"it cannot be read: {error.strerror or error}"
            except snapshot_file.DamagedError as error:
                reason = str(error)
            else:
                return Snapshot(state, generation, file, skipped), skipped
            self._damaged.add(generation)
            skipped.append(Skipped(file, reason))
        return None, skipped

    def _file(self, generation: int) -> pathlib.Path:
        return self._folder / f"center-{generation:06d}.snapshot"

    def _is_locked(self) -> bool:
        try:
            there = os.stat(self._folder / _LOCK_NAME)
        except FileNotFoundError:
            return False
        return self._lock is not None and os.path.samestat(
            there, os.fstat(self._lock)
        )

    def _keep_lock(self) -> None:
        """Locks the folder again if it is not the one that was locked."""
        if self._is_locked():
            return
        former = self._lock
        self._take_lock()
        if former is not None:
            os.close(former)

    def _take_lock(self) -> None:
        """Makes the folder, if there is none, and locks it."""
        self._folder.mkdir(0o700, parents=True, exist_ok=True)
        path = self._folder / _LOCK_NAME
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        lock = os.open(path, flags, snapshot_file.OWNER)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        except BlockingIOError as error:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace")
            os.close(lock)
            raise SnapshotError(
                f"The folder of snapshots {self._folder} is in use by another "
                f"center server, process {holder or 'unknown'}. Received: "
                f"a second one, process {os.getpid()}. Give each its own "
                "folder, or stop the other first."
            ) from error
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock

    def _check_generation(self, generation: int) -> None:
        if generation < 0:
            raise ValueError(
                f"generation must be >= 0. Received: generation={generation}."
            )
        newer, _ = self._newest(above=generation)
        if newer is not None:
            raise ValueError(
                "generation must not be smaller than the newest one of the "
                f"folder. Received: generation={generation}; {self._folder} "
                f"holds {newer.generation}. Load it first, or choose another "
                "folder."
            )

    def _remove_older(self, generation: int) -> None:
        """Tidies up. What fails here is tried again by the next save."""
        kept = 0
        for other in self.generations():
            file = self._file(other)
            with contextlib.suppress(OSError):
                if other > generation:
                    os.replace(file, file.with_name(file.name + _DAMAGED))
                elif other not in self._damaged and kept < self._keep:
                    kept += 1
                else:
                    file.unlink()


def _reason(error: OSError) -> str:
    cause = error.__cause__  # Of a file that was not written.
    if isinstance(cause, OSError):
        error = cause
    return error.strerror or str(error)
