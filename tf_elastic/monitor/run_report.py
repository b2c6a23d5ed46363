"""The report at the end of a run, as a dict, as JSON and as a table."""

import json
import math
import os
import platform
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_elastic import files
from tf_elastic import version
from tf_elastic.cluster import tree_numbers
from tf_elastic.cluster import watch
from tf_elastic.monitor import probe
from tf_elastic.monitor import virtual_report

# What `build_report` returns, or a part of it; JSON.
Report = dict[str, Any]

_RULE = "-"


def _passed(then_s: float | None, now_s: float | None) -> float | None:
    """The time between two readings, where both are known."""
    return None if now_s is None or then_s is None else now_s - then_s


class RunTimes(NamedTuple):
    """Where the time of some steps went."""

    steps: int  # local steps of each worker that were timed
    total_s: float  # seconds in these steps
    data_s: float | None = None  # of which waiting for batches; None: unknown
    compute_s: float | None = None  # of which gradients and local updates
    exchange_s: float | None = None  # of which between workers and center

    def since(self, earlier: "RunTimes") -> "RunTimes":
        """The times between an earlier reading and this one.

        Example:

        >>> RunTimes(30, 5.0).since(RunTimes(10, 1.0)).total_s
        4.0
        """
        return RunTimes(
            self.steps - earlier.steps,
            self.total_s - earlier.total_s,
            _passed(earlier.data_s, self.data_s),
            _passed(earlier.compute_s, self.compute_s),
            _passed(earlier.exchange_s, self.exchange_s),
        )

    def split(self) -> dict[str, float]:
        """The parts that are known, by name."""
        return {
            name: value
            for name, value in self._asdict().items()
            if name in ("data_s", "compute_s", "exchange_s")
            and value is not None
        }

    def per_second(self, amount_per_step: float) -> float | None:
        """How much of something was done in a second; None without steps.

        Args:
            amount_per_step: images in a global batch, say.
        """
        if self.steps < 1 or self.total_s <= 0:
            return None
        return self.steps * amount_per_step / self.total_s


def build_report(
    model: keras.Model,
    test: Mapping[str, float],
    times: RunTimes,
    *,
    wall_s: float,
    steps: int | None = None,
    parts: Mapping[str, float] | None = None,
    global_batch_size: int | None = None,
    settings: Mapping[str, object] | None = None,
    files: Mapping[str, str] | None = None,
) -> Report:
    """Gathers what there is to say at the end of a run.

    Args:
        model: the trained model.
        test: what `model.evaluate(..., return_dict=True)` gave on the test
            set; it sees the center.
        times: of the steps of this run.
        wall_s: seconds from the run's begin to its end.
        steps: local steps of each worker in this run; None for those of
            `times`, which leave out what was traced.
        parts: seconds by what they went to, see `RunClock.parts`; None for
            what is known from `times`.
        global_batch_size: images in a step of all workers, for images/s.
        settings: of the run; anything that JSON knows.
        files: where things were written, by what they are.

    Returns:
        A dict that JSON can hold, with the keys "center", "workers", "time",
        "throughput", "settings", "versions" and "files"; of a cluster also
        "cluster", while "workers", "time" and "throughput" are this
        process'; of a virtual one "virtual".
    """
    center: dict[str, float | None] = {
        f"test_{k}": float(v) for k, v in test.items()
    }
    if "accuracy" in test:
        center["test_error"] = 1.0 - float(test["accuracy"])
    center["center_step"] = probe.center_step(model)
    if steps is None:
        steps = times.steps
    if parts is None:
        parts = {
            **times.split(),
            # Tracing and compiling, evaluation, callbacks, saving.
            "other_s": max(wall_s - times.total_s, 0.0),
        }
    return {
        "center": center,
        "workers": _spread(model),
        "time": {
            "wall_s": wall_s,
            "steps": times.steps,
            "steps_s": times.total_s,
            **parts,
        },
        # Over the whole time.
        "throughput": {
            "steps": steps,
            "steps_per_s": steps / wall_s,
            "images": steps * global_batch_size if global_batch_size else None,
            "images_per_s": (
                steps * global_batch_size / wall_s
                if global_batch_size
                else None
            ),
        },
        "local_steps": probe.local_steps(model),
        **_cluster(model),
        **virtual_report.of(model, global_batch_size),
        "settings": dict(settings or {}),
        "versions": versions(),
        "files": dict(files or {}),
    }


def _cluster(model: keras.Model) -> Report:
    """What a cluster's center servers say at the end."""
    strategy = model.distribute_strategy
    if not hasattr(strategy, "center_status"):
        return {}
    session = strategy.extended.client.sessions[0]
    view = watch.ClusterWatch(strategy.center_status).view()
    staleness = view.staleness
    return {
        "cluster": {
            "protocol": strategy.extended.protocol,
            "compression": session.points.codec,
            "num_workers": strategy.num_workers,
            # In a tree those of all nodes; what follows is of the root.
            "center_servers": len(strategy.configuration.centers),
            "versions": [s and s["version"] for s in view.statuses],
            "members": {str(w): dict(m) for w, m in view.members.items()},
            "staleness_versions": _quantiles(staleness.versions),
            "staleness_ms": _quantiles(staleness.ms),
        }
    }


def _quantiles(values: np.ndarray) -> dict[str, float] | None:
    if not values.size:
        return None
    return {
        "count": int(values.size),
        "mean": float(np.mean(values)),
        **{f"p{q}": float(np.percentile(values, q)) for q in (50, 90, 99)},
        "max": float(np.max(values)),
    }


def _spread(model: keras.Model) -> dict[str, object]:
    """How far the workers are from the center at the end."""
    strategy = model.distribute_strategy
    count = strategy.num_replicas_in_sync
    if probe.is_virtual(model):
        count = strategy.num_workers
    distances = probe.elastic_distances(model)
    if distances is None:
        return {"count": count}
    norm = probe.center_norm(model)
    mean = float(np.mean(distances))
    return {
        "count": count,
        "elastic_distance": [float(d) for d in distances],
        "elastic_distance_mean": mean,
        "center_norm": norm,
        "relative_distance": mean / norm if norm > 0 else None,
    }


def versions() -> dict[str, str]:
    """The releases that a run was made with."""
    return {
        "tf_elastic": version.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def write_report(
    report: Mapping[str, object], path: str | os.PathLike[str]
) -> None:
    """Writes a report as JSON; numbers that JSON lacks become null.

    Args:
        report: what `build_report` returned.
        path: the file; its folder is made.

    Raises:
        FileNotWrittenError: it could not be; one of before is as it was.
    """
    text = json.dumps(_finite(report), indent=2, allow_nan=False)
    files.write_text(path, text + "\n")


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def format_report(report: Report) -> str:
    """A compact table of a report, for a terminal.

    Args:
        report: what `build_report` returned.

    Returns:
        Lines without a newline at the end.
    """
    center, workers = report["center"], report["workers"]
    rows = []
    if "test_error" in center:
        loss = f"   (loss {center['test_loss']:.4f})"
        rows.append(("center test error", f"{center['test_error']:.2%}{loss}"))
    else:
        rows.append(("center test loss", f"{center['test_loss']:.4f}"))
    if "elastic_distance" in workers:
        each = _spread_text(workers["elastic_distance"])
        share = workers["relative_distance"]
        of_center = "" if share is None else f"   ({share:.1%} of |center|)"
        name = "chief's distance" if "cluster" in report else "worker spread"
        rows.append((name, each + of_center))
        rows.append(("exchanges", f"{center['center_step']}"))
    whose = "the chief" if "cluster" in report else "each worker"
    if "virtual" in report:
        whose = "all workers together"
    rows.append(("local steps", f"{report['local_steps']} of {whose}"))
    rows += _time_rows(report["time"])
    speed = report["throughput"]
    if speed["images_per_s"] is not None:
        whose = _counted(workers["count"], "worker")
        if "cluster" in report:
            whose = "the chief"
        rows.append(
            (
                "throughput",
                f"{speed['images_per_s']:,.0f} images/s of {whose}   "
                f"({speed['images']:,} in all of this time)",
            )
        )
    if "cluster" in report:
        rows += _cluster_rows(report["cluster"])
    if "virtual" in report:
        rows += virtual_report.rows(report["virtual"])
    rows += report["files"].items()
    return _table(rows)


def _spread_text(distances: Sequence[float]) -> str:
    """Each of them, or where they are many the range."""
    if len(distances) <= 8:
        return "  ".join(f"{d:.3g}" for d in distances)
    return f"{min(distances):.3g} to {max(distances):.3g}"


def _cluster_rows(cluster: Report) -> list[tuple[str, str]]:
    rows = [
        (
            "cluster",
            f"{_counted(cluster['num_workers'], 'worker')}, "
            f"{_counted(cluster['center_servers'], 'center server')}, "
            f"{cluster['protocol']}",
        )
    ]
    if cluster["staleness_ms"]:
        versions, ms = cluster["staleness_versions"], cluster["staleness_ms"]
        rows.append(
            (
                "staleness",
                f"{versions['mean']:.1f} versions (max "
                f"{versions['max']:.0f}), {ms['mean']:.0f} ms",
            )
        )
    steps = "  ".join(
        f"{m['clock']}"
        for _, m in sorted(cluster["members"].items(), key=lambda i: int(i[0]))
    )
    in_tree = any(int(w) >= tree_numbers.NODES for w in cluster["members"])
    whose = "turns of nodes" if in_tree else "steps of each"
    rows.append((whose, f"{steps}   (as the center has heard)"))
    return rows


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number != 1 else ''}"


# What a row of the table calls the parts of the time, in their order.
_PARTS = (
    ("start", "start_s"),
    ("tracing", "tracing_s"),
    ("compute", "compute_s"),
    ("data", "data_s"),
    ("exchange", "exchange_s"),
    ("validation", "validation_s"),
    ("callbacks", "callbacks_s"),
    ("saving", "saving_s"),
    ("between", "between_s"),
    ("other", "other_s"),
)


def _time_rows(times: Mapping[str, float]) -> list[tuple[str, str]]:
    parts = [f"{name} {times[key]:.1f}" for name, key in _PARTS if key in times]
    half = -(-len(parts) // 2) if len(parts) > 5 else len(parts)
    rows = [("time", f"{times['wall_s']:.1f} s: {', '.join(parts[:half])}")]
    if parts[half:]:
        rows.append(("", ", ".join(parts[half:])))
    if times["steps"]:
        each = 1000 * times["steps_s"] / times["steps"]
        rows.append(("a step", f"{each:.1f} ms, tracing aside"))
    return rows


def _table(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}   {value}" for name, value in rows]
    rule = _RULE * min(max(map(len, lines)), 79)
    return "\n".join([rule, *lines, rule])
