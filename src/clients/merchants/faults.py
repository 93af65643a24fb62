"""What went wrong with a call, in words a merchant understands, and whether it was our side.

No URL, header or byte of an answer is repeated here: they may hold secrets, and the words are shown and stored.
"""

import ssl

import httpx
from loguru import logger

from ...errors import Misuse
from .guard import Unreached
from .stream import Attempt

_OURS_TO_WAIT_FOR = "the name to be resolved"


def fault_of(error: Exception, attempt: Attempt, timeout_s: float) -> tuple[str, bool]:
    """(what went wrong, whether it is our fault) of a call that ended in `error` before the head of an answer came."""
    if isinstance(error, Unreached):
        return str(error), error.is_ours
    if isinstance(error, Misuse):
        return str(error), False
    if isinstance(error, TimeoutError):
        return f"timed out after {timeout_s:g} s while waiting for {attempt.step}", attempt.step == _OURS_TO_WAIT_FOR
    if isinstance(error, OSError):  # ssl's errors are; those of connecting were told apart above
        return _tls_fault(error), False
    return _protocol_fault(error)


def _tls_fault(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the TLS certificate is not valid: {error.verify_message or 'it could not be verified'}"
    if isinstance(error, ssl.SSLError):
        return f"the TLS handshake failed: {(error.reason or 'no common ground').replace('_', ' ').lower()}"
    return "the connection was closed in the TLS handshake"


def _protocol_fault(error: Exception) -> tuple[str, bool]:
    if isinstance(error, httpx.NetworkError):
        return "the connection broke before a whole answer came", False
    if isinstance(error, httpx.RemoteProtocolError):
        # httpcore's one sentence for an end before any answer; everything else is h11's view of what came
        if str(error).startswith("Server disconnected"):
            return "the connection was closed before an answer came", False
        return "what came back is no HTTP/1.1 answer", False
    if isinstance(error, httpx.LocalProtocolError | UnicodeError):
        return "a header cannot be sent as it is: it may hold printable ASCII only, in name and value", False
    # a bug of ours must neither be charged to the merchant nor stay unseen
    logger.opt(exception=error).error("webhook call hit a bug")
    return f"an error of ours ({type(error).__name__})", True
