"""What a virtual cluster adds to the report of a run."""

from typing import Any

import keras

from tf_elastic.monitor import probe


def of(model: keras.Model, batch_size: int | None) -> dict[str, Any]:
    """The part "virtual" of a report; of other strategies nothing.

    Args:
        model: the trained model.
        batch_size: of a worker; None leaves out the samples.
    """
    found: dict[str, Any] = probe.virtual(model, batch_size)
    totals = getattr(model.distribute_strategy, "totals", None)
    if not found or totals is None:
        return {}
    whole = sum(totals.of_all)
    return {
        "virtual": {
            **found,
            "bytes_by_level": totals.bytes_by_level,
            "updates": totals.updates,
            "mean_staleness": totals.mean_staleness,
            "dropped": totals.dropped,
            "restarts": totals.restarts,
            "deaths": totals.deaths,
            # Of the workers' time.
            "shares": {
                name: seconds / whole if whole else 0.0
                for name, seconds in totals.of_all._asdict().items()
            },
        }
    }


def rows(virtual: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows of the table, of the part "virtual"."""
    shares = ", ".join(
        f"{name} {share:.0%}" for name, share in virtual["shares"].items()
    )
    lost = ", ".join(
        f"{name} {virtual[name]}"
        for name in ("dropped", "restarts", "deaths")
        if virtual[name]
    )
    above, *below = virtual["bytes_by_level"]
    through = "".join(f", {size:,} below" for size in below)
    return [
        ("virtual time", f"{virtual['virtual_seconds']:,.6g} s: {shares}"),
        (
            "exchanged",
            f"{virtual['bytes']:,} bytes in {virtual['updates']:,} updates, "
            f"of staleness {virtual['mean_staleness']:.1f}",
        ),
        *([("through the root", f"{above:,} bytes{through}")] if below else []),
        (
            "goodput",
            f"{virtual['goodput']:.1%}" + (f"; {lost}" if lost else ""),
        ),
    ]
