"""Merchants' secrets at rest: sealed before they are stored, opened to sign with."""

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from ..errors import Permanent

SEALED = "enc:"
KEY_BYTES = 32
KEPT = 4096  # opened texts, of as many endpoints


class Vault:
    """Seals with the first of `keys`, opens with each of them (Fernet: AES and HMAC-SHA256, github.com/fernet/spec).

    `keys`: 32 bytes as URL-safe base64 each, newest first, as in WEBHOOK_SECRETS_KEY; ValueError for one that is
    none. Without keys it seals nothing, so that a first start needs none; what was stored plain stays readable when
    keys come later, until `reseal` has been over it. Sealing draws its own randomness and the time inside
    `cryptography`: the one place in `rules` where the same call gives another text. Opened texts stay in memory.
    """

    def __init__(self, keys: Sequence[SecretStr | str] = ()) -> None:
        fernets = [Fernet(key.get_secret_value() if isinstance(key, SecretStr) else key) for key in keys]
        self._count = len(fernets)
        self._first = fernets[0] if fernets else None
        self._all = MultiFernet(fernets) if fernets else None  # which refuses to be of no keys
        self._opened = lru_cache(maxsize=KEPT)(self._decrypted)

    def __repr__(self) -> str:
        return f"<Vault of {self._count} keys>"

    def seal(self, text: str) -> str:
        """`text` as it is stored: `enc:` and a Fernet token, or itself where there is no key.

        ValueError for a text that starts with `enc:`, which would be taken for sealed.
        """
        if text.startswith(SEALED):
            raise ValueError("the text is sealed already, or looks like it")
        if self._first is None:
            return text
        return SEALED + self._first.encrypt(text.encode()).decode("ascii")

    def open(self, sealed: str) -> str:
        """The text that was sealed; one without `enc:` comes back as it is.

        Raises Permanent when none of the keys fits, or the stored text was changed; the two look the same.
        """
        return self._opened(sealed) if sealed.startswith(SEALED) else sealed

    def reseal(self, sealed: str) -> str | None:
        """What to store instead, sealed with the first key; None where it is so already, or there is no key.

        For the rotation of keys, and for secrets stored before there was one. Raises Permanent like `open`.
        """
        if not sealed.startswith(SEALED):
            return self.seal(sealed) if self._first else None
        if self._first and _opened_with(self._first, sealed) is not None:
            return None
        return self.seal(self.open(sealed))

    def _decrypted(self, sealed: str) -> str:
        text = _opened_with(self._all, sealed) if self._all else None
        if text is None:
            raise Permanent(
                "a stored webhook secret cannot be opened: "
                + ("no key in WEBHOOK_SECRETS_KEY fits" if self._all else "WEBHOOK_SECRETS_KEY is not set")
                + "; put the old key behind the new one in WEBHOOK_SECRETS_KEY, or rotate the endpoint's secret"
            )
        return text


def _opened_with(keys: Fernet | MultiFernet, sealed: str) -> str | None:
    try:
        return keys.decrypt(sealed.removeprefix(SEALED).encode()).decode()
    except (InvalidToken, ValueError):  # ValueError: characters that no token has
        return None


def new_key(random: bytes) -> str:
    """A key for WEBHOOK_SECRETS_KEY out of 32 `random` bytes; ValueError for another number of them."""
    if len(random) != KEY_BYTES:
        raise ValueError(f"a key is made of {KEY_BYTES} random bytes, not of {len(random)}")
    return urlsafe_b64encode(random).decode("ascii")
