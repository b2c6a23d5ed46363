"""Makes TF_CONFIG in a pod: `python -m tf_elastic.cluster.launch.kubernetes`.

The name of a pod says who it is: `NAME-ps-0` of a stateful set, `NAME-worker-3`
of an indexed job. Started as

    python -m tf_elastic.cluster.launch.kubernetes -- COMMAND

it becomes the center or the command. See `deploy/kubernetes`, which sets the
variables TF_ELASTIC_WORKERS, TF_ELASTIC_CENTERS, TF_ELASTIC_SERVICE and
TF_ELASTIC_PORT.
"""

import os
import re
import socket
import sys
from collections.abc import Mapping

from tf_elastic.cluster.launch import task
from tf_elastic.cluster.launch.configuration import ClusterConfiguration
from tf_elastic.cluster.launch.configuration import ClusterConfigurationError


def configure(variables: Mapping[str, str], host: str) -> ClusterConfiguration:
    """Who a pod is.

    Args:
        variables: the environment of the pod.
        host: its host name, such as "tf-elastic-ps-0".

    Returns:
        The configuration; a pod is found at its name under the headless
        service.

    Raises:
        ClusterConfigurationError: a variable is missing or wrong, or the host
            name has another form.
    """
    match = re.fullmatch(r"(.+)-(worker|ps|evaluator)-(\d+)", host)
    if not match:
        raise ClusterConfigurationError(
            "The host name of a pod must have the form NAME-ps-0, "
            "NAME-worker-0 or NAME-evaluator-0. Received: "
            f"{host!r}. Use a stateful set or an indexed job of such a name."
        )
    name, role, index = match[1], match[2], int(match[3])
    num_workers = _integer(variables, "TF_ELASTIC_WORKERS", 1)
    num_centers = _integer(variables, "TF_ELASTIC_CENTERS", 0)
    port = _integer(variables, "TF_ELASTIC_PORT", 1)
    service = variables.get("TF_ELASTIC_SERVICE") or name

    def pods(job: str, count: int) -> tuple[str, ...]:
        return tuple(f"{name}-{job}-{i}.{service}:{port}" for i in range(count))

    return ClusterConfiguration(
        pods("worker", num_workers), pods("ps", num_centers), (), role, index
    )


def _integer(variables: Mapping[str, str], name: str, least: int) -> int:
    text = variables.get(name, "")
    if not (text.isascii() and text.isdecimal() and int(text) >= least):
        raise ClusterConfigurationError(
            f"The variable {name} must be an integer >= {least}. Received: "
            f"{text!r}. Set it in the pod's `env`, as deploy/kubernetes does."
        )
    return int(text)


def main() -> int:
    """Runs the program; see the module's text."""
    parser = task.parser("Kubernetes")
    parser.add_argument(
        "--host", default=socket.gethostname(), help="the pod's host name"
    )
    return task.become(parser, lambda args: configure(os.environ, args.host))


if __name__ == "__main__":
    sys.exit(main())
