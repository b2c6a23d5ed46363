"""What can go wrong between a worker and the center.

A center server tells these errors by their names, and the worker's side raises
them again.
"""

from absl import logging


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


class LatePushError(ClusterError):
    """The center has moved on too far since this worker last read it."""


class NothingSentError(ClusterError):
    """A child has listened, and its parent has sent nothing meanwhile."""


class NonFiniteError(ClusterError):
    """A worker sent NaN or infinity; the center has not taken it."""


class LostReferenceError(ClusterError):
    """The center has not what a compressed message is relative to."""


class UnexpectedError(ClusterError):
    """A center server failed in a call, by a fault of its own."""


class LocalClusterError(ClusterError, RuntimeError):
    """A cluster on this machine could not be started, or cannot go on."""


class MessageError(ClusterError):
    """A message is not what it should be."""


# A center server does not know what this worker knows of it.
BEGUN_ANEW = (UnknownWorkerError, CenterEmptyError)

TOLD = {
    kind.__name__: kind
    for kind in (
        CenterRefusedError,
        LostSlotError,
        ReplacedError,
        UnknownWorkerError,
        CenterEmptyError,
        DuplicatePushError,
        LatePushError,
        NothingSentError,
        NonFiniteError,
        LostReferenceError,
        MessageError,
    )
}


def as_told(error: Exception) -> ClusterError:
    """What a worker is told of an error in its call.

    Args:
        error: that a call has raised.

    Returns:
        An error of `TOLD`; or an `UnexpectedError`.
    """
    if isinstance(error, ClusterError) and type(error).__name__ in TOLD:
        if isinstance(error, NonFiniteError):
            logging.error("%s.", error)
        return error
    logging.error("a call failed.", exc_info=error)
    # What came was of another form than the call's.
    if isinstance(error, (KeyError, TypeError, ValueError)):
        return MessageError(repr(error))
    return UnexpectedError(repr(error))
