"""A worker's side of the center: its exchanges with all center servers."""

import time
from typing import Any

import numpy as np
from absl import logging

from tf_elastic.cluster import codec as codecs
from tf_elastic.cluster import errors
from tf_elastic.cluster import wire
from tf_elastic.cluster.blocks import check_finite
from tf_elastic.cluster.blocks import put_differences
from tf_elastic.cluster.delivery import RESTART
from tf_elastic.cluster.delivery import TAKE
from tf_elastic.cluster.delivery import Delivery
from tf_elastic.cluster.delivery import Moved
from tf_elastic.cluster.delivery import RatesOf
from tf_elastic.cluster.link import Link
from tf_elastic.cluster.link import Patience
from tf_elastic.cluster.membership import BEGUN_ANEW
from tf_elastic.cluster.membership import Arrays


class CenterClient(Delivery):
    """Does with all center servers at once what a protocol asks for.

    For its arguments see `Membership`.
    """

    def take(
        self, messages: Arrays, rates: RatesOf, overlapped: bool = False
    ) -> Moved:
        """Pushes messages, gets points to go on from.

        Args:
            messages: the worker's, one array for each section; of statistics
                its values.
            rates: of a push by one of p workers.
            overlapped: whether they were made before the answer to the push
                before was there.

        Returns:
            What the worker is to do.

        Raises:
            NonFiniteError, ReplacedError, CenterRefusedError: training
                cannot go on.
        """
        flat = self.layout.empty()

        def take(
            link: Link, push: dict, rate: dict, parts: Arrays
        ) -> dict[str, Any]:
            if overlapped:
                push = {**push, "version_read": link.version_held}
            out = self.layout.parts(flat, link.shard)
            return link.connection.stream(
                wire.TAKE,
                self._exchange_s(),
                {"id": push, "rate": rate},
                parts,
                out,
            )

        return self._with_all(take, messages, flat, rates, TAKE)

    def meet_and_read(
        self, values: Arrays, rates: RatesOf
    ) -> Moved:
        """All workers at once, by the center's rule: waits for the others.

        Args:
            values: what the rule says that workers send.
            rates: of a push by one of p workers.

        Returns and errors as of `take`.
        """
        flat = self.layout.empty()

        def meet(
            link: Link, push: dict, rate: dict, parts: Arrays
        ) -> dict[str, Any]:
            news = link.connection.stream(
                wire.DEPOSIT,
                self._exchange_s(),
                {"id": push, "rate": rate},
                parts,
            )
            self._wait_for_round(link, news["round"])
            out = self.layout.parts(flat, link.shard)
            told = {name: news[name] for name in ("pushes", "late")}
            return {**self._read(link, out), **told}

        return self._with_all(meet, values, flat, rates, TAKE)

    def read_points(self) -> Moved:
        """Reads where to go on from, and pushes nothing.

        Returns and errors as of `take`.
        """
        flat = self.layout.empty()

        def read(link: Link) -> bool:
            parts = self.layout.parts(flat, link.shard)
            if link.away_since is None:
                try:
                    try:
                        news = self._read(link, parts)
                    except BEGUN_ANEW:
                        patience = Patience(self._exchange_s())
                        self._join(link, self._known, patience)
                        news = self._read(link, parts)
                    link.version_read = link.version_held = news["version"]
                    return True
                except errors.CenterUnavailableError as error:
                    self._went_away(link, error)
            for part in parts:
                part[...] = np.nan
            return False

        if self.failure is not None:
            raise self.failure
        try:
            here = self._with_links(read)
        except errors.LostSlotError as error:
            return self._restart(self._known, error)
        self._know(flat, here)
        return Moved(TAKE, flat)

    def begin(self) -> Moved:
        """Reads the center for a worker that has taken no step yet.

        Of a center server that is away it has what it got before. Returns and
        errors as of `take`.
        """
        moved = self.read_points()
        if moved.restart:
            return moved
        return Moved(RESTART, [array.copy() for array in self._known])

    def push(self, differences: Arrays, rates: RatesOf) -> Moved:
        """Pushes differences to a center that adds them.

        Args, returns and errors as of `take`; there is nothing to go on from.
        """
        flat = self.layout.zeros()

        def push(
            link: Link, push: dict, rate: dict, parts: Arrays
        ) -> dict[str, Any]:
            return link.connection.stream(
                wire.PUSH, self._exchange_s(), {"id": push, "rate": rate}, parts
            )

        return self._with_all(push, differences, flat, rates)

    def exchange(
        self, values: Arrays, rates: RatesOf, out: Arrays | None = None
    ) -> Moved:
        """Sends parameters, gets differences: one way there and back.

        Args:
            values: the worker's, one array for each section.
            rates: alpha and beta for p workers at the worker's clock.
            out: what to fill with the differences; None for new arrays.

        Returns:
            What the worker is to do.

        Raises:
            NonFiniteError, ReplacedError, CenterRefusedError: training
                cannot go on.
        """
        flat = self.layout.empty() if out is None else out

        def exchange(
            link: Link, push: dict, rate: dict, parts: Arrays
        ) -> dict[str, Any]:
            mine = self.layout.parts(flat, link.shard)
            whole = False
            while True:
                sent, whole = self._encode(link, parts, whole)
                header = {
                    "id": push,
                    "rate": rate,
                    "codec": self.codec,
                    "whole": whole,
                }
                room = mine
                if self.codec != "none":
                    room = [
                        np.empty(
                            codecs.encoded_nbytes(
                                self.codec, part.size, part.dtype
                            ),
                            np.uint8,
                        )
                        for part in mine
                    ]
                try:
                    news = link.connection.stream(
                        wire.EXCHANGE,
                        self._exchange_s(),
                        header,
                        sent,
                        room,
                    )
                    break
                except errors.LostReferenceError:
                    whole = True
            if self.codec != "none":
                for part, data in zip(mine, room, strict=True):
                    codecs.decode(
                        self.codec, data, part.dtype, part.size, out=part
                    )
            return news

        return self._with_all(exchange, values, flat, rates)

    def read_and_push(
        self, values: Arrays, rates: RatesOf, out: Arrays | None = None
    ) -> Moved:
        """Algorithm 1: reads the center, then pushes the difference.

        Args, returns and errors as of `exchange`.
        """
        flat = self.layout.empty() if out is None else out

        def read_and_push(
            link: Link, push: dict, rate: dict, parts: Arrays
        ) -> dict[str, Any]:
            mine = self.layout.parts(flat, link.shard)
            news = self._read(link, mine)
            if self._has_gone_on(link, news["version"]):
                raise errors.LatePushError("it was read just now")
            put_differences(parts, mine, mine)
            header = {
                "id": {**push, "version_read": news["version"]},
                "rate": rate,
            }
            return link.connection.stream(
                wire.PUSH, self._exchange_s(), header, mine
            )

        return self._with_all(read_and_push, values, flat, rates)

    def meet(
        self, values: Arrays, rates: RatesOf, out: Arrays | None = None
    ) -> Moved:
        """All workers at once, eqs. 2.3 and 2.4: waits for the others.

        Whoever has not come within `Timeouts.barrier_s` is named, and left
        out. Args, returns and errors as of `exchange`.
        """
        flat = self.layout.empty() if out is None else out

        def meet(
            link: Link, push: dict, rate: dict, parts: Arrays
        ) -> dict[str, Any]:
            mine = self.layout.parts(flat, link.shard)
            news = link.connection.stream(
                wire.DEPOSIT,
                self._exchange_s(),
                {"id": push, "rate": rate},
                parts,
                mine,
            )
            return {
                **self._wait_for_round(link, news["round"]),
                "pushes": news["pushes"],
            }

        return self._with_all(meet, values, flat, rates)

    def _encode(
        self, link: Link, parts: Arrays, whole: bool
    ) -> tuple[list[Any], bool]:
        try:
            return link.encode(parts, whole)
        except ValueError:
            # A codec takes finite values only.
            for section, part in zip(self.layout.sections, parts, strict=True):
                first = self.layout.cut(section, link.shard).start
                check_finite(part, self.worker, self.layout, section, first)
            return link.encode(parts, True)

    def _wait_for_round(self, link: Link, round_: int) -> dict[str, Any]:
        begin = time.monotonic()
        force = False
        while True:
            news = self._control(
                link,
                wire.RELEASE,
                worker=self.worker,
                incarnation=link.incarnation,
                round_=round_,
                wait_s=min(1.0, self.barrier_s),
                force=force,
            )
            self._note(link, news)
            if news["round"] != round_:
                return news
            if time.monotonic() - begin > self.barrier_s:
                logging.warning(
                    "worker %d waited %g s for worker(s) %s at exchange %d "
                    "and goes on without them.",
                    self.worker,
                    self.barrier_s,
                    ", ".join(map(str, news["missing"])) or "yet to join",
                    round_,
                )
                force = True
