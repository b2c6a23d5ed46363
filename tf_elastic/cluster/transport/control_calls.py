"""The calls of one message each way, whatever carries them."""

from collections.abc import Callable
from typing import Any

from tf_elastic.cluster.center.groups import Groups
from tf_elastic.cluster.transport import schema
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.transport.array_calls import Header
from tf_elastic.cluster.transport.array_calls import without_group

# Of the header as it came: the answer.
ControlCall = Callable[[Header], dict[str, Any]]


def control_calls(
    groups: Groups, invite: Callable[[], dict[str, Any]]
) -> dict[str, ControlCall]:
    """The calls of a server, by the names in `wire.UNARY`.

    Args:
        groups: its nodes.
        invite: what is answered to who asks for a socket for arrays.
    """

    def call(name: str) -> ControlCall:
        def answer(header: Header) -> dict[str, Any]:
            header = schema.checked(name, header)
            if name == wire.INVITE:
                return invite()
            node = groups[header.get(wire.GROUP, 0)]
            methods: dict[str, Callable[..., dict[str, Any]]] = {
                wire.HELLO: node.hello,
                wire.JOIN: node.join,
                wire.OFFER: node.offer,
                wire.HEARTBEAT: node.heartbeat,
                wire.LEAVE: node.leave,
                wire.RELEASE: node.exchanges.release,
                wire.STATUS: node.status,
                wire.INSTRUCT: node.instruct,
            }
            return methods[name](**without_group(header))

        return answer

    return {name: call(name) for name in wire.UNARY}
