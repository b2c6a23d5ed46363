"""Keeps gRPC's own log small; to be imported before gRPC is.

It is written below Python, where `LogLimit` counts nothing, and has a line for
each stranger who does not speak TLS. `GRPC_VERBOSITY` of one's own stays.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
