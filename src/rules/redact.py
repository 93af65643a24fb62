"""Takes secrets out of text before it is logged, shown or stored."""

import re

HIDDEN = "***"

_PATTERNS = (
    # Pancake's tokens ride in the query string, so every URL in an error is a leak.
    re.compile(
        r"((?:page_)?access_token|api_key|token|secret|password)(=|%3D|['\"]\s*:\s*['\"]?)[^\s&\"',;)}\]\\]+",
        re.IGNORECASE,
    ),
    # user:password@ in a connection string
    re.compile(r"(\b[a-z][a-z0-9+.-]*://)([^/\s:@]*):[^@\s/]+(?=@)", re.IGNORECASE),
    re.compile(r"\b(eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.?[A-Za-z0-9_-]*)"),  # a JWT wherever it stands
)


def redact(text: str) -> str:
    """`text` with the values of tokens, keys and passwords replaced by `***`. Twice changes nothing more."""
    text = _PATTERNS[0].sub(rf"\1\2{HIDDEN}", text)
    text = _PATTERNS[1].sub(rf"\1\2:{HIDDEN}", text)
    return _PATTERNS[2].sub(HIDDEN, text)
