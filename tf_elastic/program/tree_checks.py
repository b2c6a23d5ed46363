"""What the flags of a tree say, and what is refused of them."""

import os
from typing import TYPE_CHECKING
from typing import Any

from tf_elastic.program import defaults
from tf_elastic.program import usage
from tf_elastic.program.flag import Settings

if TYPE_CHECKING:
    from tf_elastic.core.topology import Topology
    from tf_elastic.timeline.wanted_tree import WantedTree

# Strategies that there are trees of, and what starts them.
WITH_TREES = {
    defaults.TREE: "--local_workers",
    defaults.VIRTUAL: "--virtual_workers",
}
_OF_A_TREE = ("scheme", "periods", "most_waiting")
_OF_STARS = ("compression", "max_lag")
_WITHOUT_EVENTS = ("synchronous", "accumulated")
# The same in a virtual cluster.
_OF_VIRTUAL_STARS = ("max_lag", "quorum", "max_staleness")


def without_effect(settings: Settings) -> dict[str, str]:
    """The flags that mean nothing here, and why, by their names."""
    if settings["strategy"] not in WITH_TREES:
        instead = " or ".join(WITH_TREES.values())
        return dict.fromkeys(
            ("tree", *_OF_A_TREE),
            f"--strategy={settings['strategy']} knows no trees. Leave it out"
            + (instead and f", or give {instead}"),
        )
    reasons = {}
    if settings["strategy"] == defaults.TREE:
        reasons = dict.fromkeys(
            ("protocol", *_OF_STARS),
            "a tree exchanges by --scheme, whole points. Leave it out, or "
            "choose --strategy=elastic_multi_worker",
        )
    if settings["tree"] is None:
        return reasons | dict.fromkeys(
            _OF_A_TREE,
            "it is of a tree. Leave it out, or give --tree=4, say",
        )
    reasons |= {
        "protocol": "a tree exchanges by --scheme. Leave it out, or leave "
        "--tree out"
    }
    if settings["strategy"] == defaults.VIRTUAL:
        reasons |= dict.fromkeys(
            _OF_VIRTUAL_STARS,
            "it is of a star, in a virtual cluster. Leave it out, or leave "
            "--tree out",
        )
        if settings["scheme"] in _WITHOUT_EVENTS:
            reasons["events"] = (
                f"nothing is told of a tree of --scheme={settings['scheme']}. "
                "Leave it out"
            )
    return reasons


def arguments(settings: Settings) -> dict[str, Any]:
    """Those of a strategy by which it is a tree; none without --tree.

    Raises:
        UsageError: --periods is none.
    """
    if settings["tree"] is None:
        return {}
    return {
        "topology": os.path.expanduser(settings["tree"]),
        "scheme": settings["scheme"],
        "periods": _periods(settings["periods"]),
        "most_waiting": settings["most_waiting"],
    }


def fill_in(settings: Settings) -> None:
    """Sets the optimizer's period, which a tree's first one is.

    Args:
        settings: a value for each flag; changed.
    """
    if settings["communication_period"] is None:
        first, *_ = arguments(settings).get("periods") or (None,)
        settings["communication_period"] = None if first is None else str(first)


def wanted_tree(settings: Settings) -> "WantedTree | None":
    """The tree that the flags ask for; None without --tree.

    Raises:
        UsageError: they ask for none that there can be.
    """
    given = arguments(settings)
    if not given:
        return None
    del given["most_waiting"]
    # Here, since its layer is slow to import.
    from tf_elastic.timeline import wanted_tree

    with usage.explained(
        f"Received: --tree={settings['tree']}, --scheme={settings['scheme']}, "
        f"--periods={settings['periods']}."
    ):
        return wanted_tree.wanted(**given)


def check(settings: Settings) -> None:
    """Refuses a tree that cannot be over so many workers.

    Raises:
        UsageError: it cannot.
    """
    wanted = wanted_tree(settings)
    if wanted is None:
        known = defaults.TREE_VARIABLE in os.environ
        if settings["strategy"] == defaults.TREE and not known:
            raise usage.UsageError(
                f"--strategy={defaults.TREE} needs a tree. Received: no "
                f"--tree, and no {defaults.TREE_VARIABLE}. Give --tree=2, say."
            )
        return
    if settings["strategy"] == defaults.TREE and wanted.protocol != "one_way":
        raise usage.UsageError(
            f"--scheme={settings['scheme']} is of a virtual cluster. Received: "
            f"--scheme={settings['scheme']}, with "
            f"{WITH_TREES[defaults.TREE]}. Give --virtual_workers instead, or "
            "choose multi_scale, up_down or answered."
        )
    leaves = _over_workers(wanted, settings).leaves
    if len(leaves) != settings["workers"]:
        raise usage.UsageError(
            f"--tree={settings['tree']} must have a leaf for each of "
            f"{settings['workers']} workers. Received: {len(leaves)} leaves."
        )


def inner_per_level(settings: Settings) -> list[int]:
    """How many inner nodes the tree has of levels 1, 2 and so on.

    Raises:
        UsageError: there is no such tree.
    """
    wanted = wanted_tree(settings)
    if wanted is None:
        return []
    from tf_elastic.timeline.virtual.nodes import Nodes

    return Nodes(_over_workers(wanted, settings)).inner_per_level


def _over_workers(wanted: "WantedTree", settings: Settings) -> "Topology":
    period = settings["communication_period"]
    steps = int(period) if period and period != "none" else None
    with usage.explained(
        f"Received: --tree={settings['tree']}, with {settings['workers']} "
        "workers."
    ):
        return wanted.over([""] * settings["workers"], steps)


def _periods(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.split(",")
    if not all(p.strip().isdecimal() and int(p) >= 1 for p in parts):
        raise usage.UsageError(
            "--periods must be two integers, at least 1, with a comma between "
            f"them, such as 1,10. Received: --periods={text}."
        )
    return tuple(map(int, parts))
