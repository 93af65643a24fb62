"""Is this webhook genuine? Needs nothing but Python 3.10 or newer.

echo '{"secret": "whsec_...", "headers": {...}, "body": "...", "now": 1767225605}' | python verify_webhook.py
"""

import base64
import hmac
import json
import re
import sys
import time
from collections.abc import Mapping

TOLERANCE_S = 5 * 60


def is_genuine(secret: str, headers: Mapping[str, str], body: bytes, now: float | None = None) -> bool:
    """Whether `body`, the bytes as they came in, was signed with `secret` within the last five minutes.

    Nothing in the request makes it raise. ValueError: your secret is not the text that you were given.
    """
    key = base64.b64decode(secret[6:] if secret.startswith("whsec_") else secret, validate=True)
    if not key:
        raise ValueError("the secret is empty")
    given = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not message_id or not re.fullmatch("[0-9]{1,15}", timestamp):
        return False
    if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE_S:
        return False
    signed = f"{message_id}.{timestamp}.".encode(errors="replace") + body
    expected = b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256"))
    # a rotated secret brings two signatures; of entries we do not know, none is the expected one
    entries = given.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(expected, entry.encode(errors="replace")) for entry in entries)


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    genuine = is_genuine(asked["secret"], asked["headers"], asked["body"].encode(), asked.get("now"))
    sys.stdout.write("true\n" if genuine else "false\n")
