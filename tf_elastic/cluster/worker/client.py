"""A worker's side of the center: what a protocol asks of all center servers."""

import contextlib
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from functools import partialmethod
from typing import Any

from tf_elastic.cluster import watch
from tf_elastic.cluster.instruction import Instruction
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.layout import Layout
from tf_elastic.cluster.transport import codec as codecs
from tf_elastic.cluster.worker import exchanges
from tf_elastic.cluster.worker.all_sessions import AllSessions
from tf_elastic.cluster.worker.moved import Moved
from tf_elastic.cluster.worker.patience import Timeouts
from tf_elastic.cluster.worker.reliable_fanout import Counts
from tf_elastic.cluster.worker.reliable_fanout import ReliableFanout
from tf_elastic.cluster.worker.reliable_push import Moment
from tf_elastic.cluster.worker.reliable_push import Push
from tf_elastic.cluster.worker.shard_session import Arrays
from tf_elastic.cluster.worker.shard_session import News
from tf_elastic.cluster.worker.shard_session import ShardSession
from tf_elastic.cluster.worker.surroundings import Identity
from tf_elastic.cluster.worker.surroundings import Surroundings
from tf_elastic.core import lateness
from tf_elastic.core import rules
from tf_elastic.core.rules import Rates
from tf_elastic.timeline import event as happened

# Of (p, the worker's clock).
RatesOf = Callable[[int, int], Rates]

_NO_STALENESS = (1 << 53) - 1


class CenterClient:
    """A process' sessions with all center servers, used as one.

    It joins, reads, and stays known by signs of life. A center server that is
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
        around: time, network, threads and listeners; None for the usual ones.
    """

    layout: Layout  # of the model, as soon as it is known

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
        around: Surroundings | None = None,
    ) -> None:
        lateness.check_max_lag(max_lag)
        if codec not in codecs.CODECS:
            raise ValueError(
                f"`compression` must be one of {codecs.CODECS}. "
                f"Received: compression={codec!r}."
            )
        self.worker = worker
        self.is_chief = is_chief
        self.max_lag = max_lag
        self.timeouts = timeouts or Timeouts()
        self.barrier_s = self.timeouts.barrier_s  # less at the end
        self.clock = 0  # the worker's local steps
        self.samples = 0  # that it has trained on
        self.notes: dict[str, Any] = {}  # others see them in the status
        self.trains = False  # the chief waits for it at the end
        self.sequence = 0
        self._around = around = around or Surroundings()
        process = uuid.uuid4().hex
        identity = Identity(worker, is_chief, expected_workers, process)
        self.events = around.stream(worker, group)
        self.sessions = [
            ShardSession(
                around.connect(address, k, security or Security(), group),
                k,
                identity,
                codec,
                self.timeouts,
                around,
                self.events,
            )
            for k, address in enumerate(centers)
        ]
        self._all = AllSessions(
            self.sessions, self._progress, self.timeouts, around
        )
        self._reliably = ReliableFanout(self._all, around, self.events)
        self._num_workers = expected_workers  # as long as nobody has told
        self._told = Instruction()  # by this worker, the chief

    # What is known of the worker, the center and the others.

    def _progress(self) -> dict[str, Any]:
        notes = watch.finite({**self.notes, watch.TRAINS: self.trains})
        return {"clock": self.clock, "samples": self.samples, "notes": notes}

    @property
    def counts(self) -> Counts:
        """What happened between this worker and the center, as of now."""
        return self._reliably.counts

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts for how long training stands still, inside the block."""
        begin = self._around.now()
        try:
            yield
        finally:
            seconds = self._around.now() - begin
            self.events.tell(happened.WAIT, seconds=seconds)

    @property
    def failure(self) -> BaseException | None:
        """Why training cannot go on, as was found out."""
        return self._all.failure

    @property
    def joined(self) -> bool:
        """Whether this worker has joined the center."""
        return all(session.joined for session in self.sessions)

    @property
    def num_workers(self) -> int:
        """p, as the first center server that is there has told."""
        for session in self.sessions:
            if session.news.num_workers is not None:
                self._num_workers = session.news.num_workers
                break
        return self._num_workers

    @property
    def samples_of_others(self) -> int:
        """And of this worker's earlier processes, as far as was heard."""
        return max(s.news.samples_of_others for s in self.sessions)

    @property
    def instruction(self) -> Instruction:
        """The chief's newest that was heard, or told."""
        heard = [session.news.instruction for session in self.sessions]
        return max([self._told, *heard], key=lambda told: told.number)

    @property
    def shares_memory(self) -> bool:
        """Whether a center server is on this host, and let into memory."""
        return any(s.connection.shares_memory for s in self.sessions)

    # Joining and leaving.

    def _is_of(self, layout: Layout) -> None:
        self.layout = layout
        for session in self.sessions:
            session.layout = layout

    def greet(self, layout: Layout) -> bool:
        """Waits for all center servers, and hears what there is to know.

        Who is not the chief waits for their parameters, too.

        Returns:
            Whether all have parameters.

        Raises:
            CenterUnavailableError: a center server was not there in time, or
                had none.
            CenterRefusedError: it is another one.
        """
        self._is_of(layout)
        patience = self._around.patience(self.timeouts.join_s)
        return all(self._all.do(lambda s: s.greet(patience), patience))

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
        self._is_of(layout)
        center = layout.empty()
        patience = self._around.patience(self.timeouts.join_s)
        # From now on, since to send all parameters may last longer than a
        # lease.
        self._all.begin_to_beat()
        self._all.do(
            lambda s: s.join(s.part(values), patience, s.part(center)),
            patience,
        )
        before = [session.clock_before for session in self.sessions]
        self.clock = max(self.clock, *before)
        self._reliably.known = center
        return center

    def signal(self) -> None:
        """A sign of life to all at once."""
        self._all.signal()

    def leave(self, finished: bool = False) -> None:
        """Gives the slots back, and closes everything. Never raises.

        Args:
            finished: whether this worker has done its part; then the others'
                alpha stays as it is.
        """
        self._all.leave(finished)

    # Looking, and telling.

    def look(self, layout: Layout) -> Arrays:
        """Reads the center, joined or not.

        Raises:
            CenterEmptyError: there is no center yet.
            CenterUnavailableError: a server did not answer in time.
        """
        self._is_of(layout)
        return self.read()

    def read(self) -> Arrays:
        """Reads all of the center, as anybody may; errors as of `look`."""
        flat, patience = self.layout.empty(), self.sessions[0].patience()
        self._all.do(lambda s: s.look(s.part(flat), patience), patience)
        return flat

    def status(self, staleness_since: int = 0) -> list[News | None]:
        """Every center server's status; None for one that is away."""
        return self._all.do(lambda session: session.status(staleness_since))

    def wait_for_others(self, seconds: float) -> list[int]:
        """Waits until no other worker is in the midst of training.

        Args:
            seconds: how long at most.

        Returns:
            The workers that are.
        """
        patience = self._around.patience(seconds)
        while True:
            trains = watch.in_training(self.status(_NO_STALENESS))
            others = [worker for worker in trains if worker != self.worker]
            if not others or patience.is_over():
                return others
            patience.pause()

    def instruct(
        self,
        stop: bool,
        learning_rate: float | None,
        instead_of: float | None,
    ) -> None:
        """As the chief, tells all workers what to do; see `Instruction`.

        A center server that is away hears of it when it is back, if there is
        another instruction, and its workers from the others.
        """
        number = self.instruction.number + 1
        self._told = told = Instruction(number, stop, learning_rate, instead_of)
        self._all.do(lambda session: session.instruct(told))

    # Exchanges.

    def read_points(self) -> Moved:
        """Reads where to go on from, and pushes nothing."""
        self._all.check()
        return self._reliably.read_points()

    def begin(self) -> Moved:
        """Reads the center for a worker that has taken no step yet.

        Of a center server that is away it has what it got before.
        """
        self._all.check()
        return self._reliably.begin()

    def _push(
        self,
        call: Callable[[ShardSession, Push, Arrays, Arrays], News],
        values: Arrays,
        rates: RatesOf,
        out: Arrays | None = None,
        at: Moment | None = None,
        overlapped: bool = False,
    ) -> Moved:
        """Brings all center servers something, and gets what comes back.

        Args:
            call: how; see `exchanges`.
            values: the worker's, one array for each section.
            rates: of an exchange by one of p workers at the worker's clock.
            out: what to fill with what comes back; None for new arrays.
            at: where the worker was when `values` were made; None for now.
            overlapped: whether that was before the answer to the push before
                was there.

        Returns:
            What the worker is to do.

        Raises:
            NonFiniteError, ReplacedError, CenterRefusedError: training
                cannot go on.
        """
        self._all.check()
        self.sequence += 1
        at = at or Moment(self.clock, self.samples)
        num_workers = self.num_workers  # Signs of life change it.
        rule = self.layout.rule
        takes_points = call in exchanges.FOR_POINTS
        # A part of ADMM's center is the worker's own, however old.
        may_be_late = takes_points or rule.answers_difference
        if may_be_late and self.max_lag is not None:
            self._all.ask_if_overdue()
        push = Push(
            call,
            self.sequence,
            at,
            {**rates(num_workers, at.clock), "num_workers": num_workers},
            rule.sends == rules.INCREMENT,
            takes_points,
            overlapped,
            self.barrier_s,
            self.max_lag if may_be_late else None,
        )
        room = self.layout.empty() if out is None else out
        return self._reliably.push(push, values, room)

    exchange = partialmethod(_push, exchanges.exchange)
    read_and_push = partialmethod(_push, exchanges.read_and_push)
    meet = partialmethod(_push, exchanges.meet)
    push = partialmethod(_push, exchanges.push_only)
    take = partialmethod(_push, exchanges.take)
    meet_and_read = partialmethod(_push, exchanges.meet_and_read)
