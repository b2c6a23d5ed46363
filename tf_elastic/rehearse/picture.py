"""The curves of a rehearsal: test error over virtual time and the like."""

import os
from collections.abc import Sequence

from tf_elastic import extras
from tf_elastic import files
from tf_elastic.rehearse import results
from tf_elastic.rehearse.ranking import Ranked

PICTURE = "errors.png"
_PANELS = {  # what is drawn over, its label, and its unit
    "virtual_seconds": ("virtual seconds", 1.0),
    "samples": ("samples of all workers", 1.0),
    "bytes": ("MB exchanged", 1e6),
}
# More lines than these cannot be told apart.
_MOST = 10


def draw(every: Sequence[Ranked], targets: Sequence[float], out: str) -> str:
    """Draws the best settings; all runs of one have one colour.

    Args:
        every: the settings, the best first.
        targets: errors to mark.
        out: the folder of the rehearsal.

    Returns:
        The path of the picture.

    Raises:
        MissingExtraError: matplotlib is not installed.
        FileNotWrittenError: the picture cannot be written.
    """
    extras.require("matplotlib", "A picture of the errors")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    for axes, name in zip(panels, _PANELS, strict=True):
        label, unit = _PANELS[name]
        for place, one in enumerate(every[:_MOST]):
            for k, run in enumerate(one.runs):
                history = results.history_of(run, out)
                axes.plot(
                    [value / unit for value in history.get(name, ())],
                    [100 * error for error in results.errors_of(history)],
                    color=f"C{place}",
                    linewidth=1.4,
                    label=one.label if k == 0 else None,
                )
        for target in targets:
            axes.axhline(100 * target, color="#999999", linewidth=0.6)
        axes.set_xlabel(label)
        axes.grid(True, color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    panels[0].set_ylabel("test error of the center (%)")
    panels[0].set_yscale("log")  # It is shared.
    lines, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        lines,
        labels,
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=8,
    )
    path = os.path.join(out, PICTURE)
    with files.whole(path) as partial:
        figure.savefig(partial, format="png")
    return path
