"""Takes secrets out of text before it is logged, shown or stored."""

import re

HIDDEN = "***"

_PATTERNS = (
    # Pancake's tokens ride in the query string, so every URL in an error is a leak.
    (
        re.compile(
            r"((?:page_)?access_token|api_key|token|secret(?:_key)?|password)"
            r"((?:=|%3D|\\?['\"]\s*:\s*)(?:b?\\?['\"])?)[^\s&\"',;)}\]\\]+",
            re.IGNORECASE,
        ),
        rf"\1\2{HIDDEN}",
    ),
    (re.compile(r"(page_tokens=)\S+", re.IGNORECASE), rf"\1{HIDDEN}"),  # pageId=token,...
    # user:password@ in a connection string
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)([^/\s:@]*):[^@\s/]+(?=@)", re.IGNORECASE), rf"\1\2:{HIDDEN}"),
    # merchants' webhook secrets and keys, as shown and as stored
    (re.compile(r"\b(whsec_|whsk_|enc:)[A-Za-z0-9+/=_-]{16,}"), rf"\1{HIDDEN}"),
    # a Telegram bot's token, which rides in the path of every call to it; the number is the bot's, and stays
    (re.compile(r"(\d{5,}(?::|%3A))[A-Za-z0-9_-]{30,}", re.IGNORECASE), rf"\1{HIDDEN}"),
    # a Slack webhook: whoever has its address can post
    (
        re.compile(
            r"(hooks\.slack(?:-gov)?\.com(?:/|%2F)(?:services|workflows|triggers)(?:/|%2F))[^\s\"'<>,;)}\]\\]+", re.I
        ),
        rf"\1{HIDDEN}",
    ),
    # the last part of the address Pancake posts its events to
    (re.compile(r"(/hooks/pancake/)[^\s/?#\"']+"), rf"\1{HIDDEN}"),
    # a JWT wherever it stands
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.?[A-Za-z0-9_-]*"), HIDDEN),
)


def redact(text: str) -> str:
    """`text` with the values of tokens, keys and passwords replaced by `***`. Twice changes nothing more."""
    for pattern, shown in _PATTERNS:
        text = pattern.sub(shown, text)
    return text
