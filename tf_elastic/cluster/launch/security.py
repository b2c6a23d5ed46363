"""What keeps others out of a cluster."""

import dataclasses
import os
import pathlib
import socket
import ssl

from tf_elastic.cluster.launch.configuration import ClusterConfigurationError

_MIN_TOKEN = 16  # characters


@dataclasses.dataclass(frozen=True)
class Security:
    """What keeps others out of the cluster.

    Args:
        token: a secret that all processes share, at least 16 characters;
            None: whoever can connect is let in.
        certificate: path of this process' certificate (PEM), or None.
        key: path of the certificate's private key (PEM), or None.
        authority: path of the certificates that are trusted (PEM), or None.
        trusted_network: whether only processes that are trusted can connect,
            say because of a firewall.

    Raises:
        ClusterConfigurationError: the token is too short, one of certificate
            and key is without the other, or a file is not there.
    """

    token: str | None = dataclasses.field(default=None, repr=False)
    certificate: str | None = None
    key: str | None = None
    authority: str | None = None
    trusted_network: bool = False

    def __post_init__(self) -> None:
        if self.token is not None and (
            len(self.token) < _MIN_TOKEN
            or not self.token.isascii()
            or not self.token.isprintable()
            or " " in self.token
        ):
            raise ClusterConfigurationError(
                f"TF_ELASTIC_TOKEN must have at least {_MIN_TOKEN} printable "
                "ASCII characters, no spaces. Received: one of "
                f"{len(self.token)} characters. Make one by `openssl rand "
                "-hex 32`, and give the same to all processes."
            )
        if bool(self.certificate) != bool(self.key):
            raise ClusterConfigurationError(
                "TF_ELASTIC_TLS_CERT and TF_ELASTIC_TLS_KEY must be given "
                f"together. Received: certificate={self.certificate!r}, "
                f"key={self.key!r}. Set both, or neither."
            )
        for name, path in (
            ("TF_ELASTIC_TLS_CERT", self.certificate),
            ("TF_ELASTIC_TLS_KEY", self.key),
            ("TF_ELASTIC_TLS_CA", self.authority),
        ):
            if path and not os.path.isfile(path):
                raise ClusterConfigurationError(
                    f"{name} must be the path of a PEM file. Received: "
                    f"{path!r}, which is no file on {socket.gethostname()}. "
                    "Correct it, or unset it."
                )

    @classmethod
    def from_environment(cls) -> "Security":
        """What the variables TF_ELASTIC_* say.

        They are TF_ELASTIC_TOKEN, TF_ELASTIC_TLS_CERT, TF_ELASTIC_TLS_KEY,
        TF_ELASTIC_TLS_CA (paths), and TF_ELASTIC_TRUSTED_NETWORK (0 or 1).
        """
        trusted = os.environ.get("TF_ELASTIC_TRUSTED_NETWORK", "0")
        if trusted not in ("", "0", "1"):
            raise ClusterConfigurationError(
                "TF_ELASTIC_TRUSTED_NETWORK must be 0 or 1. Received: "
                f"{trusted!r}. Unset it if you are not sure."
            )
        return cls(
            # An empty token is refused: it was surely meant to be one.
            token=os.environ.get("TF_ELASTIC_TOKEN"),
            certificate=os.environ.get("TF_ELASTIC_TLS_CERT") or None,
            key=os.environ.get("TF_ELASTIC_TLS_KEY") or None,
            authority=os.environ.get("TF_ELASTIC_TLS_CA") or None,
            trusted_network=trusted == "1",
        )

    def server_context(self) -> ssl.SSLContext | None:
        """How a center's plain sockets speak TLS; None without certificate.

        With an authority, workers need certificates of it too.
        """
        if not self.certificate:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        if self.authority:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.authority)
        # Nothing is to come that nobody has asked for.
        context.num_tickets = 0
        return context

    def client_context(self) -> ssl.SSLContext | None:
        """How a worker's do; None where gRPC would not either."""
        if not (self.certificate or self.authority):
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.authority:
            context.load_verify_locations(self.authority)
        else:
            context.load_default_certs()
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context

    def contents(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Of authority, key and certificate, in gRPC's order."""
        authority, key, certificate = (
            pathlib.Path(path).read_bytes() if path else None
            for path in (self.authority, self.key, self.certificate)
        )
        return authority, key, certificate
