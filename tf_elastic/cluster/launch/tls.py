"""The certificates of a cluster, for plain sockets; gRPC has its own way."""

import ssl

from tf_elastic.cluster.launch.security import Security


def server_context(security: Security) -> ssl.SSLContext | None:
    """How a center speaks TLS; None if it has no certificate.

    Args:
        security: with an authority, workers need certificates of it too.
    """
    if not security.certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(security.certificate, security.key)
    if security.authority:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(security.authority)
    # Nothing is to come that nobody has asked for.
    context.num_tickets = 0
    return context


def client_context(security: Security) -> ssl.SSLContext | None:
    """How a worker speaks TLS; None where gRPC would not either."""
    if not (security.certificate or security.authority):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if security.authority:
        context.load_verify_locations(security.authority)
    else:
        context.load_default_certs()
    if security.certificate:
        context.load_cert_chain(security.certificate, security.key)
    return context
