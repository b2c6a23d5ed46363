"""What time needs to know of an exchange, of what an optimizer says."""

from collections.abc import Sequence
from typing import Any

from tf_elastic.core import protocols
from tf_elastic.optimizers import registry
from tf_elastic.strategies.elastic_variable import ElasticVariable
from tf_elastic.timeline.virtual.workload import Workload

# Steps between two exchanges where there are none.
_NEVER = 2**62


def workload_of(
    spec: Any,
    statistics: Sequence[ElasticVariable],
    protocol: protocols.ExchangeProtocol,
) -> Workload:
    """What time needs to know of an exchange.

    Args:
        spec: what the optimizer says.
        statistics: that are taken along.
        protocol: by which workers exchange.
    """
    calls = spec.calls_per_step
    is_before = protocols.GRADIENT in protocol.moments
    if spec.communication_period is None:
        period, phase = _NEVER, _NEVER - 1
    else:
        period = spec.communication_period * calls
        phase = calls - 1 if is_before else period - 1
    variables = [parameter.variable for parameter in spec.parameters]
    size = sum(
        variable.shape.num_elements() * variable.dtype.size
        for variable in [*variables, *statistics]
    )
    if registry.named(spec.method).one_worker:
        size = 0  # It keeps its average itself: nothing travels.
    reads = protocols.READ in protocol.plan(protocol.moments[0])
    reads = reads or spec.takes_steps
    return Workload(
        rule=spec.rule,
        protocol=protocol.name,
        period=period,
        phase=phase,
        bytes_up=size,
        bytes_down=0 if spec.takes_steps else size,  # A part is not answered.
        bytes_read=size if reads else 0,
        calls=calls,
        takes_steps=spec.takes_steps,
    )
