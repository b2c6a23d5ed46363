"""The sessions of all optimizers of a process with their centers."""

import contextlib
from collections.abc import Callable
from collections.abc import Iterator

import keras
import tensorflow as tf

from tf_elastic.cluster.transport import wire
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.strategies.center_exchange import CenterExchange
from tf_elastic.strategies.center_session import CenterSession
from tf_elastic.strategies.group_meeting import HasEnded


class OptimizerSessions:
    """One session for each optimizer, in the order in which they are built.

    The first one's is here from the beginning, to look at.

    Args:
        new_session: makes the session of a number, from 0.
    """

    def __init__(self, new_session: Callable[[int], CenterSession]) -> None:
        self._new_session = new_session
        self.sessions = [new_session(0)]
        self._looking = False
        self._held = False

    def session_for(self, spec: Spec) -> CenterSession:
        """The session of an optimizer's variables, or a new one.

        Args:
            spec: what the optimizer exchanges.

        Raises:
            RuntimeError: an optimizer trains some of them already, not all.
        """
        wanted = {id(parameter.variable) for parameter in spec.parameters}
        for session in self.sessions:
            known = set(map(id, session.trained()))
            if not known or (session.exchanger is None and wanted & known):
                return session
            if wanted <= known:
                return session
            if wanted & known:
                raise other_variables(
                    "for some variables that the one before trains, and some "
                    "that it does not"
                )
        if len(self.sessions) == wire.MAX_GROUPS:
            raise other_variables(
                f"beyond the {wire.MAX_GROUPS} that a cluster has centers for"
            )
        self.sessions.append(self._new_session(len(self.sessions)))
        return self.sessions[-1]

    def session_of(self, exchange: CenterExchange) -> CenterSession:
        """Whose exchange it is, or was."""
        trained = {id(p.variable) for p in exchange.parameters}
        return next(
            session
            for session in self.sessions
            if trained & set(map(id, session.trained()))
        )

    def exchanged(self, besides: CenterSession | None = None) -> set[int]:
        """The identities of all variables that are exchanged.

        Args:
            besides: a session whose own do not count.
        """
        return {
            id(variable)
            for session in self.sessions
            if session is not besides
            for variable in session.exchanged()
        }

    def join(self) -> None:
        """Those that have an exchange join, in eager code."""
        for session in self.sessions:
            if session.exchange is not None:
                session.join()

    # Telling others, and being told.

    def are_of(self, model: keras.Model) -> None:
        """Notes the model that trains here."""
        for session in self.sessions:
            session.chiefs_word.is_for(model)

    def tell_samples(self, samples: int) -> None:
        """The next sign of life tells how many this process has trained on."""
        for session in self.sessions:
            session.client.samples = samples

    def fit_ends(self, samples: int) -> None:
        """Training is over, until it begins again."""
        self.tell_samples(samples)
        for session in self.sessions:
            session.chiefs_word.fit_ends()

    def group_has_ended(self) -> None:
        """Training is over for another process of the group, and so here."""
        for session in self.sessions:
            session.chiefs_word.stop(HasEnded())

    # Looking at the center.

    def pass_begins(self) -> None:
        """A pass over data begins: shows the newest center."""
        for session in self.sessions:
            session.pass_begins()
        self.look()

    def look_if_old(self) -> None:
        """Shows the newest center, if it was not looked at just now."""
        if self._held or self._looking or not tf.executing_eagerly():
            return
        with self._looks():
            for session in self.sessions:
                session.look_if_old()

    def look(self) -> None:
        """Reads the center into this process' copies of it."""
        with self._looks():
            for session in self.sessions:
                session.look()

    @contextlib.contextmanager
    def _looks(self) -> Iterator[None]:
        """Inside, what is read is no reason to look once more."""
        self._looking = True
        try:
            yield
        finally:
            self._looking = False

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Inside, only a new pass over data shows a newer center."""
        self._held = True
        try:
            yield
        finally:
            self._held = False


def other_variables(reason: str) -> RuntimeError:
    """The error of an optimizer that cannot follow the one before.

    Args:
        reason: what is wrong with it, the end of a sentence.
    """
    return RuntimeError(
        "What an ElasticMultiWorkerStrategy has begun to train keeps its "
        "center. Received: another optimizer after training has begun, "
        f"{reason}. Give the first optimizer all that will be trained "
        "(`layer.trainable = False` and a new `compile` by the same method "
        "may freeze some of it later), or save the model and start another "
        "cluster for it."
    )
