"""A merchant who trusts nothing but the official library."""

from typing import Any

from standardwebhooks import Webhook

from tests.simulators.merchant.book import Received


def verified(received: Received, secret: str) -> dict[str, Any]:
    """Return the body's JSON when signature and time are good; else the library's error."""
    result: dict[str, Any] = Webhook(secret).verify(received.body, received.headers)
    return result
