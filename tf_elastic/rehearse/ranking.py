"""Which setting is best: a table, by virtual time to the lowest error."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from tf_elastic.rehearse import results
from tf_elastic.rehearse import runs
from tf_elastic.rehearse.plan import Plan
from tf_elastic.rehearse.results import Results
from tf_elastic.rehearse.runs import Run


class Ranked(NamedTuple):
    """A setting, over its seeds."""

    label: str
    runs: list[Run]  # that are done, at least one
    num_runs: int  # with those that are not
    # Virtual seconds to each target; infinite unless all runs have got there.
    seconds: list[float]
    reached: list[int]  # how many runs have
    error: float  # the last one
    spread: float  # from the lowest to the highest of them
    bytes: float
    goodput: float
    staleness: float
    advice: str

    @property
    def order(self) -> tuple[float, ...]:
        """By it settings are sorted: the hardest target comes first."""
        return (*reversed(self.seconds), self.error)


def ranked(plan: Plan, rows: Results) -> list[Ranked]:
    """The settings of which a run is done, the best first.

    Means are over the runs of a setting, which differ by their seeds.
    """
    varying = [n for n in runs.varying(plan.runs) if n not in runs.SEEDS]
    groups: dict[str, list[Run]] = {}
    for run in plan.runs:
        flags = {k: v for k, v in run.flags.items() if k not in runs.SEEDS}
        groups.setdefault(repr(sorted(flags.items())), []).append(run)
    found = []
    for every in groups.values():
        done = [run for run in every if rows.status(run) == results.DONE]
        if done:
            found.append(_setting(done, len(every), plan, rows, varying))
    return sorted(found, key=lambda setting: setting.order)


def _setting(
    done: list[Run],
    num_runs: int,
    plan: Plan,
    rows: Results,
    varying: Sequence[str],
) -> Ranked:
    def each(name: str) -> list[float]:
        return [float(rows.row(run).get(name) or math.inf) for run in done]

    def mean(name: str) -> float:
        return sum(each(name)) / len(done)

    names = [results.seconds_name(target) for target in plan.targets]
    errors = each("final_error")
    return Ranked(
        done[0].label(varying),
        done,
        num_runs,
        [mean(name) for name in names],
        [sum(map(math.isfinite, each(name))) for name in names],
        mean("final_error"),
        max(errors) - min(errors),
        mean("bytes"),
        mean("goodput"),
        mean("staleness"),
        rows.row(done[0]).get("advice", ""),
    )


def table(every: Sequence[Ranked], targets: Sequence[float]) -> str:
    """The ranking, for a terminal."""
    head = ["", "setting", *(f"s to {target:.3g}" for target in targets)]
    head += ["error", "MB", "goodput", "staleness", "advice"]
    lines = [head]
    for place, one in enumerate(every, start=1):
        spread = f" ±{one.spread / 2:.2%}" if len(one.runs) > 1 else ""
        left_out = one.num_runs - len(one.runs)
        label = one.label + (f" ({left_out} not done)" if left_out else "")
        lines.append(
            [
                f"{place}",
                label,
                *(
                    _seconds(seconds, reached, len(one.runs))
                    for seconds, reached in zip(
                        one.seconds, one.reached, strict=True
                    )
                ),
                f"{one.error:.2%}{spread}",
                f"{one.bytes / 1e6:.4g}",
                f"{one.goodput:.0%}",
                f"{one.staleness:.1f}",
                one.advice or "-",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) for text, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _seconds(seconds: float, reached: int, of: int) -> str:
    if math.isfinite(seconds):
        return f"{seconds:.4g}"
    return f"{reached} of {of}" if reached else "-"
