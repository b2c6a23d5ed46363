"""What is known at the end of each epoch of when to cut the rate, in a file."""

import json
import os
from typing import Any
from typing import NamedTuple

from tf_elastic import files
from tf_elastic.core import stagnation


class CutState(NamedTuple):
    """What decides on the next cut."""

    known: stagnation.Stagnation = stagnation.Stagnation()
    cuts_done: int = 0
    # Of the window that has begun.
    total: float = 0.0
    batches: int = 0

    def with_batches(self, total: float, batches: int) -> "CutState":
        """With more batches in the window that has begun."""
        return self._replace(
            total=self.total + total, batches=self.batches + batches
        )


def write(path: str | os.PathLike[str], epochs: int, state: CutState) -> None:
    """Adds what is known after so many epochs; what was of later ones goes.

    Raises:
        FileNotWrittenError: the file is as it was.
        ValueError: there is another file of this name.
    """
    rows = [row for row in _rows(path) if row["epochs"] < epochs]
    rows.append(
        {
            "epochs": epochs,
            **state.known._asdict(),
            "cuts_done": state.cuts_done,
            "total": state.total,
            "batches": state.batches,
        }
    )
    files.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def read(path: str | os.PathLike[str], epochs: int) -> CutState:
    """What was known after so many epochs, or after the last ones before.

    Raises:
        ValueError: the file is not one that `write` has written.
    """
    rows = [row for row in _rows(path) if row["epochs"] <= epochs]
    if not rows:
        return CutState()
    last = rows[-1]
    return CutState(
        stagnation.Stagnation(last["best"], last["waited"]),
        last["cuts_done"],
        last["total"],
        last["batches"],
    )


_KINDS: dict[str, tuple[type, ...]] = {
    "epochs": (int,),
    "best": (int, float),
    "waited": (int,),
    "cuts_done": (int,),
    "total": (int, float),
    "batches": (int,),
}


def _rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of the file, none if there is no file."""
    try:
        with open(path, encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
    except FileNotFoundError:
        return []
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise _not_ours(path) from error
    for row in rows:
        if not (
            isinstance(row, dict)
            and row.keys() == _KINDS.keys()
            and all(type(row[name]) in kinds for name, kinds in _KINDS.items())
        ):
            raise _not_ours(path)
    return rows


def _not_ours(path: str | os.PathLike[str]) -> ValueError:
    return ValueError(
        "`state_file` must be what `CutOnStagnation` has written, or not "
        f"there. Received: state_file={os.fspath(path)}, which holds "
        "something else. Give another name, or move that file away."
    )
