"""Addresses as people write them: what is understood, and what is refused with words that help."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.rules.recipients import CHANNELS, Recipient, recipient_of


@pytest.mark.parametrize(
    ("text", "channel", "target"),
    [
        ("telegram:-1001234567890", "telegram", "-1001234567890"),
        ("telegram:-1001234567890/17", "telegram", "-1001234567890/17"),
        ("telegram:@shop_sales", "telegram", "@shop_sales"),
        (" Telegram : 42 ", "telegram", "42"),
        ("slack:sales", "slack", "sales"),
        ("email:boss@shop.vn", "email", "boss@shop.vn"),
        ("webhook:merchant:7", "webhook", "merchant:7"),
        ("zalo:1234567890", "zalo", "1234567890"),
        ("apprise:sms", "apprise", "sms"),
        ("app:all", "app", "all"),
    ],
)
def test_an_address(text: str, channel: str, target: str) -> None:
    """The channel's name is read in any case, spaces around do not count; what follows is the channel's own."""
    assert recipient_of(text) == Recipient(channel, target)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "write telegram:"),
        ("boss@shop.vn", "email:<address>"),
        ("pigeon:1", "is no address"),
        ("telegram", "telegram:<chat id>"),
        ("telegram:", "telegram:<chat id>"),
        ("telegram:sales", "telegram:<chat id>"),
        ("telegram:١٢٣", "telegram:<chat id>"),
        ("telegram:1\n2", "telegram:<chat id>"),
        ("email:boss", "email:<address>"),
        ("email:a@b.vn,c@d.vn", "email:<address>"),
        ("email:Boss <a@b.vn>", "email:<address>"),
        ("email:a@b.vn\x00", "email:<address>"),
        ("webhook:a b", "webhook:<merchant id"),
        ("zalo:0909", "zalo:<user id"),
        ("app:", "app:<user id>"),
    ],
)
def test_what_is_no_address_is_refused_with_the_way_to_write_one(text: str, words: str) -> None:
    with pytest.raises(ValueError, match="write") as refused:
        recipient_of(text)
    assert words in str(refused.value)


@pytest.mark.parametrize("channel", CHANNELS)
def test_what_is_written_back_is_read_again(channel: str) -> None:
    """Addresses are stored as text."""

    @given(st.from_regex(CHANNELS[channel][0], fullmatch=True))
    def check(target: str) -> None:
        found = Recipient(channel, target.strip())
        assert recipient_of(str(found)) == found

    check()


@given(st.text(max_size=60) | st.tuples(st.sampled_from(list(CHANNELS)), st.text(max_size=60)).map(":".join))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """Nothing else comes out of a setting; and an address holds nothing that ends a line."""
    try:
        found = recipient_of(text)
    except ValueError:
        return
    assert recipient_of(str(found)) == found
    assert str(found).isprintable() or not any(sign in str(found) for sign in "\r\n\t\x00")
