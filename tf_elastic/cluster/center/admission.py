"""Whether a worker's model is the center's."""

from typing import Any
from typing import NoReturn

from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster.center.node_parts import NodeParts
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.layout import difference
from tf_elastic.cluster.layout import other_release


def check(parts: NodeParts, worker: int, description: dict[str, Any]) -> bool:
    """Compares a worker's model with the center's.

    Args:
        parts: of the center server, which the first worker describes.
        worker: whose model.
        description: as of `Layout.describe`.

    Returns:
        Whether the center is described anew.

    Raises:
        CenterRefusedError: it is another model; with what differs.
    """
    if description.get("num_shards") != parts.num_shards:
        _refuse(
            parts,
            worker,
            f"it is one of {parts.num_shards} center servers. "
            f"Received: num_shards={description.get('num_shards')!r:.80}. "
            "Give all processes the same cluster.",
        )
    unlike = other_release(description)
    if unlike is None:
        Layout.from_description(description)  # Or it is none.
        known = parts.state.description
        alone = not set(parts.registry.present) - {worker}
        # Of one that was told before, nobody may be here any more.
        if known is None or (parts.state.arrays is None and alone):
            parts.state.describe(description)
            return True
        unlike = difference(known, description)
    if unlike:
        _refuse(
            parts,
            worker,
            f"{unlike}. Start all processes with the same script and release, "
            "or this center with an empty snapshot folder.",
        )
    return False


def _refuse(parts: NodeParts, worker: int, reason: str) -> NoReturn:
    index = parts.state.index
    text = f"Center {index} cannot take worker {worker}: {reason}"
    parts.refusals += 1
    parts.last_refusal = text
    logging.warning("%s", text)
    raise errors.CenterRefusedError(text)
