"""A picture of a run: loss and error of the center and of the workers."""

import os
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tf_elastic import extras
from tf_elastic import files

if TYPE_CHECKING:
    import keras
    from matplotlib.axes import Axes

# Blue and orange of Okabe and Ito, told apart by everybody; green beside.
_CENTER = "#0072B2"
_WORKERS = "#E69F00"
_TEST = "#009E73"

# A loss that changes by less is clearer on a linear scale.
_LOG_FROM = 5

# Of each panel: (key of the history, label, color, line style).
_LOSSES = (
    ("worker_loss", "workers, mean of the epoch", _WORKERS, "-"),
    ("center_loss", "center, training", _CENTER, "-"),
    ("val_loss", "center, test", _TEST, "--"),
)
_ERRORS = (
    ("accuracy", "workers, mean of the epoch", _WORKERS, "-"),
    ("center_accuracy", "center, training", _CENTER, "-"),
    ("val_accuracy", "center, test", _TEST, "--"),
)


def plot_history(
    history: "keras.callbacks.History | Mapping[str, Sequence[float]]",
    path: str | os.PathLike[str],
    *,
    steps_per_epoch: int | None = None,
    title: str | None = None,
) -> None:
    """Draws loss and error of center and workers into a PNG.

    Args:
        history: what `fit` returned, or its `history`: a dict from names to
            one value for each epoch. `loss` or `worker_loss` must be there;
            `center_loss`, `accuracy`, `center_accuracy`, `val_loss`,
            `val_accuracy` and `elastic_distance` are drawn if they are.
            The key `epoch`, if there, numbers the epochs; with
            `virtual_seconds` everything is drawn over these.
        path: the file to write, ending in `.png`; its folder is made.
        steps_per_epoch: local steps in an epoch, to draw over local steps
            instead of epochs.
        title: what to write above.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: there is nothing to draw, or `path` is no `.png`.
    """
    if not os.fspath(path).endswith(".png"):
        raise ValueError(
            f"`path` must end in '.png'. Received: path={os.fspath(path)!r}."
        )
    values, epochs = _series(history)
    extras.require("matplotlib", "A plot", "or leave the plot out")
    # Here, since it is slow to import and not always needed. Figure and
    # canvas by hand, without pyplot: nothing global is touched.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scale = steps_per_epoch or 1
    x = [epoch * scale for epoch in epochs]
    x_label = "local steps of each worker" if steps_per_epoch else "epoch"
    if "virtual_seconds" in values:
        x, x_label = values["virtual_seconds"], "virtual seconds"
    panels = _panels(values)
    figure = Figure(
        figsize=(4.6 * len(panels), 3.8), dpi=130, layout="constrained"
    )
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=11)
    for axes, (label, is_log, lines) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        _draw(axes, x, lines, is_log)
        axes.set_xlabel(x_label)
        axes.set_ylabel(label)
    with files.whole(path) as partial:
        figure.savefig(partial, format="png")


def _series(
    history: "keras.callbacks.History | Mapping[str, Sequence[float]]",
) -> tuple[dict[str, list[float]], list[float]]:
    """The values by name, and the epochs, counted from 1."""
    values = dict(getattr(history, "history", history))
    epochs = values.pop("epoch", getattr(history, "epoch", None))
    if "loss" in values:
        values.setdefault("worker_loss", values["loss"])
    length = len(values.get("worker_loss", ()))
    if not length:
        raise ValueError(
            "There must be at least one epoch with a loss to draw. Received: "
            f"history with {sorted(values)}. Pass what `model.fit` returned."
        )
    if not epochs:
        epochs = range(length)
    same = {k: list(v) for k, v in values.items() if len(v) == length}
    return same, [epoch + 1 for epoch in epochs]


def _panels(
    values: Mapping[str, Sequence[float]],
) -> list[tuple[str, bool, list[tuple[list[float], str, str, str]]]]:
    """What to draw: for each panel its axis label, scale and lines."""

    def lines(
        choices: Sequence[tuple[str, str, str, str]],
        convert: Callable[[float], float],
    ) -> list[tuple[list[float], str, str, str]]:
        return [
            ([convert(value) for value in values[key]], label, color, style)
            for key, label, color, style in choices
            if key in values and not _is_validation(key)
        ]

    def _is_validation(key: str) -> bool:
        """Whether the center was evaluated on the validation data only."""
        twin = key.replace("center_", "val_")
        return twin != key and values.get(twin) == values[key]

    panels = [("loss", True, lines(_LOSSES, float))]
    errors = lines(_ERRORS, lambda accuracy: 100 * (1 - accuracy))
    if errors:
        panels.append(("error (%)", False, errors))
    if "elastic_distance" in values:
        distance = ("elastic_distance", "mean over workers", _WORKERS, "-")
        panels.append(("|worker - center|", False, lines([distance], float)))
    return panels


def _draw(
    axes: "Axes",
    x: Sequence[float],
    lines: Sequence[tuple[list[float], str, str, str]],
    is_log: bool,
) -> None:
    for y, label, color, style in lines:
        axes.plot(
            x,
            y,
            style,
            color=color,
            label=label,
            linewidth=1.8,
            marker="o" if len(x) <= 30 else None,
            markersize=3.5,
        )
    everything = [value for y, *_ in lines for value in y]
    low, high = min(everything), max(everything)
    if not is_log and high > 0:
        axes.set_ylim(0, 1.05 * high)
    elif low > 0 and high > _LOG_FROM * low:
        axes.set_yscale("log")
    axes.grid(True, which="both", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
