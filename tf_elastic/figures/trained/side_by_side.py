"""Several runs at once, each in a process of its own."""

import concurrent.futures
import math
import multiprocessing
import time
from collections.abc import Callable
from collections.abc import Mapping

from tf_elastic.figures.trained import training
from tf_elastic.figures.trained.scale import Scale
from tf_elastic.figures.trained.settings import Setting


def train(
    path: str,
    scales: Mapping[Setting, Scale],
    *,
    jobs: int = 1,
    data_dir: str | None = None,
    stop_at: float = math.inf,
    say: Callable[[str], None],
) -> None:
    """Trains settings, in their order; what is done is left as it is.

    Args:
        path: the file of records; see `training.train`.
        scales: what is trained, and how much of it.
        jobs: how many at once; with 1, in this process.
        data_dir: folder of prepared TensorFlow Datasets.
        stop_at: of `time.monotonic()`, after which no run is begun, or goes
            on beyond its next look.
        say: gets a line for each look. With several jobs a function that can
            be pickled.

    Raises:
        ValueError: the file has runs of other data.
    """
    with concurrent.futures.ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn")
    ) as pool:
        waiting = []
        for setting, scale in scales.items():
            training.check_same(path, setting, scale)
            if training.is_done(path, setting, scale):
                continue
            task = (path, setting, scale, data_dir, stop_at, say)
            if jobs == 1:
                _train(*task)
            else:
                waiting.append(pool.submit(_train, *task))
        for one in waiting:
            one.result()


def _train(
    path: str,
    setting: Setting,
    scale: Scale,
    data_dir: str | None,
    stop_at: float,
    say: Callable[[str], None],
) -> None:
    if time.monotonic() < stop_at:
        training.train(
            path, setting, scale, data_dir=data_dir, stop_at=stop_at, say=say
        )
