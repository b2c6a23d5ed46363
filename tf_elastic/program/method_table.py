"""All methods, as the terminal shows them."""

import textwrap

from tf_elastic.optimizers.methods import METHODS

_INDENT = " " * 4
_SHOWN = ("rule", "stable", "use", "reference")


def text() -> str:
    """Every method of `METHODS`, each in a few lines."""
    lines = []
    for name, method in METHODS.items():
        if name == "ElasticOptimizer":  # A base class.
            continue
        lines.append(name)
        entries = {key: getattr(method, key) for key in _SHOWN}
        entries["exchange"] = ", ".join(method.schemes)
        entries["protocol"] = ", ".join(method.protocols)
        entries["travels"] = (
            f"{method.up} ({method.copies_up} P) up, {method.down} "
            f"({method.copies_down} P) down"
        )
        entries["memory"] = (
            f"{method.worker_memory} P on a worker, {method.center_memory} P "
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
        [*lines, "P: the trainable parameters. Of exchange and protocol the "
         "first is the default."]
    )
