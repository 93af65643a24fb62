"""Signatures that every library of Standard Webhooks accepts, and a check that no header can trip."""

import base64
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from src.rules.signing import body_signature, checked_secret, new_key, new_secret, public_key, signature_header, verify

# The vectors of the specification's own libraries
ID, AT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
RIGHT = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
WRONG = "Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
# RFC 8032, 7.1, tests 1 and 2: seed and public key; the signatures of vector 1's bytes are libsodium's
SEEDS = (
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
)
PUBLICS = (
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
)
SODIUMS = (
    "v1a,fldxM4gAKugP6nnt1hdz3sgGfZ6d99nzrMFnZOELIxbzEHoVmAb2ADpkJK7zgPePmPsle0zV9jSeGlHFG2NVAw==",
    "v1a,7anDmyOh9LNskt5GJUTacHmbvyUkT0/S1jnxFAp+h2hcVXnQLWhtWA2+wP6vO0AUwEYP23IIZVuneGRhNj7hDQ==",
)
KEY = new_key(bytes.fromhex(SEEDS[0]))
OTHER_KEY = new_key(bytes.fromhex(SEEDS[1]))

SECRETS = st.binary(min_size=24, max_size=64).map(new_secret)
KEYS = st.binary(min_size=32, max_size=32).map(new_key)
IDS = st.from_regex(r"[!-\-/-~]{1,40}", fullmatch=True)
SECONDS = st.integers(0, 4_000_000_000)
BODIES = st.binary(max_size=300) | st.text(max_size=100).map(str.encode)


class Request(NamedTuple):
    """What a receiver has in hand; vector 1 at its own second where nothing else is said."""

    signatures: str
    body: bytes = BODY
    message_id: str = ID
    timestamp: str = str(AT)
    now: float = AT
    tolerance_s: float = 300

    def is_valid(self, *keys: str) -> bool:
        return verify(keys, **self._asdict())


def is_valid(signatures: str, *keys: str, **other: Any) -> bool:
    """Whether vector 1 verifies with these entries; `other` replaces parts of it."""
    return Request(signatures, **other).is_valid(*keys or (SECRET,))


def test_vectors() -> None:
    """What the other libraries of the standard compute, we compute, and accept: vectors 1, 1 without prefix, and 2."""
    for secret in (SECRET, SECRET.removeprefix("whsec_")):
        assert signature_header([secret], ID, AT, BODY) == RIGHT
        assert is_valid(RIGHT, secret)
    secret, message_id, timestamp = "whsec_plJ3nmyCDGBKInavdOK15jsl", "msg_loFOjxBNrRLzqYUf", 1731705121
    body, signature = (
        b'{"event_type":"ping","data":{"success":true}}',
        "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
    )
    assert signature_header([secret], message_id, timestamp, body) == signature
    assert Request(signature, body, message_id, str(timestamp), timestamp).is_valid(secret)


def test_a_list_of_signatures_needs_one_that_is_right() -> None:
    """Vector 3: while a secret is rotated, and with versions we do not know, the list holds others too."""
    assert is_valid(f"v1,{WRONG} v2,{WRONG} {RIGHT} v1,{WRONG}")
    assert is_valid(f"  v2,x   {RIGHT}\t")
    assert not is_valid(f"v1,{WRONG} v2,{WRONG} v2,{RIGHT[3:]} v1,{WRONG}")


@pytest.mark.parametrize("signature", [RIGHT, SODIUMS[0]], ids=["v1", "v1a"])
@pytest.mark.parametrize(
    ("ahead_s", "is_fresh"),
    [(0, True), (300, True), (-300, True), (301, False), (-301, False), (float("nan"), False), (float("inf"), False)],
)
def test_five_minutes_both_ways(signature: str, ahead_s: float, is_fresh: bool) -> None:
    """Exactly five minutes pass and a second more does not; a clock that tells nothing refuses."""
    assert is_valid(signature, SECRET, public_key(KEY), now=AT + ahead_s) is is_fresh
    assert is_valid(signature, SECRET, public_key(KEY), now=AT + ahead_s, tolerance_s=301) is (abs(ahead_s) <= 301)


@pytest.mark.parametrize(
    "signatures",
    [
        *("", " ", "v1,", "v1", ",", ",,", "v1,,", f"v1,{WRONG}", RIGHT[3:], f"{RIGHT},", f",{RIGHT}", RIGHT.lower()),
        *(RIGHT.rstrip("="), RIGHT + "=", RIGHT[:-2] + "F=", f"V1,{RIGHT[3:]}", f"v1, {RIGHT[3:]}", RIGHT + "\x00"),
        *("v1,é", "v1,\ud800", "v1a,", "v1a,AAAA", "v1a,\ud800", "v1a,é", f"v1a,{RIGHT[3:]}", "v1a," + "A" * 86 + "=="),
    ],
    ids=ascii,
)
def test_a_header_that_proves_nothing_is_refused(signatures: str) -> None:
    """Whatever stands there: the answer is no, and never an error."""
    assert not is_valid(signatures, SECRET, public_key(KEY))


@pytest.mark.parametrize(
    "timestamp",
    ["", " ", "x", "-1", "+1614265330", "1614265330.0", "1e9", " 1614265330", "1614265330\n", "١٦١٤٢٦٥٣٣٠", "9" * 5000],
    ids=lambda text: ascii(text[:15]),
)
def test_an_odd_timestamp_is_refused(timestamp: str) -> None:
    """Unix seconds in ASCII digits, and nothing else."""
    assert not is_valid(RIGHT, timestamp=timestamp)


@pytest.mark.parametrize("message_id", ["", "a.b", "a b", "a\nb", "é", "\ud800"], ids=ascii)
def test_an_odd_id_is_neither_signed_nor_accepted(message_id: str) -> None:
    """With a dot, `a` at 1 and `a.1` at 2 could have the same bytes; with a line end, it would be another header."""
    assert not is_valid(RIGHT, message_id=message_id)
    with pytest.raises(ValueError, match="webhook-id is visible ASCII without a dot"):
        signature_header([SECRET], message_id, AT, BODY)


@given(st.text(max_size=60), st.text(max_size=30), st.text(max_size=60), st.floats())
def test_no_header_makes_it_raise(message_id: str, timestamp: str, signatures: str, now: float) -> None:
    """A receiver that fails on odd headers answers 500 to whoever likes it to."""
    assert not Request(signatures, BODY, message_id, timestamp, now).is_valid(SECRET, public_key(KEY))


@given(st.lists(SECRETS | KEYS, min_size=1, max_size=4), IDS, SECONDS, BODIES)
def test_what_we_sign_verifies(secrets: list[str], message_id: str, timestamp: int, body: bytes) -> None:
    """With each of the secrets alone, with all, and in any order; and not when a part of what is signed is another."""
    signatures = signature_header(secrets, message_id, timestamp, body)
    versions = ["v1a" if secret.startswith("whsk_") else "v1" for secret in secrets]
    assert [entry.partition(",")[0] for entry in signatures.split(" ")] == versions
    request = Request(signatures, body, message_id, str(timestamp), timestamp)
    backwards = request._replace(signatures=" ".join(reversed(signatures.split(" "))))
    shown = [public_key(secret) if secret.startswith("whsk_") else secret for secret in secrets]
    for keys in (secrets, shown, shown[::-1], *([key] for key in (*secrets, *shown))):
        assert request.is_valid(*keys)
        assert backwards.is_valid(*keys)
    assert not request._replace(body=body + b" ").is_valid(*secrets)
    assert not request._replace(message_id=message_id + "x").is_valid(*secrets)
    assert not request._replace(timestamp=str(timestamp + 1)).is_valid(*secrets)


@given(SECRETS | KEYS, st.binary(min_size=1, max_size=100), st.data())
def test_one_flipped_bit_fails(secret: str, body: bytes, data: st.DataObject) -> None:
    """In the body as in the signature."""
    header = signature_header([secret], ID, AT, body)
    version, _, written = header.partition(",")

    def flipped(whole: bytes) -> bytes:
        bit = data.draw(st.integers(0, len(whole) * 8 - 1))
        return bytes(byte ^ (1 << bit % 8 if number == bit // 8 else 0) for number, byte in enumerate(whole))

    changed = f"{version},{base64.b64encode(flipped(base64.b64decode(written))).decode()}"
    assert is_valid(header, secret, body=body)
    assert not is_valid(header, secret, body=flipped(body))
    assert not is_valid(changed, secret, body=body)


@given(SECRETS, SECRETS)
def test_another_secret_does_not_verify(secret: str, other: str) -> None:
    """Each endpoint has its own, and what one holds says nothing to another."""
    assert is_valid(signature_header([secret], ID, AT, BODY), other) == (secret == other)


@given(SECRETS, IDS, st.text(max_size=100))
def test_the_official_library_and_we_agree(secret: str, message_id: str, body: str) -> None:
    """It accepts ours and we accept its own; its datetimes are in UTC, for any other zone it signs another instant."""
    now = int(time.time())
    theirs = Webhook(secret)
    signed = theirs.sign(message_id, datetime.fromtimestamp(now, UTC), body)
    ours = signature_header([new_secret(bytes(24)), secret], message_id, now, body.encode())
    assert ours.endswith(f" {signed}")
    headers = {"webhook-id": message_id, "webhook-timestamp": str(now), "webhook-signature": ours}
    theirs.verify(body.encode(), headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        theirs.verify(body.encode() + b" ", headers, json_parse=False)
    assert Request(signed, body.encode(), message_id, str(now), now).is_valid(secret)


@pytest.mark.parametrize(("seed", "public", "signature"), [*zip(SEEDS, PUBLICS, SODIUMS, strict=True)])
def test_ed25519_keys_are_those_of_the_rfc(seed: str, public: str, signature: str) -> None:
    """The seed and its public half in one key, the public half alone in the other; libsodium signs the same."""
    key = new_key(bytes.fromhex(seed))
    assert base64.b64decode(key.removeprefix("whsk_")).hex() == seed + public
    assert base64.b64decode(public_key(key).removeprefix("whpk_")).hex() == public
    header = signature_header([key], ID, AT, BODY)
    assert header == signature
    assert is_valid(header, public_key(key))
    assert is_valid(f"{RIGHT} v1a,x {header}", public_key(key))


def test_a_public_key_accepts_only_its_own() -> None:
    """Neither another key's signature nor a shared secret's, nor one that is labelled wrongly."""
    ours = signature_header([KEY], ID, AT, BODY)
    assert not is_valid(ours, public_key(OTHER_KEY))
    assert not is_valid(RIGHT, public_key(KEY))
    assert not is_valid(ours.replace("v1a,", "v1,"), public_key(KEY), SECRET)
    assert not is_valid(ours.rstrip("="), public_key(KEY))
    assert base64.b64decode(ours[4:-3] + "x==") == base64.b64decode(ours[4:])
    assert not is_valid(ours[:-3] + "x==", public_key(KEY))


def test_signatures_stand_in_the_order_of_the_secrets() -> None:
    """The newest secret first, so that a receiver that looks at the first entry alone sees its own."""
    assert signature_header([KEY, SECRET], ID, AT, BODY) == f"{SODIUMS[0]} {RIGHT}"
    assert signature_header([SECRET, KEY], ID, AT, BODY) == f"{RIGHT} {SODIUMS[0]}"


def test_without_a_secret_nothing_is_signed_or_verified() -> None:
    """A request without a signature, or a receiver without a key, is a mistake of ours and not of the other side."""
    with pytest.raises(ValueError, match="no secret to sign with"):
        signature_header([], ID, AT, BODY)
    with pytest.raises(ValueError, match="no key to verify with"):
        verify([], message_id=ID, timestamp=str(AT), signatures=RIGHT, body=BODY, now=AT)


WRONG_SECRETS = {
    "the secret is empty": [""],
    "nothing after whsec_": ["whsec_", "whsec_===="],
    "nothing after whsk_": ["whsk_"],
    "not base64": [f"whsec_{text}" for text in ("*" * 32, "_-" * 16, "é" * 32, "A" * 33, "AAAA=" + "A" * 28)],
    "white space": [f" {SECRET}", f"{SECRET}\n", SECRET[:20] + " " + SECRET[20:]],
    "64 bytes, or 32 for the seed alone, not 31": ["whsk_" + base64.b64encode(bytes(31)).decode()],
    "do not belong together": ["whsk_" + base64.b64encode(bytes(64)).decode()],
}


@pytest.mark.parametrize(
    ("text", "sentence"), [(text, sentence) for sentence, texts in WRONG_SECRETS.items() for text in texts]
)
def test_a_text_that_is_no_secret_is_named_at_once(text: str, sentence: str) -> None:
    """When it is set, when something is signed, and when it is verified; never with the text itself."""
    sign, check = (lambda: signature_header([SECRET, text], ID, AT, BODY)), (lambda: is_valid(RIGHT, SECRET, text))
    for use in (lambda: checked_secret(text), sign, check):
        with pytest.raises(ValueError, match=sentence) as raised:
            use()
        assert len(text) < 12 or text.partition("_")[2] not in str(raised.value)


@pytest.mark.parametrize(("length", "sentence"), [(1, "short: 1 "), (23, "short: 23 bytes"), (65, "long: 65 bytes")])
def test_a_secret_of_another_length_is_stopped_at_the_door(length: int, sentence: str) -> None:
    """But what is stored already signs and verifies: vector 2 has 18 bytes."""
    secret = "whsec_" + base64.b64encode(bytes(length)).decode()
    with pytest.raises(ValueError, match=sentence):
        checked_secret(secret)
    assert is_valid(signature_header([secret], ID, AT, BODY), secret)


def test_a_public_key_cannot_sign() -> None:
    """Mixed up easily, as the three look alike."""
    with pytest.raises(ValueError, match="a public key, for the receiver"):
        checked_secret(public_key(KEY))
    with pytest.raises(ValueError, match="not base64"):
        signature_header([public_key(KEY)], ID, AT, BODY)
    with pytest.raises(ValueError, match="has 32 bytes, not 31"):
        is_valid(RIGHT, "whpk_" + base64.b64encode(bytes(31)).decode())
    with pytest.raises(ValueError, match="only a signing key"):
        public_key(SECRET)


@given(SECRETS | KEYS)
def test_a_secret_has_one_normal_form(secret: str) -> None:
    """With or without prefix, padding or public half, it is the same secret."""
    assert checked_secret(secret) == secret
    assert checked_secret(secret.rstrip("=")) == secret
    if secret.startswith("whsec_"):
        assert checked_secret(secret.removeprefix("whsec_")) == secret
    else:
        seed = base64.b64decode(secret.removeprefix("whsk_"))[:32]
        assert checked_secret("whsk_" + base64.b64encode(seed).decode()) == secret


def test_secrets_are_made_of_enough_randomness() -> None:
    """Fewer bytes than the specification asks for make no secret."""
    assert new_secret(base64.b64decode(SECRET[6:])) == SECRET
    for length in (0, 23, 65):
        with pytest.raises(ValueError, match="24 to 64 random bytes"):
            new_secret(bytes(length))
    for length in (0, 31, 33, 64):
        with pytest.raises(ValueError, match="32 random bytes"):
            new_key(bytes(length))


def test_the_bodys_own_signature_is_keyed_with_the_text() -> None:
    """As asynq-worker.en.md has it: the whole secret as it is shown; computed here with OpenSSL."""
    assert body_signature(SECRET, BODY) == "80ec8a89ce3cd22133a1066caecb4d04fea7467657c8514d717ec42c38a5c94c"
    assert body_signature(SECRET, b"") != body_signature(SECRET.removeprefix("whsec_"), b"")


@pytest.mark.parametrize("key", [KEY, public_key(KEY)], ids=["signing key", "public key"])
def test_the_bodys_own_signature_takes_no_key_pair(key: str) -> None:
    """A merchant does not hold the one half, and everybody may hold the other."""
    with pytest.raises(ValueError, match="takes a shared secret"):
        body_signature(key, BODY)
