"""A worker's side of the center: its exchanges with all center servers."""

import time
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import numpy as np
from absl import logging

from tf_elastic import core
from tf_elastic.cluster import codec as codecs
from tf_elastic.cluster import errors
from tf_elastic.cluster import wire
from tf_elastic.cluster.blocks import check_finite
from tf_elastic.cluster.blocks import put_differences
from tf_elastic.cluster.layout import PARAMETERS
from tf_elastic.cluster.link import Link
from tf_elastic.cluster.link import Patience
from tf_elastic.cluster.membership import BEGUN_ANEW
from tf_elastic.cluster.membership import Arrays
from tf_elastic.cluster.membership import Membership

Rates = Callable[[int, int], core.ElasticRates]  # of (p, the worker's clock)


class Moved(NamedTuple):
    """What a worker is to do after an exchange."""

    arrays: Arrays  # a difference for each section, or the center's values
    moving_rate: float  # alpha, by which the worker is pulled
    restart: bool = False  # take `arrays` as values, with velocity zero


class CenterClient(Membership):
    """Does with all center servers at once what a protocol asks for.

    For its arguments see `Membership`.
    """

    def exchange(self, values: Arrays, rates: Rates) -> Moved:
        """Sends parameters, gets differences: one way there and back.

        Args:
            values: the worker's, one array for each section.
            rates: alpha and beta for p workers at the worker's clock.

        Returns:
            What the worker is to do.

        Raises:
            NonFiniteError, ReplacedError, CenterRefusedError: training
                cannot go on.
        """
        flat = self.layout.empty()

        def exchange(link: Link, push: dict, rate: dict) -> dict[str, Any]:
            parts = self.layout.parts(values, link.shard)
            out = self.layout.parts(flat, link.shard)
            whole = False
            while True:
                sent, whole = self._encode(link, parts, whole)
                header = {
                    "id": push,
                    "rate": rate,
                    "codec": self.codec,
                    "whole": whole,
                }
                room = out
                if self.codec != "none":
                    room = [
                        np.empty(
                            codecs.encoded_nbytes(
                                self.codec, part.size, part.dtype
                            ),
                            np.uint8,
                        )
                        for part in out
                    ]
                try:
                    news = link.connection.stream(
                        wire.EXCHANGE,
                        self._exchange_s(),
                        header,
                        sent,
                        lambda _, room=room: room,
                    )
                    break
                except errors.LostReferenceError:
                    whole = True
            if self.codec != "none":
                for part, data in zip(out, room, strict=True):
                    codecs.decode(
                        self.codec, data, part.dtype, part.size, out=part
                    )
            return news

        return self._with_all(exchange, values, flat, rates)

    def read_and_push(self, values: Arrays, rates: Rates) -> Moved:
        """Algorithm 1: reads the center, then pushes the difference.

        Args, returns and errors as of `exchange`.
        """
        flat = self.layout.empty()

        def read_and_push(
            link: Link, push: dict, rate: dict
        ) -> dict[str, Any]:
            parts = self.layout.parts(values, link.shard)
            out = self.layout.parts(flat, link.shard)
            news = self._read(link, out)
            put_differences(parts, out, out)
            header = {
                "id": {**push, "version_read": news["version"]},
                "rate": rate,
            }
            return link.connection.stream(
                wire.PUSH, self._exchange_s(), header, out
            )

        return self._with_all(read_and_push, values, flat, rates)

    def meet(self, values: Arrays, rates: Rates) -> Moved:
        """All workers at once, eqs. 2.3 and 2.4: waits for the others.

        Whoever has not come within `Timeouts.barrier_s` is named, and left
        out. Args, returns and errors as of `exchange`.
        """
        flat = self.layout.empty()

        def meet(link: Link, push: dict, rate: dict) -> dict[str, Any]:
            out = self.layout.parts(flat, link.shard)
            news = link.connection.stream(
                wire.DEPOSIT,
                self._exchange_s(),
                {"id": push, "rate": rate},
                self.layout.parts(values, link.shard),
                lambda _: out,
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
                wait_s=min(1.0, self.timeouts.barrier_s),
                force=force,
            )
            self._note(link, news)
            if news["round"] != round_:
                return news
            if time.monotonic() - begin > self.timeouts.barrier_s:
                logging.warning(
                    "worker %d waited %g s for worker(s) %s at exchange %d "
                    "and goes on without them.",
                    self.worker,
                    self.timeouts.barrier_s,
                    ", ".join(map(str, news["missing"])) or "yet to join",
                    round_,
                )
                force = True

    def _with_all(
        self,
        do: Callable[[Link, dict, dict], dict[str, Any]],
        values: Arrays,
        flat: Arrays,
        rates: Rates,
    ) -> Moved:
        """Does one exchange with every center server that is there."""
        if self.failure is not None:
            raise self.failure
        begin = time.monotonic()
        self.sequence += 1
        num_workers = self.num_workers  # Heartbeats change it.
        now = rates(num_workers, self.clock)
        rate = {"beta": float(now.beta), "num_workers": num_workers}

        def push(link: Link) -> dict[str, Any]:
            news = do(
                link,
                {
                    "worker": self.worker,
                    "incarnation": link.incarnation,
                    "sequence": self.sequence,
                    "version_read": link.version_read,
                    "clock": self.clock,
                    "samples": self.samples,
                },
                rate,
            )
            self._note(link, news)
            link.version_read = news["version"]
            return news

        def one(link: Link) -> bool | errors.LostSlotError:
            """Whether the server took part, or why this worker may not."""
            with self._lock:
                link.pushing = link.away_since is None
            if link.pushing:
                try:
                    try:
                        news = push(link)
                    except BEGUN_ANEW:
                        # So does this worker, there.
                        self._join(link, values, Patience(self._exchange_s()))
                        news = push(link)
                    with self._lock:
                        self._settle(link, news["pushes"], answered=1)
                        link.pushing = False
                    return True
                except errors.LostSlotError as error:
                    return error
                except (errors.CenterUnavailableError, *BEGUN_ANEW) as error:
                    self._went_away(link, error)
                finally:
                    link.pushing = False
            for part in self.layout.parts(flat, link.shard):
                part[...] = 0
            return False

        outcomes = self._with_links(one)
        took_part = sum(outcome is True for outcome in outcomes)
        for outcome in outcomes:
            if isinstance(outcome, errors.LostSlotError):
                with self._lock:
                    self.counts.lost_halves += took_part
                return self._restart(values, outcome)
        for link, outcome in zip(self.links, outcomes, strict=True):
            link.missed += not outcome
            self.counts.missed += not outcome
        if self.codec != "none":
            self.counts.codec_error = max(k.codec_error for k in self.links)
        self.counts.exchanges += took_part > 0
        self.counts.exchange_s += time.monotonic() - begin
        self.counts.distance = _norm(
            [
                difference
                for section, difference in zip(
                    self.layout.sections, flat, strict=True
                )
                if section.role == PARAMETERS
            ]
        )
        return Moved(flat, float(now.moving_rate))

    def _restart(
        self, values: Arrays, reason: errors.ClusterError
    ) -> Moved:
        """Begins again from the center, as a new incarnation.

        Of a center server that is away, the part stays as it is.
        """
        logging.warning(
            "%s: worker %d begins again from the center.", reason, self.worker
        )
        self.counts.restarts += 1
        center = [array.copy() for array in values]
        patience = Patience(self._exchange_s())

        def enter(link: Link) -> None:
            if link.away_since is None:
                try:
                    self._enter(link, values, center, patience)
                    return
                except errors.CenterUnavailableError as error:
                    self._went_away(link, error)
            for own, part in zip(
                self.layout.parts(values, link.shard),
                self.layout.parts(center, link.shard),
                strict=True,
            ):
                part[...] = own

        self._with_links(enter, patience)
        return Moved(center, 0.0, restart=True)


def _norm(arrays: Arrays) -> float:
    total = 0.0
    for array in arrays:
        if array.dtype.itemsize < 4:
            array = array.astype(np.float32)
        total += float(np.dot(array, array))
    return total**0.5
