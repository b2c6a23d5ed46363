"""Who is there: a process' places at all center servers, kept alive."""

import concurrent.futures
import math
import threading
import time
import uuid
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging

from tf_elastic.cluster import codec as codecs
from tf_elastic.cluster import errors
from tf_elastic.cluster import wire
from tf_elastic.cluster.configuration import Security
from tf_elastic.cluster.connection import Connection
from tf_elastic.cluster.instruction import Instruction
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.link import Counts
from tf_elastic.cluster.link import Link
from tf_elastic.cluster.link import Patience
from tf_elastic.cluster.link import Timeouts
from tf_elastic.core import lateness

Arrays = list[np.ndarray]

# A center server does not know what this worker knows of it.
BEGUN_ANEW = (errors.UnknownWorkerError, errors.CenterEmptyError)
_GOES_ON = (
    *BEGUN_ANEW,
    errors.CenterUnavailableError,
    errors.LostSlotError,
)
_POLL_S = 0.05
_BREAK_OFF_S = 0.7
_NONE_OF_IT = (1 << 53) - 1
# Among a worker's notes: whether it is in the midst of training.
TRAINS = "trains"


class Membership:
    """A process' places at all center servers.

    It joins, reads, and stays known by heartbeats. A center server that is
    away is left out, and looked for by the heartbeat's thread.

    Args:
        centers: the addresses of all center servers.
        worker: the worker's index, or None for a process that only looks.
        is_chief: whether its parameters may begin a new center.
        expected_workers: that the cluster is begun with.
        security: token and certificates.
        codec: how parameters are compressed; one of `codec.CODECS`.
        timeouts: see `Timeouts`.
        group: which optimizer's center is meant, from 0.
        max_lag: see `core.lateness`.
    """

    def __init__(
        self,
        centers: Sequence[str],
        worker: int | None,
        is_chief: bool,
        expected_workers: int,
        security: Security | None = None,
        codec: str = "none",
        timeouts: Timeouts | None = None,
        group: int = 0,
        max_lag: float | None = lateness.DEFAULT_MAX_LAG,
    ) -> None:
        lateness.check_max_lag(max_lag)
        if codec not in codecs.CODECS:
            raise ValueError(
                f"`compression` must be one of {codecs.CODECS}. "
                f"Received: compression={codec!r}."
            )
        security = security or Security()
        self.worker = worker
        self.is_chief = is_chief
        self.expected_workers = expected_workers
        self.codec = codec
        self.max_lag = max_lag
        self.timeouts = timeouts or Timeouts()
        self.links = [
            Link(Connection(address, k, security, group), k, codec)
            for k, address in enumerate(centers)
        ]
        self.barrier_s = self.timeouts.barrier_s  # less at the end
        self.layout: Layout | None = None
        self.counts = Counts()
        self.num_workers = expected_workers
        self.samples_of_others = 0  # and of this worker's earlier processes
        self.clock = 0  # the worker's local steps
        self.samples = 0  # that it has trained on
        self._notes: dict[str, Any] = {}  # others see them in the status
        self.trains = False  # the chief waits for it at the end
        self.instruction = Instruction()  # the chief's newest that was heard
        self.sequence = 0
        self.failure: BaseException | None = None
        self._process = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._pool = concurrent.futures.ThreadPoolExecutor(
            len(self.links), thread_name_prefix="center"
        )
        self._stopped = threading.Event()
        self._hearts: list[threading.Thread] = []

    @property
    def notes(self) -> dict[str, Any]:
        """What others see of this worker in the status."""
        return self._notes

    @notes.setter
    def notes(self, notes: Mapping[str, Any]) -> None:
        # JSON knows no infinity, and the center takes none.
        self._notes = {
            name: value
            for name, value in notes.items()
            if not isinstance(value, float) or math.isfinite(value)
        }

    # Joining.

    @property
    def joined(self) -> bool:
        """Whether this worker has joined the center."""
        return self.layout is not None and all(
            link.joined for link in self.links
        )

    @property
    def total_samples(self) -> int:
        """Samples that all workers have trained on, as far as was heard."""
        return self.samples_of_others + self.samples

    @property
    def incarnation(self) -> int:
        """Which life of this worker it is, as the first server counts."""
        return self.links[0].incarnation

    @property
    def version(self) -> int:
        """The first center server's newest version that was seen."""
        return self.links[0].version

    def greet(self, layout: Layout) -> bool:
        """Waits for all center servers, and hears what there is to know.

        Who is not the chief waits for their parameters, too.

        Args:
            layout: of the model.

        Returns:
            Whether all have parameters.

        Raises:
            CenterUnavailableError: a center server was not there in time, or
                had none.
            CenterRefusedError: it is another one.
        """
        self.layout = layout
        patience = Patience(self.timeouts.join_s)

        def greet(link: Link) -> bool:
            while True:
                known = self._patiently(
                    link, patience, lambda: self._hello(link)
                )
                if known["ready"] or self.is_chief:
                    return known["ready"]
                self._check_patience(
                    link, patience, "the chief has not begun it"
                )

        return all(self._with_links(greet, patience))

    def join(self, layout: Layout, values: Arrays) -> Arrays:
        """Joins all center servers; waits for them.

        Args:
            layout: of the model.
            values: the worker's, one array for each section.

        Returns:
            The center's values. If there was no center yet and this is the
            chief, they are `values`. `clock` is that of the worker's process
            before this one, as far as the center has heard.

        Raises:
            CenterUnavailableError: a center server was not there in time.
            CenterRefusedError: a center server is of another model.
        """
        self.layout = layout
        center = layout.empty()
        patience = Patience(self.timeouts.join_s)
        if not self._hearts:
            # From now on, since to send all parameters may last longer than
            # a lease.
            self._hearts = [
                threading.Thread(
                    target=self._beat,
                    args=(link,),
                    name=f"heartbeat-{link.shard}",
                    daemon=True,
                )
                for link in self.links
            ]
            for heart in self._hearts:
                heart.start()
        self._with_links(
            lambda link: self._enter(link, values, center, patience), patience
        )
        known = [link.clock_before for link in self.links]
        self.clock = max(self.clock, *known)
        return center

    def _enter(
        self, link: Link, values: Arrays, center: Arrays, patience: Patience
    ) -> None:
        """Joins one server, and reads what it has."""
        while True:
            self._join(link, values, patience)
            try:
                news = self._patiently(
                    link,
                    patience,
                    lambda: self._read(
                        link, self.layout.parts(center, link.shard)
                    ),
                )
                link.version_read = link.version_held = news["version"]
                link.round = news["round"]
                return
            except (*BEGUN_ANEW, errors.LostSlotError) as error:
                self._check_patience(link, patience, error)

    def _join(self, link: Link, values: Arrays, patience: Patience) -> None:
        """Takes a slot at one server, and fills it if it is empty."""
        while True:
            try:
                news = self._patiently(link, patience, lambda: self._slot(link))
                while not news["ready"]:
                    news = self._patiently(
                        link, patience, lambda: self._offer(link, values)
                    )
                    if not news["ready"]:
                        self._check_patience(
                            link, patience, "the chief has not begun it"
                        )
                with self._lock:
                    link.away_since = None
                return
            except (*BEGUN_ANEW, errors.LostSlotError) as error:  # Just now.
                self._check_patience(link, patience, error)

    def _hello(self, link: Link) -> dict[str, Any]:
        known = self._control(link, wire.HELLO, worker=self.worker)
        if known["shard"] != link.shard:
            raise errors.CenterRefusedError(
                f"The process at {link.connection.address} is center "
                f"{known['shard']} of its cluster. Received: index "
                f"{link.shard} of the job ps. Give all processes the same "
                "cluster, its addresses in the same order"
            )
        if not link.joined:  # It knows of none of this process' samples.
            self._hear({**known, "own_samples": 0})
        return known

    def _slot(self, link: Link) -> dict[str, Any]:
        known = self._hello(link)
        link.clock_before = known["clock"]
        previous = link.incarnation
        # A server without memory knows less than this worker. Noted before
        # the call, since its answer may be lost.
        link.incarnation = max(known["last_incarnation"] + 1, previous)
        link.forget_reference()
        with self._lock:  # The last that is heard of the life before.
            same = known["last_incarnation"] == previous
            self._settle(link, known["pushes"] if same else 0, answered=0)
            link.pushes = 0
        news = self._control(
            link,
            wire.JOIN,
            worker=self.worker,
            incarnation=link.incarnation,
            expected=self.expected_workers,
            description=self.layout.describe(),
            process=self._process,
            previous=previous,
        )
        link.joined = True
        self._note(link, news)
        return news

    def _offer(self, link: Link, values: Arrays) -> dict[str, Any]:
        """Offers parameters to a server that has none; sends them if asked."""
        news = self._control(
            link,
            wire.OFFER,
            worker=self.worker,
            incarnation=link.incarnation,
            version_seen=link.version,
            is_chief=self.is_chief,
        )
        if news["upload"]:
            news = link.connection.stream(
                wire.INITIALIZE,
                self._exchange_s(),
                {
                    "worker": self.worker,
                    "incarnation": link.incarnation,
                    "version": link.version,
                },
                self.layout.parts(values, link.shard),
            )
        self._note(link, news)
        return news

    def _check_patience(
        self, link: Link, patience: Patience, reason: object
    ) -> None:
        """Waits a moment before the next attempt, or gives up."""
        if patience.is_over() or self._stopped.wait(_POLL_S):
            raise errors.CenterUnavailableError(
                f"worker {self.worker} waited {patience.seconds:g} s for the "
                f"parameters of center {link.shard} "
                f"({link.connection.address}): {reason}. Look at the chief's "
                "log"
            )

    def _with_links(
        self, do: Callable[[Link], Any], patience: Patience | None = None
    ) -> list[Any]:
        """Does something with all center servers at once, and waits for all.

        Of several errors the one is raised after which nothing can go on. It
        ends the others' patience.
        """
        futures = [self._pool.submit(do, link) for link in self.links]
        for future in concurrent.futures.as_completed(futures):
            if patience and future.exception():
                patience.give_up()
        found = [f.exception() for f in futures if f.exception()]
        if found:
            raise min(found, key=lambda e: isinstance(e, _GOES_ON))
        return [future.result() for future in futures]

    def _patiently(
        self,
        link: Link,
        patience: Patience,
        call: Callable[[], dict[str, Any]],
    ) -> dict[str, Any]:
        """Calls until there is an answer, or the deadline is over."""
        begin, attempts = time.monotonic(), 0
        while True:
            attempts += 1
            try:
                return call()
            except errors.CenterUnavailableError as error:
                now = time.monotonic()
                if patience.is_over() or self._stopped.is_set():
                    raise errors.CenterUnavailableError(
                        f"worker {self.worker} waited {now - begin:.1f} s for "
                        f"center {link.shard} ({link.connection.address}), in "
                        f"{attempts} attempts; the last: {error}. Is it "
                        "started, and is its address right?"
                    ) from error
                self._stopped.wait(4 * _POLL_S)

    # Reading.

    def read(self) -> Arrays:
        """Reads all of the center, as anybody may: no slot is needed.

        Raises:
            CenterUnavailableError: a server did not answer within the time
                of an exchange, or is known to be away: nobody waits for it
                twice.
            CenterEmptyError: a server has begun anew and is not filled yet.
        """
        flat = self.layout.empty()
        patience = Patience(self._exchange_s())

        def read(link: Link) -> None:
            parts = self.layout.parts(flat, link.shard)
            if link.away_since is not None:
                raise errors.CenterUnavailableError(
                    f"center {link.shard} ({link.connection.address}) is away"
                )
            try:
                self._patiently(
                    link, patience, lambda: self._read(link, parts, False)
                )
            except errors.CenterUnavailableError as error:
                if link.joined:  # The heartbeat's thread looks for it.
                    self._went_away(link, error)
                raise

        self._with_links(read, patience)
        return flat

    def _read(
        self, link: Link, parts: Arrays, as_worker: bool = True
    ) -> dict[str, Any]:
        header = {}
        if as_worker:
            header = {"worker": self.worker, "incarnation": link.incarnation}
        news = link.connection.stream(
            wire.READ, self._exchange_s(), header, (), parts
        )
        self._note(link, news)
        return news

    def look(self, layout: Layout) -> Arrays:
        """Reads the center, joined or not.

        Raises:
            CenterEmptyError: there is no center yet.
            CenterUnavailableError: a server did not answer in time.
        """
        self.layout = layout
        return self.read()

    def status(self, staleness_since: int = 0) -> list[dict[str, Any] | None]:
        """Every center server's status; None for one that is away."""

        def ask(link: Link) -> dict[str, Any] | None:
            if link.away_since is not None:
                return None
            try:
                return self._control(
                    link, wire.STATUS, staleness_since=staleness_since
                )
            except errors.CenterUnavailableError:
                return None

        return self._with_links(ask)

    # Who is there.

    def _went_away(self, link: Link, reason: errors.ClusterError) -> None:
        with self._lock:
            if link.away_since is not None:
                return
            link.away_since = time.monotonic()
            link.missed = 0
            link.forget_reference()  # What it has got is not known.
        if self._stopped.is_set():
            return
        logging.warning(
            "%s. Worker %d trains on without it, and looks for it every %g s.",
            reason,
            self.worker,
            self.timeouts.heartbeat_s,
        )

    def _came_back(self, link: Link, known: dict[str, Any]) -> None:
        with self._lock:
            if link.away_since is None:
                return
            gone_s = time.monotonic() - link.away_since
            lost = 0
            same = known["last_incarnation"] == link.incarnation
            if same and not link.pushing:
                # Of a push that comes later still, the next answer tells.
                lost = self._settle(link, known["pushes"], answered=0)
            link.away_since = None
        logging.warning(
            "center %d (%s) is back after %.1f s; worker %d missed %d "
            "exchanges with it%s.",
            link.shard,
            link.connection.address,
            gone_s,
            self.worker,
            link.missed,
            ", and half of one was lost" if lost else "",
        )

    def _beat(self, link: Link) -> None:
        """Signs of life, and a look for a server that is away; a thread."""
        while not self._stopped.wait(self.timeouts.heartbeat_s):
            try:
                self._beat_once(link)
            except Exception as error:
                # The next exchange raises it.
                self.failure = error
                logging.error("worker %d: %s.", self.worker, error)
                return

    def _beat_once(self, link: Link) -> None:
        if not link.joined:
            return
        incarnation = link.incarnation
        try:
            if link.away_since is not None:
                self._came_back(
                    link, self._control(link, wire.HELLO, worker=self.worker)
                )
                return
            news = self._control(
                link,
                wire.HEARTBEAT,
                worker=self.worker,
                incarnation=incarnation,
                clock=self.clock,
                samples=self.samples,
                notes={**self.notes, TRAINS: self.trains},
            )
            self._note(link, news)
        except errors.CenterUnavailableError as error:
            self._went_away(link, error)
        except (*BEGUN_ANEW, errors.LostSlotError):
            pass  # The next exchange joins again.
        except errors.ReplacedError:
            # Perhaps by this worker itself, while the heartbeat was under way.
            if link.incarnation == incarnation:
                raise

    def signal(self) -> None:
        """A sign of life to all at once, not when its time has come."""
        self._with_links(self._beat_once)

    def wait_for_others(self, seconds: float) -> list[int]:
        """Waits until no other worker is in the midst of training.

        Args:
            seconds: how long at most.

        Returns:
            The workers that are.
        """
        patience = Patience(seconds)
        while True:
            statuses = self.status(staleness_since=_NONE_OF_IT)
            first = next((s for s in statuses if s), {"members": {}})
            others = [
                int(worker)
                for worker, member in first["members"].items()
                if member["present"]
                and member["notes"].get(TRAINS)
                and int(worker) != self.worker
            ]
            if not others or patience.is_over():
                return others
            self._stopped.wait(2 * _POLL_S)

    def _note(self, link: Link, news: dict[str, Any]) -> None:
        link.heard_at = time.monotonic()
        if news["ready"]:  # An empty center has no version.
            link.version = news["version"]
        if link.refusals is not None and news["refusals"] > link.refusals:
            logging.warning("%s", news["last_refusal"])
        link.refusals = news["refusals"]
        if all(k.away_since is not None for k in self.links[: link.shard]):
            self.num_workers = news["num_workers"]
        self._hear(news)

    def _hear(self, news: dict[str, Any]) -> None:
        """Notes what any one server that lives knows of all."""
        if "own_samples" in news:
            # One that has begun anew knows of fewer.
            self.samples_of_others = max(
                self.samples_of_others,
                news["total_samples"] - news["own_samples"],
            )
        heard = Instruction.from_json(news.get("instruction"))
        if heard.number > self.instruction.number:
            self.instruction = heard

    def instruct(
        self,
        stop: bool,
        learning_rate: float | None,
        instead_of: float | None,
    ) -> None:
        """As the chief, tells all workers what to do from now on.

        A center server that is away hears of it when it is back, if there is
        another instruction, and its workers from the others.

        Args:
            stop: whether training is over.
            learning_rate: the new one; None for the script's.
            instead_of: what the script has.
        """
        told = Instruction(
            self.instruction.number + 1, stop, learning_rate, instead_of
        )
        self.instruction = told

        def tell(link: Link) -> None:
            if link.away_since is not None or not link.joined:
                return
            try:
                self._control(
                    link,
                    wire.INSTRUCT,
                    worker=self.worker,
                    incarnation=link.incarnation,
                    **told._asdict(),
                )
            except errors.CenterUnavailableError as error:
                self._went_away(link, error)
            except (*BEGUN_ANEW, errors.LostSlotError):
                pass  # The next exchange joins again.

        self._with_links(tell)

    def _settle(self, link: Link, pushes: int, answered: int) -> int:
        """Compares what the server has applied with what was answered.

        To be called with the lock held.

        Args:
            link: to the server.
            pushes: of this incarnation, as the server counts.
            answered: pushes answered since the last comparison.

        Returns:
            How many halves are lost since then.
        """
        more = pushes - link.pushes - answered
        link.pushes = pushes
        self.counts.lost_halves += max(more, 0)
        self.counts.forgotten += max(-more, 0)
        return max(more, 0)

    # Ending.

    def leave(self, finished: bool = False) -> None:
        """Gives the slots back, and closes everything. Never raises.

        Args:
            finished: whether this worker has done its part; then the others'
                alpha stays as it is.
        """
        with self._lock:
            if self._stopped.is_set():
                return
            self._stopped.set()
        # Whoever breaks off waits for nobody: its lease ends by itself.
        patience_s = self.timeouts.control_s
        if not finished:
            patience_s = min(patience_s, _BREAK_OFF_S)
            for link in self.links:
                link.connection.break_off()
        until = time.monotonic() + patience_s
        for heart in self._hearts:
            heart.join(timeout=max(until - time.monotonic(), 0.0))

        def leave(link: Link) -> None:
            if link.joined and link.away_since is None:
                try:
                    # The last word, from which a resumed run goes on.
                    link.connection.call(
                        wire.HEARTBEAT,
                        patience_s,
                        worker=self.worker,
                        incarnation=link.incarnation,
                        clock=self.clock,
                        samples=self.samples,
                        notes=self.notes,
                    )
                    link.connection.call(
                        wire.LEAVE,
                        patience_s,
                        worker=self.worker,
                        incarnation=link.incarnation,
                        finished=finished,
                    )
                except errors.ClusterError as error:  # Its lease will end.
                    logging.info("on leaving: %s.", error)

        try:
            # After what is still going on with each.
            self._with_links(leave)
        except RuntimeError:  # Python ends, and takes no work for threads.
            for link in self.links:
                leave(link)
        self._pool.shutdown(wait=False, cancel_futures=True)
        for link in self.links:
            link.connection.close()

    # Pieces.

    def _control(
        self, link: Link, name: str, **arguments: Any
    ) -> dict[str, Any]:
        return link.connection.call(
            name, self.timeouts.control_s, **arguments
        )

    def _exchange_s(self) -> float:
        """The deadline of an exchange: at least 2 MB/s are expected."""
        nbytes = sum(section.nbytes for section in self.layout.sections)
        return self.timeouts.exchange_s + 2 * nbytes / 2e6 / len(self.links)
