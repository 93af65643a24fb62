"""Secrets at rest: sealed with the first key, opened with any, and never told by accident."""

import base64
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from src.errors import Permanent
from src.rules.vault import Vault, new_key

NEW, OLD, OTHER = (new_key(bytes([number]) * 32) for number in (1, 2, 3))
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PLAIN = st.text(max_size=200).filter(lambda text: not text.startswith("enc:"))
ADVICE = "put the old key behind the new one in WEBHOOK_SECRETS_KEY"


@given(PLAIN, st.binary(min_size=32, max_size=32))
def test_what_was_sealed_opens(text: str, random: bytes) -> None:
    """With any key, and with a new vault as after a restart; the stored form does not show the text."""
    key = new_key(random)
    sealed = Vault([key]).seal(text)
    assert sealed.startswith("enc:")
    assert len(text) < 8 or text not in sealed
    assert Vault([SecretStr(key)]).open(sealed) == text


def test_the_same_secret_is_never_stored_alike() -> None:
    """Who reads the database does not see which endpoints share a secret."""
    vault = Vault([NEW])
    assert vault.seal(SECRET) != vault.seal(SECRET)


def test_an_old_key_behind_the_new_one_still_opens() -> None:
    """A key is rotated without a moment in which something cannot be read; the new one seals."""
    sealed = Vault([OLD]).seal(SECRET)
    both = Vault([NEW, OLD])
    assert both.open(sealed) == SECRET
    assert Vault([NEW]).open(both.seal(SECRET)) == SECRET


@pytest.mark.parametrize("keys", [[], [NEW], [NEW, OTHER]], ids=["no key", "another", "two others"])
def test_without_the_key_it_says_what_to_do(keys: Sequence[str]) -> None:
    """Again and again, and with neither the text nor the keys in the sentence."""
    vault = Vault(keys)
    sealed = Vault([OLD]).seal(SECRET)
    for _ in range(2):
        with pytest.raises(Permanent, match=ADVICE) as raised:
            vault.open(sealed)
        assert not any(hidden in str(raised.value) for hidden in (sealed, SECRET, *keys))
    with pytest.raises(Permanent, match=ADVICE):
        vault.reseal(sealed)


def test_without_keys_texts_stay_as_they_are() -> None:
    """A first start needs no key; what was stored then is readable when there is one."""
    bare = Vault()
    assert bare.seal(SECRET) == SECRET
    assert bare.open(SECRET) == SECRET
    assert Vault([NEW]).open(SECRET) == SECRET
    assert bare.reseal(SECRET) is None


@pytest.mark.parametrize("keys", [[], [NEW]], ids=["no key", "a key"])
def test_what_looks_sealed_is_not_sealed_again(keys: Sequence[str]) -> None:
    """It could not be told from what is sealed."""
    with pytest.raises(ValueError, match="sealed already"):
        Vault(keys).seal("enc:x")


@given(st.data())
def test_a_changed_text_does_not_open(data: st.DataObject) -> None:
    """One bit is enough: a secret is either the one that was stored, or none."""
    vault = Vault([NEW, OLD])
    token = bytearray(base64.urlsafe_b64decode(vault.seal(SECRET).removeprefix("enc:")))
    bit = data.draw(st.integers(0, len(token) * 8 - 1))
    token[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Permanent, match="cannot be opened"):
        vault.open("enc:" + base64.urlsafe_b64encode(bytes(token)).decode())


@given(st.text(max_size=60))
@example("\ud800")
def test_what_was_never_sealed_does_not_open(text: str) -> None:
    """Whatever somebody wrote into the database, it ends in the one error that says what to do."""
    with pytest.raises(Permanent):
        Vault([NEW]).open(f"enc:{text}")


def test_resealing_brings_everything_under_the_first_key() -> None:
    """Plain texts and those of an old key change once; then the old key can go."""
    vault = Vault([NEW, OLD])
    for stored in (SECRET, Vault([OLD]).seal(SECRET)):
        resealed = vault.reseal(stored)
        assert resealed is not None
        assert Vault([NEW]).open(resealed) == SECRET
        assert vault.reseal(resealed) is None


def test_opened_texts_are_remembered() -> None:
    """Each delivery opens a secret: the second time is no decryption."""
    vault = Vault([NEW])
    sealed = vault.seal(SECRET)
    assert vault.open(sealed) is vault.open(sealed)


def test_the_keys_are_never_shown() -> None:
    """In a log, a traceback or a debugger."""
    vault = Vault([SecretStr(NEW), OLD])
    vault.open(vault.seal(SECRET))
    assert repr(vault) == "<Vault of 2 keys>"
    shown = f"{vault!s}{vars(vault)!r}"
    assert not any(hidden in shown for hidden in (NEW, OLD, SECRET))


@pytest.mark.parametrize("key", ["", "x", "é", new_key(bytes(32))[:-4]], ids=ascii)
def test_a_key_that_is_none_is_refused(key: str) -> None:
    """At the start of the process, not at the first delivery."""
    with pytest.raises(ValueError, match=r"32 url-safe|ASCII"):
        Vault([key])


def test_a_key_is_made_of_enough_randomness() -> None:
    """32 bytes, half of them to encrypt and half to sign."""
    assert base64.urlsafe_b64decode(new_key(bytes(range(32)))) == bytes(range(32))
    for length in (0, 31, 33):
        with pytest.raises(ValueError, match="32 random bytes"):
            new_key(bytes(length))
