"""No secret gets past `redact`, and what is no secret stays readable."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.rules.redact import HIDDEN, redact

SECRET = "s3cr3t-0f-n0body"
BOT = "AA" + "b-_9" * 8
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJpZCI6IjEwMCIsImdlbiI6MX0.c2lnbmF0dXJlX29m-bm9ib2R5"


@pytest.mark.parametrize(
    "text",
    [
        f"GET https://pages.test/api/v1/pages?access_token={SECRET}",
        f"GET https://pages.test/x?since=1&page_access_token={SECRET}&until=2",
        f"https%3A%2F%2Fpages.test%2Fx%3Faccess_token%3D{SECRET}",
        f"api_key={SECRET}",
        f"PANCAKE_ACCESS_TOKEN={SECRET}",
        json.dumps({"success": True, "page_access_token": SECRET}),
        json.dumps({"page_access_token": SECRET}, separators=(",", ":")),
        json.dumps(json.dumps({"page_access_token": SECRET})),
        repr({"page_access_token": SECRET, "id": 1}),
        repr({b"page_access_token": SECRET.encode()}),
        f"PageSettings(page_access_token={SECRET!r}, id='1')",
        f"login(user='a', password={SECRET!r})",
        f"params={{'since': 1, 'page_access_token': '{SECRET}'}}",
        f"redis://:{SECRET}@cache.test:6379/0 does not answer",
        f"rediss://worker:{SECRET}@cache.test:6380/1",
        f"mongodb://worker:{SECRET}@a.test:27017,b.test:27017/shop?replicaSet=rs0",
        f"mongodb+srv://worker:{SECRET}@cluster.test/shop",
        f"PANCAKE_PAGE_TOKENS=100={SECRET},200={SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"authorization: basic {SECRET}=",
        f"authorization={SECRET}",
        f"sent as bearer {SECRET}",
        repr({"Authorization": f"Bearer {SECRET}"}),
        repr([(b"authorization", f"Bearer {SECRET}".encode())]),
        repr(("page_access_token", SECRET)),
        repr({"token": SECRET}.items()),
        f"Cookie: a=1; session={SECRET}; b=2",
        f"X-Api-Key: {SECRET}",
        f"password='with blanks, {SECRET}, and more'",
        json.dumps({"password": f'with "quotes" {SECRET}'}),
        json.dumps(json.dumps(json.dumps({"token": SECRET}))),
        f"%7B%22token%22%3A%22{SECRET}%22%7D",
        f"token = {SECRET}",
        f"password: '{SECRET}'",
        f"redis://:ab@{SECRET}@cache.test:6379/0",
        f"mongodb://worker:ab/{SECRET}@a.test/shop",
        f"https://{SECRET}0123@sentry.test/1",
        f"https://store.test/x?X-Amz-Signature={SECRET}",
        f"https://store.test/x?sv=1&sig={SECRET}",
        f"client_secret={SECRET}&code=1",
        f"https://maps.test/x?key={SECRET}&q=1",
        f"GET /callback?state=1&code={SECRET}",
        f"session={SECRET}",
        json.dumps({"mnemonic": f"apple {SECRET} pear"}),
        f"pass_phrase={SECRET}",
        f"webhook?signature={SECRET}",
        f"ghp_{SECRET.replace('-', '')}0123456789",
        f"sk_live_{SECRET}",
        f"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE{SECRET.replace('-', '')}\n-----END EC PRIVATE KEY-----",
        f"xoxb-{SECRET}",
        "refused EAAG" + SECRET.replace("-", "") * 3,
    ],
    ids=[
        "query",
        "query in the middle",
        "escaped query",
        "api key",
        "variable",
        "json",
        "compact json",
        "json in json",
        "repr of a dict",
        "repr of bytes",
        "repr of a model",
        "repr of a call",
        "repr of parameters",
        "redis",
        "redis with a user",
        "mongodb",
        "mongodb+srv",
        "page tokens",
        "bearer header",
        "basic header",
        "bare header",
        "bearer in a sentence",
        "repr of headers",
        "repr of raw headers",
        "repr of a pair",
        "repr of items",
        "cookie",
        "key header",
        "quoted with blanks",
        "quotes in quotes",
        "json in json in json",
        "escaped json",
        "assignment",
        "yaml",
        "unescaped at",
        "unescaped slash",
        "key as user",
        "amazon",
        "azure",
        "form",
        "google",
        "oauth",
        "session",
        "mnemonic",
        "pass phrase",
        "signature",
        "github",
        "stripe",
        "pem",
        "slack token",
        "facebook",
    ],
)
def test_a_secret_is_hidden_wherever_it_stands(text: str) -> None:
    """Pancake's tokens ride in URLs, so errors, answers and reprs all may carry one."""
    assert not any(part in redact(text) for part in (SECRET, SECRET[:6], SECRET[-6:]))
    assert HIDDEN in redact(text)


@pytest.mark.parametrize(
    "text",
    [JWT, f"bearer {JWT}", f"({JWT})", f'"{JWT}"', f"refused {JWT}, try another", f"x={JWT}&y=1", f"token\n{JWT}\n"],
    ids=["alone", "bearer", "brackets", "quotes", "sentence", "unknown parameter", "own line"],
)
def test_a_jwt_is_hidden_without_any_name_beside_it(text: str) -> None:
    """Pancake's tokens look like nothing else, so they are known by their look alone."""
    redacted = redact(text)
    assert all(part not in redacted for part in JWT.split("."))
    assert redacted == text.replace(JWT, HIDDEN)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (
            f"https://api.telegram.org/bot123456:{BOT}/sendMessage",
            f"https://api.telegram.org/bot123456:{HIDDEN}/sendMessage",
        ),
        (f"ALERT_TELEGRAM_TOKEN is 123456:{BOT}", f"ALERT_TELEGRAM_TOKEN is 123456:{HIDDEN}"),
        (f"/bot123456%3A{BOT}/getMe", f"/bot123456%3A{HIDDEN}/getMe"),
        (f"POST https://hooks.slack.com/services/T0/B0/{SECRET}", f"POST https://hooks.slack.com/services/{HIDDEN}"),
        (
            f"'https://hooks.slack.com/services/T0/B0/{SECRET}', 404",
            f"'https://hooks.slack.com/services/{HIDDEN}', 404",
        ),
        (f"access_token: {SECRET}", f"access_token: {SECRET}"),
        (json.dumps({"secret_key": SECRET, "error": 0}), f'{{"secret_key": "{HIDDEN}", "error": 0}}'),
        (json.dumps({"refresh_token": SECRET}), f'{{"refresh_token": "{HIDDEN}"}}'),
        (f"refresh_token={SECRET}&app_id=1", f"refresh_token={HIDDEN}&app_id=1"),
        (f"json://user:{SECRET}@host.test/x", f"json://user:{HIDDEN}@host.test/x"),
    ],
    ids=[
        "telegram",
        "bare",
        "escaped",
        "slack",
        "slack in quotes",
        "words",
        "zalo key",
        "zalo refresh",
        "form",
        "apprise",
    ],
)
def test_access_to_channels_is_hidden(text: str, redacted: str) -> None:
    """Telegram's token and Slack's key stand in the path of an address."""
    assert redact(text) == redacted
    assert redact(redacted) == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (f"x?access_token={SECRET}&until=2", f"x?access_token={HIDDEN}&until=2"),
        (f'{{"token": "{SECRET}", "total": 5}}', f'{{"token": "{HIDDEN}", "total": 5}}'),
        (f"mongodb://worker:{SECRET}@a.test/shop", f"mongodb://worker:{HIDDEN}@a.test/shop"),
    ],
    ids=["query", "json", "address"],
)
def test_what_stands_around_a_secret_stays(text: str, redacted: str) -> None:
    """Whoever reads the line still sees which call, which host, which field."""
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "sentence",
    [
        "page 100: its token was refused; set PANCAKE_PAGE_TOKENS",
        "make one in Pancake under Settings -> Tools and set it in PANCAKE_PAGE_TOKENS, or allow "
        "PANCAKE_ALLOW_TOKEN_MINTING with an administrator's PANCAKE_ACCESS_TOKEN",
        "no user token: set PANCAKE_ACCESS_TOKEN (Pancake: Account -> Personal Settings)",
        "Redis at redis://localhost:6379/0 refuses the password: check REDIS_URL or REDIS_PASSWORD",
        "MongoDB does not answer at mongodb://a.test:27017,b.test:27017/shop",
        "GET /api/v1/pages: token refused (error_code 102)",
        "mail somebody@shop.test about the secret of good coffee",
        "the tokens of 3 pages: 100, 200, 300",
        "eyJust a word",
        "there are 'token', 'page_id' and 'job'",
        "Bearer tokens are refused; basic authentication is not known",
        "GET https://pages.test/users/@me?since=1",
        "sync_page_customers:1234567890:incremental",
        "the unique key=a waits, code=5, sessions: 12",
        "a session is over; its signature is wrong",
        "task-1: risk_free",
        "",
    ],
    ids=range(17),
)
def test_ordinary_sentences_are_left_alone(sentence: str) -> None:
    """Advice that speaks of tokens and passwords must arrive whole."""
    assert redact(sentence) == sentence


PIECES = st.sampled_from(
    [
        "access_token",
        "token",
        "secret",
        "password",
        "api_key",
        "=",
        "%3D",
        ": ",
        '"',
        "'",
        "\\",
        "&",
        " ",
        "\n",
        ",",
        "redis://",
        "mongodb://",
        "u",
        ":",
        "@",
        "/",
        "{",
        "}",
        "(",
        ")",
        "***",
        JWT,
        "eyJabcdefgh.",
        "x",
        "b'",
        "100",
        "authorization",
        "Bearer ",
        "Basic ",
        "x-api-key",
        "Set-Cookie",
        "('",
        "', '",
        "whsec_",
        "0123456789abcdef",
        "tokens",
        "secrets_key",
        "?key=",
        "&code=",
        "session_id",
        "sk_live_",
        "-----BEGIN PRIVATE KEY-----",
    ]
)


@given(st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=40))
def test_twice_is_once(text: str) -> None:
    """A text passes several redacting places on its way to the log; only the first one changes it."""
    once = redact(text)
    assert redact(once) == once


@given(st.text(alphabet="abcXYZ019._~-", min_size=8, max_size=40))
def test_any_token_in_a_query_is_hidden(token: str) -> None:
    """Whatever a token is made of."""
    assert redact(f"GET /x?page_access_token={token}&since=1") == f"GET /x?page_access_token={HIDDEN}&since=1"
