"""Takes secrets out of text before it is logged, shown or stored."""

import re

HIDDEN = "***"
#: A text without any of these has no secret that is known by its look: most lines are let through by this alone.
_SUSPECT = re.compile(r"[=:%/]|['\"],|whs|eyJ|EAA|xox|[Bb]earer|BEARER|gh[a-z]_|github_|glpat|sk[-_]|-----B")
_NAMES = (
    r"((?:page_)?access_token|tokens?|secrets?(?:_key)?|pass(?:word|wd|[_-]?phrase)|pwd|jwt|signature|mnemonic"
    r"|(?<![a-z])(?:otp|sig|session(?:[_-]?id)?)|(?:api|private|access)[_-]?key|credentials?|cookie|authorization)"
)
_NAME_CUES = (
    *("token", "secret", "pass", "pwd", "jwt", "otp", "sig", "key", "credential", "cookie", "authorization"),
    *("session", "mnemonic"),
)
_SCHEME = r"(?:bearer|basic|digest|token|bot)\s"

# Repetitions before what a pattern looks for are bounded: else a long text costs the square of its length. Each stands
# behind its cues, in lower case: without one of them in the text it cannot match, and is not asked.
_PATTERNS: tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...] = (
    # a quoted value as a whole, blanks and all: repr and JSON
    (
        _NAME_CUES,
        re.compile(_NAMES + r"((?:\s?=\s?|['\"]?\s*:\s*)b?)(['\"])(?:\\.|(?!\3)[^\\\n])+(?=\3)", re.IGNORECASE),
        rf"\1\2\3{HIDDEN}",
    ),
    # a pair, as lists of headers have them
    (
        _NAME_CUES,
        re.compile(
            r"(\(b?['\"][a-z-]{0,20})" + _NAMES + r"(['\"],\s?b?)(['\"])(?:\\.|(?!\4)[^\\\n])+(?=\4)", re.IGNORECASE
        ),
        rf"\1\2\3\4{HIDDEN}",
    ),
    # Pancake's tokens ride in the query string, so every URL in an error is a leak.
    (
        _NAME_CUES,
        re.compile(
            _NAMES + r"((?:\s?=\s?|%3D|\\{0,8}['\"]\s*:\s*)(?:b?\\{0,8}['\"])?)[^\s&\"',;)}\]\\]+", re.IGNORECASE
        ),
        rf"\1\2{HIDDEN}",
    ),
    (
        ("%22%3a",),
        re.compile(_NAMES + r"(%22%3A(?:%20)?%22)(?:(?!%22)\S)+", re.IGNORECASE),
        rf"\1\2{HIDDEN}",
    ),
    # in a query, and only there: Google's keys, and the codes that OAuth exchanges for tokens
    (("key=", "code="), re.compile(r"([?&](?:key|code)=)[^\s&#\"'<>,;)}\]\\]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (("page_tokens=",), re.compile(r"(page_tokens=)\S+", re.IGNORECASE), rf"\1{HIDDEN}"),  # pageId=token,...
    # a header as it is sent; without `Authorization` before it only `Bearer` is no word of a sentence
    (
        ("authorization", "bearer"),
        re.compile(
            rf"\b(authorization\s?[:=]\s?(?:{_SCHEME}|(?!{_SCHEME}))|bearer\s(?=\S{{16}}))[^\s\"'*,;)}}\]]\S*",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    (
        ("api-key:", "cookie:"),
        re.compile(r"\b((?:x-)?api-key|(?:set-)?cookie)(:\s?)[^\s\"'*][^\r\n\"']*", re.IGNORECASE),
        rf"\1\2{HIDDEN}",
    ),
    # user:password@ in a connection string; those of our servers may be written without the escapes they should have
    (
        ("redis", "mongodb"),
        re.compile(r"(\b(?:rediss?|mongodb(?:\+srv)?)://)([^/\s:@]*):[^\s\"'<>]+(?=@)", re.IGNORECASE),
        rf"\1\2:{HIDDEN}",
    ),
    (
        ("://",),
        re.compile(r"(\b[a-z][a-z0-9+.-]{0,30}://)([^/\s:@]*):[^@\s/]+(?=@)", re.IGNORECASE),
        rf"\1\2:{HIDDEN}",
    ),
    # a key in the place of the user
    (("://",), re.compile(r"(\b[a-z][a-z0-9+.-]{0,30}://)[^/\s:@*]{16,}(?=@)", re.IGNORECASE), rf"\1{HIDDEN}"),
    # merchants' webhook secrets and keys, as shown and as stored
    (("whsec_", "whsk_", "enc:"), re.compile(r"\b(whsec_|whsk_|enc:)[A-Za-z0-9+/=_-]{16,}"), rf"\1{HIDDEN}"),
    # a Telegram bot's token, which rides in the path of every call to it; the number is the bot's, and stays
    ((":", "%3a"), re.compile(r"(\d{5,20}(?::|%3A))[A-Za-z0-9_-]{30,}", re.IGNORECASE), rf"\1{HIDDEN}"),
    # a Slack webhook: whoever has its address can post; and the tokens of its apps
    (
        ("hooks.slack",),
        re.compile(
            r"(hooks\.slack(?:-gov)?\.com(?:/|%2F)(?:services|workflows|triggers)(?:/|%2F))[^\s\"'<>,;)}\]\\]+", re.I
        ),
        rf"\1{HIDDEN}",
    ),
    (("xox",), re.compile(r"\b(xox[a-z]-)[A-Za-z0-9-]{10,}"), rf"\1{HIDDEN}"),
    (("eaa",), re.compile(r"\bEAA[A-Za-z0-9]{24,}"), HIDDEN),  # Facebook's, of pages and users
    # tokens of GitHub, GitLab, Stripe and OpenAI
    (
        ("gh", "glpat-", "sk-", "sk_"),
        re.compile(r"\b(gh[a-z]_|github_pat_|glpat-|sk[-_](?:live|test|proj)[-_])[A-Za-z0-9_-]{16,}"),
        rf"\1{HIDDEN}",
    ),
    (
        ("private key-----",),
        re.compile(r"(-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----)[^-]+", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
    # the last part of the address Pancake posts its events to
    (("/hooks/pancake/",), re.compile(r"(/hooks/pancake/)[^\s/?#\"']+"), rf"\1{HIDDEN}"),
    # a JWT wherever it stands
    (("eyj",), re.compile(r"\beyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]+\.?[A-Za-z0-9_-]*"), HIDDEN),
)
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:tokens?|secrets?|pass(?:word|wd|_?phrase)|pwd|auth|authorization|cookies?|credentials?"
    r"|(?:api|private|access|secret|signing)_?key|jwt|otp|bearer|signature|mnemonic|seed_?phrase)s?(?:_|$)"
    r"|(?:^|_)session(?:_?(?:id|key))?$"
)
_PASSES = 4  # what one pattern hides may complete another's secret; the second pass is nearly always the last
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")


def redact(text: str) -> str:
    """`text` with the values of tokens, keys and passwords replaced by `***`. Twice changes nothing more."""
    if _SUSPECT.search(text) is None:
        return text
    lower = text.lower()
    for _ in range(_PASSES):
        before = text
        for cues, pattern, shown in _PATTERNS:
            for cue in cues:
                if cue in lower:
                    text = pattern.sub(shown, text)
                    break
        if text == before:
            break
    return text


def is_secret_name(name: str) -> bool:
    """Whether what stands under this name is to be hidden whatever it looks like: `password`, `X-Api-Key`, `pageToken`.

    A name that only speaks of secrets is one too: rather a count too little in the log than a key too much.
    """
    return _SECRET_NAME.search(_HUMP.sub("_", name).lower()) is not None
