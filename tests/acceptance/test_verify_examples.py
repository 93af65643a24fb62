"""docs/webhooks.md: its programs are the files of docs/examples, and all of them judge every request alike."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from src.rules.signing import body_signature, checked_secret, new_secret, signature_header, verify
from src.settings.webhooks import WebhookSettings

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "webhooks.md").read_text()
#: What runs an example, by its ending; None where this machine has no such thing.
RUNNERS = {"py": sys.executable, "mjs": shutil.which("node"), "php": shutil.which("php")}
FENCE = re.compile(r"^```(?:python|js|php)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SETTING = re.compile(r"^\| `(WEBHOOK_[A-Z_]+)` \| (\S+) \|", re.MULTILINE)

# The vectors of the specification's own libraries
ID, AT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}'
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
RIGHT = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
WRONG = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
NEWER, OLDER = new_secret(b"a" * 24), new_secret(b"b" * 64)

Run = Callable[[dict[str, Any]], "subprocess.CompletedProcess[str]"]


def asked(signatures: str | None = RIGHT, **other: Any) -> dict[str, Any]:
    """Vector 1 as an example reads it; `id`, `at`, `body`, `secret` and `now` replace parts of it, None takes away."""
    headers = {
        "webhook-id": other.get("id", ID),
        "webhook-timestamp": other.get("at", str(AT)),
        "webhook-signature": signatures,
    }
    return {
        "secret": other.get("secret", SECRET),
        "headers": {name: value for name, value in headers.items() if value is not None},
        "body": other.get("body", BODY),
        "now": other.get("now", AT),
    }


def ours(secret: str, *secrets: str, body: str = BODY) -> dict[str, Any]:
    """A request that we sign with `secrets`, for a merchant who holds `secret`."""
    return asked(signature_header(secrets, ID, AT, body.encode()), secret=secret, body=body)


GENUINE = {
    "vector 1": asked(),
    "vector 1 without prefix": asked(secret=SECRET.removeprefix("whsec_")),
    "vector 2": asked(
        "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
        id="msg_loFOjxBNrRLzqYUf",
        at="1731705121",
        body='{"event_type":"ping","data":{"success":true}}',
        secret="whsec_plJ3nmyCDGBKInavdOK15jsl",
        now=1731705121,
    ),
    "vector 3": asked(f"{WRONG} v2,{WRONG[3:]} {RIGHT} {WRONG}"),
    "five minutes old": asked(now=AT + 300),
    "five minutes early": asked(now=AT - 300),
    "between two seconds": asked(now=AT + 0.75),
    "new secret, rotated": ours(NEWER, NEWER, OLDER),
    "old secret, rotated": ours(OLDER, NEWER, OLDER),
    "odd entries before": asked(f" , v1 v1, v1a,{WRONG[3:]} é v1,\u20ac v9,, {RIGHT}"),
    "no body": ours(NEWER, NEWER, body=""),
    "text beyond ascii": ours(NEWER, NEWER, body='{"note":"Đã thanh toán 🎉"}\r\n'),
    "headers in capitals": {**asked(), "headers": {k.title(): v for k, v in asked()["headers"].items()}},
}
FORGED = {
    "five minutes and a second old": asked(now=AT + 301),
    "five minutes and a second early": asked(now=AT - 301),
    "bare v1": asked("v1,"),
    "no version": asked(RIGHT.removeprefix("v1,")),
    "another version": asked(f"v2,{RIGHT.removeprefix('v1,')}"),
    "cut short": asked(RIGHT[:-1]),
    "something behind": asked(f"{RIGHT},"),
    "odd entries only": asked("v1 , ,, é v1a,x  v1,\u20ac"),
    "empty signature": asked(""),
    "no signature": asked(None),
    "no id": asked(id=None),
    "empty id": asked(id=""),
    "another id": asked(id=f"{ID}x"),
    "no timestamp": asked(at=None),
    "a timestamp that is none": asked(at="yesterday"),
    "a negative timestamp": asked(at=f"-{AT}"),
    "a fraction": asked(at=f"{AT}.0"),
    "a line end behind": asked(at=f"{AT}\n"),
    "a number without end": asked(at="9" * 400),
    "another timestamp": asked(at=str(AT + 1)),
    "another body": asked(body=BODY + " "),
    "another secret": ours(OLDER, NEWER),
}


@pytest.fixture(params=RUNNERS)
def run(request: pytest.FixtureRequest) -> Run:
    runner = RUNNERS[request.param]
    if runner is None:
        pytest.skip(f"nothing here runs .{request.param}")
    command = [runner, str(DOCS / "examples" / f"verify_webhook.{request.param}")]

    def run(question: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(  # noqa: S603
            command, input=json.dumps(question), capture_output=True, text=True, timeout=30, check=False
        )

    return run


def answers(run: Run, cases: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What an example says to each case; with what it complains of, which should be nothing."""
    done = {name: run(case) for name, case in cases.items()}
    return {name: each.stdout.strip() + each.stderr for name, each in done.items()}


def test_what_is_genuine_is_accepted(run: Run) -> None:
    """The vectors of the standard, the edges of the tolerance, and both secrets while one is rotated."""
    assert answers(run, GENUINE) == dict.fromkeys(GENUINE, "true")


def test_what_is_not_genuine_is_refused(run: Run) -> None:
    """Without an error: a receiver that fails on odd headers answers 500 to whoever likes it to."""
    assert answers(run, FORGED) == dict.fromkeys(FORGED, "false")


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_***", "whsec_é"])
def test_a_secret_that_is_none_is_an_error(run: Run, secret: str) -> None:
    """An empty one would accept what everybody can sign."""
    done = run(asked(secret=secret))
    assert done.returncode != 0
    assert "true" not in done.stdout


@pytest.mark.parametrize(("cases", "is_genuine"), [(GENUINE, True), (FORGED, False)], ids=["genuine", "forged"])
def test_our_own_check_agrees(cases: dict[str, dict[str, Any]], is_genuine: bool) -> None:
    """The examples and `rules.signing` are four tellings of one rule."""
    said = {}
    for name, case in cases.items():
        headers = {key.lower(): value for key, value in case["headers"].items()}
        said[name] = verify(
            [case["secret"]],
            message_id=headers.get("webhook-id", ""),
            timestamp=headers.get("webhook-timestamp", ""),
            signatures=headers.get("webhook-signature", ""),
            body=case["body"].encode(),
            now=case["now"],
        )
    assert said == dict.fromkeys(cases, is_genuine)


def shown_request() -> tuple[dict[str, str], str]:
    """The request at the top of the page: its headers, and its body without the line end before the fence."""
    found = re.search(r"^```http\nPOST \S+ HTTP/1\.1\n(.*?)\n\n(.*?)\n```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found
    return dict(line.split(": ", 1) for line in found[1].splitlines()), found[2]


def shown_secret() -> str:
    """The secret the page gives with it."""
    found = re.search(r"secret of this example is `(\S+)`", PAGE)
    assert found
    return found[1]


def test_the_page_shows_the_programs_that_are_tested() -> None:
    """Every program in the page is one of the files, word for word, and every file is there."""
    files = {path.read_text(): path.name for path in (DOCS / "examples").glob("verify_webhook.*")}
    blocks = [files.get(block, f"no file: {block[:60]}") for block in FENCE.findall(PAGE)]
    assert sorted(blocks) == sorted(files.values()) == sorted(f"verify_webhook.{ending}" for ending in RUNNERS)


def test_the_request_on_the_page_is_genuine(run: Run) -> None:
    """Somebody who tries the program of the page on the request of the page sees it accepted."""
    headers, body = shown_request()
    case = {"secret": shown_secret(), "headers": headers, "body": body, "now": int(headers["webhook-timestamp"])}
    assert answers(run, {"right": case, "wrong": {**case, "body": body + "\n"}}) == {"right": "true", "wrong": "false"}


def test_the_request_on_the_page_fits_together() -> None:
    """What two headers, or a header and the body, both say is the same."""
    headers, body = shown_request()
    told = json.loads(body)
    assert list(told) == ["id", "event", "timestamp", "data"]
    assert (told["id"], told["event"]) == (headers["webhook-id"], headers["X-Webhook-Event"])
    assert len(body.encode()) == int(headers["content-length"])
    sent_at = datetime.fromisoformat(headers["X-Webhook-Timestamp"]).timestamp()
    assert int(sent_at) == int(headers["webhook-timestamp"])
    assert datetime.fromisoformat(told["timestamp"]).timestamp() < sent_at
    assert checked_secret(shown_secret()) == shown_secret()
    assert headers["X-Webhook-Signature"] == body_signature(shown_secret(), body.encode())


def test_the_page_names_every_setting() -> None:
    """With the default it has."""

    def written(default: Any) -> str:
        if isinstance(default, tuple):
            return ",".join(map(str, default)) or "none"
        return str(default).lower() if isinstance(default, bool) else f"{default:g}"

    fields = WebhookSettings.model_fields.items()
    assert dict(SETTING.findall(PAGE)) == {f"WEBHOOK_{name.upper()}": written(field.default) for name, field in fields}
