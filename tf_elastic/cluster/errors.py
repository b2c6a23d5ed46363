"""What can go wrong between a worker and the center.

A center server tells these errors by their names, and the worker's side raises
them again.
"""


class ClusterError(Exception):
    """Base class of the errors between processes of a cluster."""


class CenterUnavailableError(ClusterError):
    """A center server did not answer in time, or is not there."""


class CenterRefusedError(ClusterError):
    """A center server does not take this process; trying again is no use.

    It has another model, release, number of servers, or token.
    """


class LostSlotError(ClusterError):
    """This worker was silent for too long, and has to join anew."""


class ReplacedError(ClusterError):
    """A newer process has taken this worker's place; this one has to end."""


class UnknownWorkerError(ClusterError):
    """The center does not know this worker (any more)."""


class CenterEmptyError(ClusterError):
    """The center server holds no parameters yet."""


class DuplicatePushError(ClusterError):
    """The center has applied this push before."""


class NonFiniteError(ClusterError):
    """A worker sent NaN or infinity; the center has not taken it."""


class LostReferenceError(ClusterError):
    """The center has not what a compressed message is relative to."""


class LocalClusterError(ClusterError, RuntimeError):
    """A cluster on this machine could not be started, or cannot go on."""


class MessageError(ClusterError):
    """A message is not what it should be."""


TOLD = {
    kind.__name__: kind
    for kind in (
        CenterRefusedError,
        LostSlotError,
        ReplacedError,
        UnknownWorkerError,
        CenterEmptyError,
        DuplicatePushError,
        NonFiniteError,
        LostReferenceError,
        MessageError,
    )
}
