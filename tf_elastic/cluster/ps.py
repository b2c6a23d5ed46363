"""The program of a center server: `python -m tf_elastic.cluster.ps`.

See `center.ps`.
"""

import sys

from tf_elastic.cluster.transport import grpc_log  # noqa: F401 - before gRPC

# isort: split
from tf_elastic.cluster.center.ps import main

if __name__ == "__main__":
    sys.exit(main())
