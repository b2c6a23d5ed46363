"""Files that are written whole, or not at all."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


class FileNotWrittenError(OSError):
    """A file could not be written; the message is a sentence that says so."""


@contextlib.contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[str]:
    """Gives a path to write to; what is written there then becomes `path`.

    Whoever looks finds the file of before or the new one, also after a kill or
    a loss of power, and on a full disk the one of before. The folder is made.

    Args:
        path: the file. The path that is given is beside it, and ends as it
            does.

    Raises:
        FileNotWrittenError: the disk is full, say.
    """
    target = pathlib.Path(path).absolute()
    # What a kill leaves is written over by the next one.
    partial = target.with_name(f".partial-{target.name}")
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            yield os.fspath(partial)
            _sync(partial)
            os.replace(partial, target)
            with contextlib.suppress(OSError):  # Not every disk has it.
                _sync(target.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
    except OSError as error:
        there = (
            "The one of before is as it was"
            if os.path.exists(target)
            else "There was none before"
        )
        raise FileNotWrittenError(
            f"{os.fspath(path)} could not be written: {_reason(error)}. "
            f"{there}. Make room there, or choose another place."
        ) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file whole, in UTF-8; see `whole`."""
    with whole(path) as partial:
        pathlib.Path(partial).write_bytes(text.encode())


def copy(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Copies a file, whole; see `whole`."""
    with whole(path) as partial, open(source, "rb") as before:
        with open(partial, "wb") as after:
            while piece := before.read(1 << 20):
                after.write(piece)


def _reason(error: OSError) -> str:
    if error.errno is not None:
        return os.strerror(error.errno)
    return str(error).split("\n", 1)[0]


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
