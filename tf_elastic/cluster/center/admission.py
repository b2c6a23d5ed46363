"""Whether a worker's model is the center's."""

from typing import Any

from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster.center.center_state import CenterState
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.layout import difference
from tf_elastic.cluster.layout import other_release


class Admission:
    """Compares what workers describe with what one center server holds.

    Args:
        center: what it holds; it is described by the first worker.
        num_shards: how many center servers there are.
    """

    def __init__(self, center: CenterState, num_shards: int) -> None:
        self.refusals = 0
        self.last_refusal = ""
        self._center = center
        self._num_shards = num_shards

    def check(
        self, worker: int, description: dict[str, Any], alone: bool
    ) -> bool:
        """Compares a worker's model with the center's.

        Args:
            worker: whose.
            description: as of `Layout.describe`.
            alone: whether nobody else is here: then an empty center takes
                another model.

        Returns:
            Whether the center is described anew.

        Raises:
            CenterRefusedError: it is another model; with what differs.
        """
        try:
            return self._compare(worker, description, alone)
        except errors.CenterRefusedError as error:
            self.refusals += 1
            self.last_refusal = str(error)
            logging.warning("%s", error)
            raise

    def _compare(
        self, worker: int, description: dict[str, Any], alone: bool
    ) -> bool:
        center = self._center
        where = f"Center {center.index} cannot take worker {worker}: "
        if description.get("num_shards") != self._num_shards:
            raise errors.CenterRefusedError(
                f"{where}it is one of {self._num_shards} center servers. "
                f"Received: num_shards={description.get('num_shards')!r:.80}. "
                "Give all processes the same cluster."
            )
        unlike, is_new = other_release(description), False
        if unlike is None:
            Layout.from_description(description)  # Or it is none.
            known = center.description
            # Of one that was told before, nobody may be here any more.
            if known is None or (center.arrays is None and alone):
                center.describe(description)
                known, is_new = description, True
            unlike = difference(known, description)
        if unlike:
            raise errors.CenterRefusedError(
                f"{where}{unlike}. Start all processes with the same script "
                "and release, or this center with an empty snapshot folder."
            )
        return is_new
