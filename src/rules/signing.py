"""Signs webhooks and checks signatures: Standard Webhooks 1.0.0 (github.com/standard-webhooks/standard-webhooks).

Signed are the bytes `{id}.{timestamp}.{body}`. Keys are text, a prefix and base64:

whsec_  24 to 64 random bytes, known to both sides: HMAC-SHA256, `v1,` in the header
whsk_   ed25519 seed and public key, 64 bytes, ours alone: `v1a,` in the header
whpk_   ed25519 public key, 32 bytes, what a merchant gets of a whsk_
"""

import binascii
import hmac
import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SHARED, PRIVATE, PUBLIC = "whsec_", "whsk_", "whpk_"
SHORTEST, LONGEST = 24, 64  # bytes of a shared secret
SEED_BYTES = 32
TOLERANCE_S = 300.0  # both ways; the specification gives no number, its own libraries take five minutes
KEPT = 4096  # decoded keys, of as many endpoints

# An id with a dot could be read as another id and timestamp; one with a space would not survive as a header.
_ID = re.compile(r"[!-\-/-~]+")
_SECONDS = re.compile(r"[0-9]{1,15}")


def new_secret(random: bytes) -> str:
    """A shared secret of 24 to 64 `random` bytes; ValueError for any other number of them."""
    if not SHORTEST <= len(random) <= LONGEST:
        raise ValueError(f"a secret is made of {SHORTEST} to {LONGEST} random bytes, not of {len(random)}")
    return SHARED + _text(random)


def new_key(seed: bytes) -> str:
    """The signing key (`whsk_`) of a `seed` of 32 random bytes (RFC 8032); ValueError for any other number of them."""
    if len(seed) != SEED_BYTES:
        raise ValueError(f"a signing key is made of {SEED_BYTES} random bytes, not of {len(seed)}")
    return PRIVATE + _text(seed + Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw())


def public_key(whsk: str) -> str:
    """What the merchant gets of a signing key: `whpk_`. ValueError for a text that is no signing key."""
    if not whsk.startswith(PRIVATE):
        raise ValueError("only a signing key, which starts with whsk_, has a public key")
    return PUBLIC + _text(_private(whsk).public_key().public_bytes_raw())


def checked_secret(text: str) -> str:
    """A secret in the form it is stored, shown and signed with: prefix, then base64 with its padding.

    A text without prefix is a shared secret; a `whsk_` of the seed alone gets its public half. Twice changes nothing
    more. For the door: raises ValueError with a sentence that says what is wrong and never holds the secret, also for
    lengths that the specification does not allow and that signing and verifying put up with.
    """
    if text.startswith(PRIVATE):
        return PRIVATE + _text(_private_bytes(text))
    if text.startswith(PUBLIC):
        raise ValueError("this is a public key, for the receiver; to sign takes the whsk_ it belongs to, or a whsec_")
    key = _shared_bytes(text)
    if len(key) < SHORTEST:
        raise ValueError(f"the secret is too short: {len(key)} bytes, and {SHORTEST} is the least")
    if len(key) > LONGEST:
        raise ValueError(f"the secret is too long: {len(key)} bytes, and {LONGEST} is the most")
    return SHARED + _text(key)


def signature_header(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature per secret, in their order, newest first by custom.

    `timestamp`: Unix seconds of this attempt; `body`: the very bytes that are sent. Raises ValueError for a
    `message_id` that is empty, holds a dot, or anything but visible ASCII; for no secrets, and for one that is none.
    """
    if not _ID.fullmatch(message_id):
        raise ValueError(f"a webhook-id is visible ASCII without a dot or a space, not {message_id!r}")
    if not secrets:
        raise ValueError("there is no secret to sign with")
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join([_signer(secret)(signed) for secret in secrets])


def body_signature(secret: str, body: bytes) -> str:
    """The header `X-Webhook-Signature`: HMAC-SHA256 of the raw body in hex, keyed with the secret as it is shown.

    As in asynq-worker.en.md; the key is the text itself, prefix included, as UTF-8. Raises ValueError for a `whsk_`,
    which no merchant holds, and for a `whpk_`, with which everybody could sign.
    """
    if secret.startswith((PRIVATE, PUBLIC)):
        raise ValueError("X-Webhook-Signature takes a shared secret (whsec_); an ed25519 key signs v1a alone")
    return hmac.digest(secret.encode(), body, "sha256").hex()


def verify(
    keys: Sequence[str],
    *,
    message_id: str,
    timestamp: str,
    signatures: str,
    body: bytes,
    now: float,
    tolerance_s: float = TOLERANCE_S,
) -> bool:
    """Whether any of `signatures` was made with any of `keys`, at most `tolerance_s` seconds from `now`, both ways.

    `message_id`, `timestamp` and `signatures` are the headers as they came, empty where there was none; nothing in
    them raises, and entries of unknown make are passed over. `keys`: secrets (`whsec_`, or none of the prefixes) and
    public keys (`whpk_`; `whsk_` too), all that are valid now. `now` is in Unix seconds. Compares in constant time.
    Raises ValueError when there are no keys or one is none, which is the receiver's own mistake.
    """
    if not keys:
        raise ValueError("there is no key to verify with")
    makers = [_verifier(key) for key in keys]
    if not (_ID.fullmatch(message_id) and _SECONDS.fullmatch(timestamp)):
        return False
    if not abs(now - int(timestamp)) <= tolerance_s:  # in this form a `now` of NaN fails too
        return False
    signed = f"{message_id}.{timestamp}.".encode() + body
    entries = [entry.encode("ascii", "replace") for entry in signatures.split()]
    verifiers = [make(signed) for make in makers]  # hashes the body once per key, however many entries there are
    return any(fits(entry) for fits in verifiers for entry in entries)


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _bytes(text: str, prefix: str) -> bytes:
    """What a key stands for; ValueError, without the text, for one that stands for nothing."""
    payload = text.removeprefix(prefix)
    if not payload:
        raise ValueError(f"the secret is empty: there is nothing after {prefix}" if text else "the secret is empty")
    if any(character.isspace() for character in payload):
        raise ValueError("the secret holds white space: copy it without spaces and line ends")
    padded = payload.rstrip("=")
    try:
        return binascii.a2b_base64(padded + "=" * (-len(padded) % 4), strict_mode=True)
    except ValueError as e:  # binascii.Error, and characters beyond ASCII
        raise ValueError(f"the secret is not base64 (A-Z a-z 0-9 + / =) after {prefix}") from e


def _shared_bytes(text: str) -> bytes:
    """Of any length but none: the specification's own example has 18 bytes, and what was let in has to sign."""
    key = _bytes(text, SHARED)
    if not key:
        raise ValueError(f"the secret is empty: there is nothing after {SHARED}")
    return key


def _private_bytes(text: str) -> bytes:
    """Seed and public key; the second half is computed, and compared where it was given."""
    given = _bytes(text, PRIVATE)
    if len(given) not in (SEED_BYTES, 2 * SEED_BYTES):
        raise ValueError(f"a signing key (whsk_) has 64 bytes, or 32 for the seed alone, not {len(given)}")
    seed = given[:SEED_BYTES]
    whole = seed + Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    if not whole.startswith(given):
        raise ValueError("the two halves of the signing key (whsk_) do not belong together")
    return whole


def _private(text: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(_private_bytes(text)[:SEED_BYTES])


def _public(text: str) -> Ed25519PublicKey:
    if text.startswith(PRIVATE):
        return _private(text).public_key()
    given = _bytes(text, PUBLIC)
    if len(given) != SEED_BYTES:
        raise ValueError(f"a public key (whpk_) has {SEED_BYTES} bytes, not {len(given)}")
    return Ed25519PublicKey.from_public_bytes(given)


@lru_cache(maxsize=KEPT)
def _signer(secret: str) -> Callable[[bytes], str]:
    """What makes one entry of the header out of the signed bytes."""
    if secret.startswith(PRIVATE):
        private = _private(secret)
        return lambda signed: "v1a," + _text(private.sign(signed))
    key = _shared_bytes(secret)
    return lambda signed: "v1," + _text(hmac.digest(key, signed, "sha256"))


@lru_cache(maxsize=KEPT)
def _verifier(key: str) -> Callable[[bytes], Callable[[bytes], bool]]:
    """What tells, for the signed bytes and then for one entry of the header, whether it was made with `key`."""
    if key.startswith((PRIVATE, PUBLIC)):
        public = _public(key)
        return lambda signed: lambda entry: _is_by(public, entry, signed)
    sign = _signer(key)

    def of(signed: bytes) -> Callable[[bytes], bool]:
        expected = sign(signed).encode()
        return lambda entry: hmac.compare_digest(entry, expected)

    return of


def _is_by(public: Ed25519PublicKey, entry: bytes, signed: bytes) -> bool:
    version, _, written = entry.partition(b",")
    if version != b"v1a":
        return False
    try:
        signature = binascii.a2b_base64(written, strict_mode=True)
        if b64encode(signature) != written:  # base64 has more than one text for the same bytes
            return False
        public.verify(signature, signed)
    except (InvalidSignature, ValueError):
        return False
    return True
