"""What may be a merchant's webhook address, and its one normal form.

A first check of the text alone. What passes is still resolved and judged address by address at every connect, so a
name like `localhost` passes here.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote

import idna

LONGEST = 2_048  # characters, of what is given and of its normal form
LONGEST_HOST = 253  # RFC 1035 section 2.3.4, without the dot at the end
_PORTS = {"https": 443, "http": 80}

# letters, digits, hyphens (RFC 1123 section 2.1), and underscores, which real hosts have
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# a host whose last label is one of these is an IPv4 address to a resolver (url.spec.whatwg.org, "ends in a number")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ASCII = "".join(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, slots=True)
class Target:
    """A webhook address in normal form. `host` is a lower-case ASCII name or an IP address without brackets."""

    url: str
    scheme: str
    host: str
    port: int


def check_url(url: str, *, allow_http: bool) -> Target:
    """`url` taken apart and in normal form; that of a normal form is itself.

    Raises ValueError with a sentence that says what to do; it names host and port at most, as path and query may hold
    a secret. Hosts are normalised by IDNA 2008 with UTS 46. An IP address passes in its usual spelling only: `127.1`,
    `0x7f.1`, `2130706433` and `0177.0.0.1` all mean 127.0.0.1 to a resolver, and are refused.
    """
    scheme, netloc, path, query = _taken_apart(url)
    if scheme not in _PORTS or (scheme == "http" and not allow_http):
        raise ValueError("the URL must begin with https://" + (" or http://" if allow_http else ""))
    if "@" in netloc:
        raise ValueError("leave user and password out of the URL: a webhook is authenticated by its signature")
    host, port = _host_and_port(netloc, _PORTS[scheme])
    shown = f"[{host}]" if ":" in host else host
    if port != _PORTS[scheme]:
        shown += f":{port}"
    normal = f"{scheme}://{shown}" + quote((path or "/") + (query and f"?{query}"), safe=_ASCII)
    _check_length(normal)
    return Target(normal, scheme, host, port)


def _taken_apart(url: str) -> tuple[str, str, str, str]:
    _check_length(url)
    if " " in url or not url.isprintable():  # every other space is not printable, and neither are surrogates
        raise ValueError("the URL has a space or a control character: encode it as %XX, or take it out")
    if "\\" in url:
        raise ValueError("the URL has a backslash: use /")
    if "#" in url:
        raise ValueError("leave the fragment out of the URL: what follows a # is never sent")
    # as RFC 3986 appendix B does it; what urlsplit takes for a host differs between versions of Python
    before, _, query = url.partition("?")
    scheme, _, rest = before.partition(":")
    if not rest.startswith("//"):
        return scheme.lower(), "", rest, query
    netloc, slash, path = rest[2:].partition("/")
    return scheme.lower(), netloc, slash + path, query


def _check_length(url: str) -> None:
    if len(url) > LONGEST:
        raise ValueError(f"the URL is longer than {LONGEST:,} characters, international ones encoded: shorten it")


def _host_and_port(netloc: str, default: int) -> tuple[str, int]:
    if netloc.startswith("["):
        literal, bracket, rest = netloc[1:].partition("]")
        host = _ipv6(literal) if bracket and (not rest or rest.startswith(":")) else ""
    else:
        name, colon, port = netloc.partition(":")
        host, rest = _name(name), colon + port
    if not host:
        raise ValueError("the URL has no host: write https://host/path")
    if rest in ("", ":"):
        return host, default
    if not re.fullmatch(r":[0-9]{1,5}", rest) or not 1 <= (number := int(rest[1:])) <= 65_535:
        raise ValueError("the port of the URL must be a number from 1 to 65535")
    return host, number


def _ipv6(literal: str) -> str:
    if "%" in literal:
        raise ValueError("leave the scope (%...) out of the IPv6 address: it names an interface of one machine")
    try:
        return str(IPv6Address(literal))
    except ValueError as e:
        raise ValueError("what stands in brackets in the URL is no IPv6 address") from e


def _name(given: str) -> str:
    if not given:
        return ""
    if "%" in given:
        raise ValueError("the host of the URL must not be percent-encoded: write it plainly")
    host = given.lower()
    if not host.isascii() or any(label.startswith("xn--") for label in host.split(".")):
        try:
            host = idna.encode(host, uts46=True).decode("ascii").lower()
        except UnicodeError as e:  # idna's own errors are UnicodeErrors
            raise ValueError("the host of the URL is no valid international domain name (IDNA 2008)") from e
    if host.endswith("."):
        raise ValueError("leave out the dot at the end of the host")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(host)
    if len(host) > LONGEST_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("the host of the URL is no valid domain name: labels of up to 63 letters, digits and hyphens")
    return host


def _ipv4(host: str) -> str:
    try:
        return str(IPv4Address(host))
    except ValueError as e:
        raise ValueError("write the IPv4 address of the URL as four decimal numbers, like 192.0.2.1") from e
