"""Which IP addresses a server of ours may call on a stranger's behalf: those of the public internet, and no others.

Source: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and its updates), the IPv4 and IPv6
multicast registries (RFC 5771, RFC 4291), and RFC 4291 section 2.4: only 2000::/3 is handed out as global unicast.
Python's own `is_global` is not asked: it takes multicast and NAT64 for global, and differs between its versions.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# of two that hold an address, the first is named
_DENIED_V4 = (
    ("0.0.0.0/8", "this host on this network"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by a carrier's NAT"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local, where cloud metadata is served"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "for IETF protocols"),
    ("192.0.2.0/24", "for documentation"),
    ("192.88.99.0/24", "a 6to4 relay"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "for benchmarks"),
    ("198.51.100.0/24", "for documentation"),
    ("203.0.113.0/24", "for documentation"),
    ("224.0.0.0/4", "multicast"),
    ("255.255.255.255/32", "broadcast"),
    ("240.0.0.0/4", "reserved"),
)
_DENIED_V6 = (
    ("::/128", "the unspecified address"),
    ("::1/128", "loopback"),
    ("::/96", "IPv4-compatible, which hides an IPv4 address"),
    ("::ffff:0:0:0/96", "IPv4-translated, which hides an IPv4 address"),
    ("64:ff9b::/96", "NAT64, which hides an IPv4 address"),
    ("64:ff9b:1::/48", "local NAT64, which hides an IPv4 address"),
    ("100::/64", "discarded"),
    ("100:0:0:1::/64", "a dummy"),
    ("2001::/32", "Teredo, which hides an IPv4 address"),
    ("2001:10::/28", "ORCHID"),
    ("2001:20::/28", "ORCHIDv2"),
    ("2001::/23", "for IETF protocols"),
    ("2001:db8::/32", "for documentation"),
    ("2002::/16", "6to4, which hides an IPv4 address"),
    ("3fff::/20", "for documentation"),
    ("5f00::/16", "for segment routing"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
)
_V4 = tuple((IPv4Network(network), what) for network, what in _DENIED_V4)
_V6 = tuple((IPv6Network(network), what) for network, what in _DENIED_V6)
_GLOBAL_UNICAST = ip_network("2000::/3")


def unwrapped(address: Address) -> Address:
    """The IPv4 address where an IPv4-mapped one (::ffff:0:0/96) is given: it is what would be called; else `address`.

    Twice changes nothing more.
    """
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def is_within(address: Address, networks: Sequence[Network]) -> bool:
    """Whether one of `networks` holds it, or the IPv4 address it is a mapped spelling of; none holds a scoped one."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    return any(address in network or unwrapped(address) in network for network in networks)


def denied(address: Address, allowed: Sequence[Network] = ()) -> str | None:
    """Why `address` must not be called, as "10.0.0.1 is private (10.0.0.0/8)"; None where it may be.

    `allowed` are networks of the operator's own that may be called though they are not public. An IPv4-mapped address
    is judged by its IPv4 address; other forms that hide one are refused whatever they hide, and so is an address with
    a scope (`fe80::1%eth0`), which names one of our own interfaces.
    """
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return f"{address} is bound to a network interface of ours"
    if is_within(address, allowed):
        return None
    meant = unwrapped(address)
    is_spelt = "is" if meant == address else f"is {meant}, which is"
    ranges: tuple[tuple[Network, str], ...] = _V4 if isinstance(meant, IPv4Address) else _V6
    for network, what in ranges:
        if meant in network:
            return f"{address} {is_spelt} {what} ({network})"
    if isinstance(meant, IPv6Address) and meant not in _GLOBAL_UNICAST:
        return f"{address} is not global unicast ({_GLOBAL_UNICAST})"
    return None
