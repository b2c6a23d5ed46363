"""All methods in tables: as the terminal shows them, and as the docs do."""

import textwrap

from tf_elastic.optimizers import registry
from tf_elastic.optimizers.registration import Registration

_INDENT = " " * 4
_SHOWN = ("rule", "stable", "use", "reference")


def text() -> str:
    """Every registered method, each in a few lines, by families."""
    lines: list[str] = []
    family = None
    for method in registry.listed():
        if method.family != family:
            family = method.family
            lines += [f"{family}:", ""]
        lines.append(f"{method.name}  (--optimizer={method.option})")
        entries = {key: getattr(method, key) for key in _SHOWN}
        entries["order"] = ", ".join(method.orders)
        entries["protocol"] = ", ".join(method.protocols)
        entries["travels"] = (
            f"{method.up} ({method.copies_up} P) up, {method.down} "
            f"({method.copies_down} P) down"
        )
        entries["memory"] = (
            f"{method.worker_memory} P on a worker, {_at_the_center(method)} "
            "at the center, beside the parameters"
        )
        for key, value in entries.items():
            lines += textwrap.wrap(
                f"{key + ':':11}{value}",
                78,
                initial_indent=_INDENT,
                subsequent_indent=_INDENT + " " * 11,
            )
        lines.append("")
    return "\n".join(
        [
            *lines,
            "P: the trainable parameters. Of order and protocol the "
            "first is the default.",
        ]
    )


def _at_the_center(method: Registration) -> str:
    per_worker = method.center_memory_per_worker
    return f"{method.center_memory} P" + (
        f" + {per_worker} P for each worker" if per_worker else ""
    )


def markdown() -> str:
    """The methods as the docs show them: a Markdown table."""
    rows: list[tuple[str, ...]] = [
        (
            "optimizer",
            "rule",
            "orders, protocols",
            "up, down",
            "memory: worker, center",
            "stable",
            "when to use",
            "reference",
        )
    ]
    rows.append(("---",) * len(rows[0]))
    rows += [
        (
            f"`{method.name}`",
            f"`{method.rule}`",
            f"{', '.join(method.orders)}; {', '.join(method.protocols)}",
            f"{method.up} ({method.copies_up} P), "
            f"{method.down} ({method.copies_down} P)",
            f"{method.worker_memory} P, {_at_the_center(method)}",
            method.stable,
            method.use,
            method.reference,
        )
        for method in registry.listed()
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
