"""A worker's session with one center server.

It joins, reads, and stays known by signs of life. What it brings the server,
and how, is in `reliable_push`.
"""

import contextlib
import functools
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

import numpy as np
from absl import logging

from tf_elastic.cluster import errors
from tf_elastic.cluster.instruction import Instruction
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.transport.line import Line
from tf_elastic.cluster.transport.reference_codec import PointSender
from tf_elastic.cluster.worker.outbox import Outbox
from tf_elastic.cluster.worker.patience import Patience
from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.cluster.worker.server_news import ServerNews
from tf_elastic.cluster.worker.standing import Standing
from tf_elastic.cluster.worker.surroundings import Identity
from tf_elastic.cluster.worker.surroundings import Surroundings
from tf_elastic.timeline.stream import Stream

Arrays = list[np.ndarray]
News = dict[str, Any]
T = TypeVar("T")

_NOT_BEGUN = "the chief has not begun it"


class ShardSession:
    """A worker's place at one center server.

    Args:
        connection: to it.
        shard: its index.
        identity: who this process is.
        codec: how points are compressed; one of `codec.CODECS`.
        timeouts: see `Timeouts`.
        around: time and threads.
        events: is told when it is away, and what is lost.
        center: the server's number in events; None for `shard`.
    """

    layout: Layout  # of the model; to be set before anything is asked

    def __init__(
        self,
        connection: Line,
        shard: int,
        identity: Identity,
        codec: str,
        timeouts: Timeouts,
        around: Surroundings,
        events: Stream,
        center: int | None = None,
    ) -> None:
        self.center = shard if center is None else center
        self.connection = connection
        self.shard = shard
        self.identity = identity
        self.standing = Standing(self.center, events)
        self.outbox = Outbox()
        self.points = PointSender(codec)
        self.news = ServerNews()
        self.incarnation = 0
        self.joined = False
        self.clock_before = 0  # of the life before this one, local steps
        self.version_read = 0  # of the parameters that were last exchanged
        # The same before the last answer, which an overlapped message does
        # not know.
        self.version_held = 0
        # The same that the last answered message was made with.
        self.version_made_with = 0
        self.round = 0  # the synchronous one to come
        self.heard_at = 0.0  # when it has answered last
        self._timeouts = timeouts
        self._around = around
        self.now = around.now
        self.who = f"worker {identity.worker}"
        self._server = f"center {shard} ({connection.address})"

    @property
    def away_since(self) -> float | None:
        """When the server was found to be away; None if it is there."""
        return self.standing.away_since

    def part(self, flat: Sequence[np.ndarray]) -> Arrays:
        """The views of whole sections that concern this server."""
        return self.layout.parts(flat, self.shard)

    # Calls.

    def control(self, name: str, **arguments: Any) -> News:
        """A call of one message each way."""
        news = self.connection.call(name, self._timeouts.control_s, **arguments)
        self.heard_at = self.now()
        return news

    def stream(
        self,
        name: str,
        header: Mapping[str, Any],
        sent: Sequence[Any],
        out: Sequence[np.ndarray] = (),
    ) -> News:
        """A call with arrays; see `Line.stream`."""
        news = self.connection.stream(
            name, self.exchange_s, dict(header), sent, out
        )
        self.heard_at = self.now()
        return news

    def as_worker(self) -> dict[str, Any]:
        """By what the server knows this worker."""
        who = self.identity.worker
        return {"worker": who, "incarnation": self.incarnation}

    @property
    def exchange_s(self) -> float:
        """The deadline of an exchange: at least 2 MB/s are expected."""
        nbytes = sum(section.nbytes for section in self.layout.sections)
        seconds = 2 * nbytes / 2e6 / self.layout.num_shards
        return self._timeouts.exchange_s + seconds

    def patience(self) -> Patience:
        """For as long as an exchange may take."""
        return self._around.patience(self.exchange_s)

    # Joining.

    def greet(self, patience: Patience) -> bool:
        """Waits for the server; whether it has parameters.

        Who is not the chief waits for these, too.
        """
        while True:
            known = patience.call(self.who, self._server, self._hello)
            if known["ready"] or self.identity.is_chief:
                return bool(known["ready"])
            patience.wait(self.who, self._server, _NOT_BEGUN)

    def join(
        self,
        values: Arrays | None,
        patience: Patience,
        out: Arrays | None = None,
    ) -> News:
        """Takes a slot, and fills the server if it is empty.

        Args:
            values: this server's part of the worker's; None for one that has
                nothing to fill it with, and waits until another has.
            patience: until when it is tried.
            out: what to fill with what the server has; None to read nothing.
        """
        offer: Callable[[], News] = self._hello
        if values is not None:
            offer = functools.partial(self._offer, values)
        while True:
            try:
                news = patience.call(self.who, self._server, self._take_slot)
                while not news["ready"]:
                    news = patience.call(self.who, self._server, offer)
                    if not news["ready"]:
                        patience.wait(self.who, self._server, _NOT_BEGUN)
                self.standing.joins()
                if out is not None:
                    read = functools.partial(self.read, out)
                    news = patience.call(self.who, self._server, read)
                    self._begin_from(news)
                    self.round = news["round"]
                return news
            except (*errors.BEGUN_ANEW, errors.LostSlotError) as error:
                patience.wait(self.who, self._server, error)  # Just now.

    def _hello(self) -> News:
        known = self.control(wire.HELLO, worker=self.identity.worker)
        if known["shard"] != self.shard:
            raise errors.CenterRefusedError(
                f"The process at {self.connection.address} is center "
                f"{known['shard']} of its cluster. Received: index "
                f"{self.shard} of the job ps. Give all processes the same "
                "cluster, its addresses in the same order"
            )
        if not self.joined:  # It knows of none of this process' samples.
            self.news.note_workers({**known, "own_samples": 0})
        return known

    def _take_slot(self) -> News:
        known = self._hello()
        self.clock_before = known["clock"]
        previous = self.incarnation
        # A server without memory knows less than this worker. Noted before
        # the call, since its answer may be lost.
        self.incarnation = max(known["last_incarnation"] + 1, previous)
        self.points.forget()
        same = known["last_incarnation"] == previous
        self.standing.begins_anew(known["pushes"] if same else 0)
        news = self.control(
            wire.JOIN,
            **self.as_worker(),
            expected=self.identity.expected_workers,
            description=self.layout.describe(),
            process=self.identity.process,
            previous=previous,
        )
        self.joined = True
        self.news.note(news)
        return news

    def _offer(self, values: Arrays) -> News:
        """Offers parameters to a server that has none; sends them if asked."""
        news = self.control(
            wire.OFFER,
            **self.as_worker(),
            version_seen=self.news.version,
            is_chief=self.identity.is_chief,
        )
        if news["upload"]:
            header = {**self.as_worker(), "version": self.news.version}
            news = self.stream(wire.INITIALIZE, header, values)
        self.news.note(news)
        return news

    def joined_anew(self, call: Callable[[], T], values: Arrays) -> T:
        """What comes of a call, after joining a server that has begun anew."""
        try:
            return call()
        except errors.BEGUN_ANEW:
            self.join(values, self.patience())
            return call()

    # Reading.

    def read(self, out: Arrays) -> News:
        """Reads what a worker goes on from."""
        return self._read(self.as_worker(), out)

    def _read(self, header: Mapping[str, Any], out: Arrays) -> News:
        news = self.stream(wire.READ, header, (), out)
        self.news.note(news)
        return news

    def look(self, out: Arrays, patience: Patience) -> None:
        """Reads as anybody may: no slot is needed.

        Raises:
            CenterUnavailableError: the server did not answer, or is known to
                be away: nobody waits for it twice.
            CenterEmptyError: it has begun anew and is not filled yet.
        """
        if self.away_since is not None:
            raise errors.CenterUnavailableError(f"{self._server} is away")
        try:
            patience.call(self.who, self._server, lambda: self._read({}, out))
        except errors.CenterUnavailableError as error:
            if self.joined:  # The heartbeat's thread looks for it.
                self.went_away(error)
            raise

    def read_point(self, out: Arrays, known: Arrays) -> bool:
        """Reads where to go on from.

        Args:
            out: what to fill.
            known: what to begin a server with that has forgotten all.

        Returns:
            Whether the server was there.
        """
        news = self.if_there(
            lambda: self.joined_anew(lambda: self.read(out), known)
        )
        if news is not None:
            self._begin_from(news)
        return news is not None

    def _begin_from(self, news: News) -> None:
        """Notes what the worker has read, and goes on from."""
        self.version_read = self.version_held = news["version"]

    def status(self, staleness_since: int = 0) -> News | None:
        """The server's status; None if it is away."""
        if self.away_since is not None:
            return None
        try:
            return self.control(wire.STATUS, staleness_since=staleness_since)
        except errors.CenterUnavailableError:
            return None

    # Who is there.

    def if_there(self, call: Callable[[], T]) -> T | None:
        """What comes of a call; None if the server is away, or goes away."""
        if self.away_since is None:
            try:
                return call()
            except errors.CenterUnavailableError as error:
                self.went_away(error)
        return None

    def went_away(self, reason: errors.ClusterError) -> None:
        """Notes that the server does not answer."""
        self.points.forget()  # What it has got is not known.
        if not self.standing.goes_away(self.now()):
            return
        self.news.num_workers = None
        if not self._around.stopped.is_set():
            logging.warning(
                "%s. Worker %d trains on without it, and looks for it every "
                "%g s.",
                reason,
                self.identity.worker,
                self._timeouts.heartbeat_s,
            )

    def beat(self, progress: Mapping[str, Any]) -> None:
        """A sign of life, or a look for a server that is away.

        Args:
            progress: the worker's clock, samples and notes.
        """
        if not self.joined:
            return
        incarnation = self.incarnation
        try:
            if self.away_since is None:
                who = self.as_worker()
                self.news.note(self.control(wire.HEARTBEAT, **who, **progress))
            else:
                self._look_for()
        except errors.CenterUnavailableError as error:
            self.went_away(error)
        except (*errors.BEGUN_ANEW, errors.LostSlotError):
            pass  # The next exchange joins again.
        except errors.ReplacedError:
            # Perhaps by this worker itself, while the heartbeat was under way.
            if self.incarnation == incarnation:
                raise

    def _look_for(self) -> None:
        known = self.control(wire.HELLO, worker=self.identity.worker)
        same = known["last_incarnation"] == self.incarnation
        back = self.standing.comes_back(
            self.now(), known["pushes"] if same else None
        )
        if back is None:
            return
        gone_s, missed, lost = back
        logging.warning(
            "%s is back after %.1f s; %s missed %d exchanges with it%s.",
            self._server,
            gone_s,
            self.who,
            missed,
            ", and half of one was lost" if lost else "",
        )

    def instruct(self, told: Instruction) -> None:
        """Tells the server what the chief tells all, if it is there."""
        if not self.joined:
            return
        told_by = {**self.as_worker(), **told._asdict()}
        # Else the next exchange joins again.
        with contextlib.suppress(*errors.BEGUN_ANEW, errors.LostSlotError):
            self.if_there(lambda: self.control(wire.INSTRUCT, **told_by))

    def leave(
        self, progress: Mapping[str, Any], finished: bool, patience_s: float
    ) -> None:
        """Gives the slot back. Never raises.

        Args:
            progress: as of `beat`; the last word, from which a resumed run
                goes on.
            finished: whether the worker has done its part.
            patience_s: for each call.
        """
        if not self.joined or self.away_since is not None:
            return
        who = self.as_worker()
        call = functools.partial(self.connection.call, timeout_s=patience_s)
        try:
            call(wire.HEARTBEAT, **who, **progress)
            call(wire.LEAVE, **who, finished=finished)
        except errors.ClusterError as error:  # Its lease will end.
            logging.info("on leaving: %s.", error)
