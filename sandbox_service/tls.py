"""Says of a connection that failed whether TLS is why: then no repeat would mend it."""

from __future__ import annotations

import ssl

from sandbox_service.errors import SetupError

_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")
"""How OpenSSL calls an answer in plain HTTP, by version."""


def refused_tls(url: str, fault: BaseException | None) -> SetupError | None:
    """Return what to say where TLS cannot be had; None if something else is wrong."""
    while fault is not None:
        if isinstance(fault, ssl.SSLCertVerificationError):
            return SetupError(f"{url} has a certificate that is not trusted here: {fault.verify_message}")
        if isinstance(fault, ssl.SSLError) and fault.reason in _NO_TLS:
            return SetupError(f"{url} does not speak TLS; use http://{url.partition('://')[2]}")
        fault = fault.__cause__ or fault.__context__
    return None
