"""Which text may be a merchant's webhook address, and that one address has one spelling."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.rules.webhook_url import LONGEST, Target, check_url

LABEL = st.from_regex(r"[a-z]([a-z0-9]{0,10}[a-z])?", fullmatch=True)
HOST = st.lists(LABEL, min_size=1, max_size=4).map(".".join)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://a.example", Target("https://a.example/", "https", "a.example", 443)),
        ("HTTPS://A.Example:443/In?x=1", Target("https://a.example/In?x=1", "https", "a.example", 443)),
        ("https://a.example:8443/x", Target("https://a.example:8443/x", "https", "a.example", 8443)),
        ("https://a.example:/", Target("https://a.example/", "https", "a.example", 443)),
        ("https://a.example?q", Target("https://a.example/?q", "https", "a.example", 443)),
        (
            "https://bücher.example/ü",
            Target("https://xn--bcher-kva.example/%C3%BC", "https", "xn--bcher-kva.example", 443),
        ),
        (
            "https://xn--bcher-kva.example/",
            Target("https://xn--bcher-kva.example/", "https", "xn--bcher-kva.example", 443),
        ),
        ("https://cửahàng.vn/", Target("https://xn--cahng-tqa2694c.vn/", "https", "xn--cahng-tqa2694c.vn", 443)),
        ("https://a。example/", Target("https://a.example/", "https", "a.example", 443)),
        ("https://my_shop.example/", Target("https://my_shop.example/", "https", "my_shop.example", 443)),
        ("https://r3---sn-x.example/", Target("https://r3---sn-x.example/", "https", "r3---sn-x.example", 443)),
        ("https://localhost/", Target("https://localhost/", "https", "localhost", 443)),
        ("https://192.0.2.1/", Target("https://192.0.2.1/", "https", "192.0.2.1", 443)),
        ("https://１９２.０.２.１/", Target("https://192.0.2.1/", "https", "192.0.2.1", 443)),
        ("https://[2001:DB8:0::1]:443/", Target("https://[2001:db8::1]/", "https", "2001:db8::1", 443)),
        ("https://[::ffff:7f00:1]:81/", Target("https://[::ffff:7f00:1]:81/", "https", "::ffff:7f00:1", 81)),
        ("https://a.example/%2e%2E/a%20b", Target("https://a.example/%2e%2E/a%20b", "https", "a.example", 443)),
    ],
)
def test_a_good_url_gets_its_normal_form(url: str, target: Target) -> None:
    """Scheme and host in lower case, host in ASCII, no default port, a path; and the normal form is its own."""
    assert check_url(url, allow_http=False) == target
    assert check_url(target.url, allow_http=False) == target


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "https://"),
        ("a.example/hook", "https://"),
        ("//a.example/hook", "https://"),
        ("http://a.example/", "https://"),
        ("ftp://a.example/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("gopher://127.0.0.1:6379/_INFO", "https://"),
        ("javascript:alert(1)", "https://"),
        ("https:", "no host"),
        ("https:a.example", "no host"),
        ("https:/a.example", "no host"),
        ("https:///a.example", "no host"),
        ("https://:443/", "no host"),
        ("https://?x", "no host"),
        ("https://[]/", "IPv6"),
        ("https://[::1/", "no host"),
        ("https://[::1]x/", "no host"),
        ("https://[127.0.0.1]/", "IPv6"),
        ("https://[v1.x]/", "IPv6"),
        ("https://[fe80::1%25eth0]/", "scope"),
        ("https://[fe80::1%eth0]/", "scope"),
        ("https://user@a.example/", "user and password"),
        ("https://user:secret@a.example/", "user and password"),
        ("https://a.example:443@127.0.0.1/", "user and password"),
        ("https://@a.example/", "user and password"),
        ("https://a.example/#top", "fragment"),
        ("https://a.example#@127.0.0.1/", "fragment"),
        ("https://a.example/#", "fragment"),
        ("https://a.example\\@127.0.0.1/", "backslash"),
        ("https:\\\\a.example/", "backslash"),
        (" https://a.example/", "space"),
        ("https://a.example/ x", "space"),
        ("https://a.example/\t", "space"),
        ("https://a.exa\nmple/", "space"),
        ("https://a.example/\r\nHost: b", "space"),
        ("https://a.example/\x00", "space"),
        ("https://a.example/\x7f", "space"),
        ("https://a.example/\u2028", "space"),
        ("https://a.example/\u00a0", "space"),
        ("https://a\u200b.example/", "space"),
        ("https://a.example/\ud800", "space"),
        ("https://a.example:0/", "port"),
        ("https://a.example:65536/", "port"),
        ("https://a.example:-1/", "port"),
        ("https://a.example:+1/", "port"),
        ("https://a.example:4_4/", "port"),
        ("https://a.example:443:443/", "port"),
        ("https://a.example:٤٤٣/", "port"),
        ("https://::1/", "no host"),
        ("https://a.example./", "dot at the end"),
        ("https://127.0.0.1./", "dot at the end"),
        ("https://a.example。/", "dot at the end"),
        ("https://./", "dot at the end"),
        ("https://a..example/", "domain name"),
        ("https://.a.example/", "domain name"),
        ("https://-a.example/", "domain name"),
        ("https://a!b.example/", "domain name"),
        ("https://a,b/", "domain name"),
        ("https://" + "a" * 64 + ".example/", "domain name"),
        ("https://" + "a." * 127 + "example/", "domain name"),
        ("https://xn--a.example/", "international"),
        ("https://\u0301a.example/", "international"),
        ("https://a／b.example/", "international"),
        ("https://a.example＠127.0.0.1/", "international"),
        ("https://%31%32%37.0.0.1/", "percent"),
        ("https://a%00.example/", "percent"),
        ("https://127.1/", "four decimal"),
        ("https://127.0.1/", "four decimal"),
        ("https://0x7f.1/", "four decimal"),
        ("https://0X7F.0.0.1/", "four decimal"),
        ("https://0x7f000001/", "four decimal"),
        ("https://2130706433/", "four decimal"),
        ("https://0177.0.0.1/", "four decimal"),
        ("https://017700000001/", "four decimal"),
        ("https://127.0.0.01/", "four decimal"),
        ("https://127.0.0.256/", "four decimal"),
        ("https://0/", "four decimal"),
        ("https://0x/", "four decimal"),
        ("https://1.2.3.4.5/", "four decimal"),
        ("https://a.1/", "four decimal"),
        ("https://１２７.１/", "four decimal"),
        ("https://①②⑦.1/", "four decimal"),
        ("https://a.example/" + "x" * LONGEST, "longer"),
        ("https://a.example/" + "ü" * (LONGEST // 4), "longer"),
    ],
)
def test_a_bad_url_is_refused_with_a_sentence(url: str, words: str) -> None:
    """The merchant reads what to change; nothing is silently repaired that a resolver would read otherwise."""
    with pytest.raises(ValueError, match=words) as caught:
        check_url(url, allow_http=False)
    assert "secret" not in str(caught.value)


def test_plain_http_is_for_development() -> None:
    """It passes where it is switched on, with its own port, and https still does."""
    assert check_url("http://a.example:80/", allow_http=True) == Target("http://a.example/", "http", "a.example", 80)
    assert check_url("https://a.example/", allow_http=True).port == 443
    with pytest.raises(ValueError, match="https:// or http://"):
        check_url("ws://a.example/", allow_http=True)


@pytest.mark.parametrize(("length", "is_good"), [(LONGEST, True), (LONGEST + 1, False)])
def test_the_length_ends_exactly_where_it_says(length: int, is_good: bool) -> None:
    """The last character that fits does fit."""
    url = "https://a.example/".ljust(length, "x")
    if is_good:
        assert check_url(url, allow_http=False).url == url
    else:
        with pytest.raises(ValueError, match="longer"):
            check_url(url, allow_http=False)


@given(HOST, st.integers(1, 65_535), st.text(max_size=30), st.text(max_size=30))
def test_a_normal_form_is_its_own(host: str, port: int, path: str, query: str) -> None:
    """Whatever passes keeps its host and port, and passes again unchanged."""
    try:
        target = check_url(f"https://{host}:{port}/{path}?{query}", allow_http=False)
    except ValueError:
        return
    assert (target.host, target.port) == (host, port)
    assert check_url(target.url, allow_http=False) == target
    assert target.url.isascii()
    assert target.url.isprintable()


@given(st.text(max_size=40))
def test_any_text_is_a_target_or_a_value_error(text: str) -> None:
    """Nothing a merchant types comes out as another exception, and no host as more than plain ASCII."""
    for url in (text, f"https://{text}", f"https://{text}/", f"https://a.example/{text}"):
        try:
            target = check_url(url, allow_http=True)
        except ValueError:
            continue
        assert set(target.host) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_:")
        assert check_url(target.url, allow_http=True) == target


@given(st.integers(0, 2**32 - 1))
def test_one_ipv4_address_has_one_spelling(number: int) -> None:
    """The usual one passes as it is, the numbers that resolvers read as the same address do not."""
    address = str(IPv4Address(number))
    assert check_url(f"https://{address}/", allow_http=False).host == address
    for spelling in (str(number), hex(number), f"0{number:o}", f"[{address}]"):
        with pytest.raises(ValueError, match=r"URL"):
            check_url(f"https://{spelling}/", allow_http=False)


@given(st.integers(0, 2**128 - 1))
def test_one_ipv6_address_has_one_spelling(number: int) -> None:
    """Long, short, in capitals: all become the short one."""
    address = IPv6Address(number)
    for spelling in (address.exploded, address.compressed, address.exploded.upper()):
        assert check_url(f"https://[{spelling}]/", allow_http=False).host == str(address)
