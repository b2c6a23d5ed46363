"""Which exchange with the center an optimizer's rule and protocol ask for."""

from collections.abc import Sequence
from typing import Any

from tf_elastic.core import protocols
from tf_elastic.optimizers import registry
from tf_elastic.optimizers.exchange_spec import ExchangedVariable
from tf_elastic.optimizers.exchange_spec import Spec
from tf_elastic.strategies.center_elastic import ElasticCenterExchange
from tf_elastic.strategies.center_exchange import CenterExchange
from tf_elastic.strategies.center_push import AdmmCenterExchange
from tf_elastic.strategies.center_push import PushCenterExchange
from tf_elastic.strategies.center_session import CenterSession
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.strategies.optimizer_sessions import other_variables


class CenterExchanges:
    """Makes the exchanges of a process with its center servers.

    Args:
        protocol: what was asked for; None for each method's own.
        compression: of what travels.
        devices: of this process.
        num_shards: how many center servers there are.
    """

    def __init__(
        self,
        protocol: str | None,
        compression: str,
        devices: Sequence[str],
        num_shards: int,
    ) -> None:
        self.asked = protocol
        self._compression = compression
        self._devices = devices
        self._num_shards = num_shards

    def protocol_of(self, method: str) -> str:
        """What was asked for, or the method's own.

        Args:
            method: the name that the optimizer is registered by.

        Raises:
            ValueError: what was asked for is none that the method has.
        """
        return registry.chosen(method, "protocol", self.asked)

    def first(
        self,
        spec: Spec,
        statistics: Sequence[ElasticVariable],
        jit_compile: bool | str,
    ) -> CenterExchange:
        """The exchange of the first optimizer that trains some variables.

        Args:
            spec: what the optimizer exchanges, by which rule.
            statistics: what is taken along.
            jit_compile: see `CenterExchange`.

        Raises:
            ValueError: the method has no such exchange.
        """
        spec = self.taken(spec)
        kind = protocols.PROTOCOLS[self.protocol_of(spec.method)]
        return self.made(
            spec,
            protocol=kind(spec.rule),
            statistics=statistics,
            devices=self._devices,
            num_shards=self._num_shards,
            jit_compile=jit_compile,
        )

    def taken(self, spec: Spec) -> Spec:
        """What is made of an optimizer's spec before all else: here nothing.

        Raises:
            ValueError: the method has no such exchange.
        """
        return spec

    def made(self, spec: Spec, **where: Any) -> CenterExchange:
        """The exchange that a rule asks for.

        Args:
            spec: what the optimizer exchanges, by which rule.
            **where: of `CenterExchange`.

        Raises:
            ValueError: the method has no such exchange.
        """
        if spec.rule.answers_difference:
            return ElasticCenterExchange(spec, **where)
        self._check_not_compressed(spec.method)
        if spec.takes_steps:
            return AdmmCenterExchange(spec, **where)
        return PushCenterExchange(spec, **where)

    def after(
        self,
        session: CenterSession,
        spec: Spec,
        jit_compile: bool | str,
    ) -> CenterExchange:
        """The exchange of a new optimizer for what is trained already.

        The center has all that it had: what the new one does not train comes
        to rest, and is exchanged as before, so that all workers agree on it.

        Args:
            session: that has exchanged before.
            spec: what the new optimizer exchanges.
            jit_compile: see `CenterExchange`.

        Raises:
            RuntimeError: the center does not go on by the new one's rule.
        """
        before = session.exchange
        if not before.may_be_followed_by(spec):
            raise other_variables(
                f"{spec.method}, by whose rule the center does not go on"
            )
        parameters = {id(p.variable): p for p in spec.parameters}
        spec = spec._replace(
            parameters=[
                # What is not trained any more comes to rest.
                parameters.get(id(variable), ExchangedVariable(variable))
                for variable in session.trained()
            ]
        )
        trained = [
            k
            for k, variable in enumerate(session.trained())
            if id(variable) in parameters
        ]
        exchange = self.first(spec, before.statistics, jit_compile)
        exchange.take_over(before)
        return exchange.training(trained)

    def _check_not_compressed(self, method: str) -> None:
        if self._compression != "none":
            raise ValueError(
                "`compression` is for elastic averaging, whose differences "
                "shrink as training goes on. Received: compression="
                f"{self._compression!r} with {method}. Leave it out."
            )
