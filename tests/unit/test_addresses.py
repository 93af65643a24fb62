"""Which addresses a stranger may make us call: only the public internet's, however they are spelt."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.rules.addresses import Network, denied, is_within, unwrapped

#: Every network of the IANA special-purpose and multicast registries that is not for us to call.
NETWORKS = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32"),
    *("::/128", "::1/128", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64"),
    *("2001::/23", "2001::/32", "2001:10::/28", "2001:20::/28", "2001:db8::/32", "2002::/16", "3fff::/20"),
    *("5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
)
#: The last public address before a network that is denied, and the first one after it.
PUBLIC_EDGES = (
    *("1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0"),
    *("169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.3.0"),
    *("192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0"),
    *("198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255"),
    *("2000::", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff"),
    *("2001:db9::", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::", "3ffe:ffff::", "3fff:1000::"),
)
V4 = st.integers(0, 2**32 - 1).map(IPv4Address)
V6 = st.integers(0, 2**128 - 1).map(IPv6Address)


def mapped(address: IPv4Address) -> IPv6Address:
    return IPv6Address((0xFFFF << 32) + int(address))


@pytest.mark.parametrize("network", NETWORKS)
def test_every_special_network_is_denied_up_to_its_edges(network: str) -> None:
    """The first, the second, the middle and the last address of a network are refused, in words that name them."""
    block = ip_network(network)
    for number in {0, min(1, block.num_addresses - 1), block.num_addresses // 2, block.num_addresses - 1}:
        reason = denied(block[number])
        assert reason is not None
        assert reason.startswith(f"{block[number]} is ")


@pytest.mark.parametrize("address", PUBLIC_EDGES)
def test_what_lies_next_to_a_special_network_may_be_called(address: str) -> None:
    """No public address is lost to a network that is drawn too wide."""
    assert denied(ip_address(address)) is None


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001::200e", "::ffff:8.8.8.8"],
)
def test_public_addresses_may_be_called(address: str) -> None:
    """The guard is not so strict that nothing is delivered."""
    assert denied(ip_address(address)) is None


@pytest.mark.parametrize("hidden", ["169.254.169.254", "127.0.0.1", "10.0.0.1", "8.8.8.8"])
@pytest.mark.parametrize(
    ("prefix", "shift"),
    [
        ("::", 0),
        ("::ffff:0:0:0", 0),
        ("64:ff9b::", 0),
        ("64:ff9b:1::", 0),
        ("2002::", 80),
        ("2001::", 64),  # Teredo's server
    ],
    ids=["compatible", "translated", "NAT64", "local NAT64", "6to4", "Teredo"],
)
def test_an_address_that_hides_another_is_denied(prefix: str, shift: int, hidden: str) -> None:
    """Whatever it hides: a tunnel or a translator at our side would call it."""
    assert denied(IPv6Address(int(IPv6Address(prefix)) + (int(IPv4Address(hidden)) << shift)))


@pytest.mark.parametrize("network", ["2002:7f00:1::/48", "64:ff9b::a9fe:a9fe/128", "::7f00:1/128"])
def test_a_hiding_address_is_let_through_only_by_its_own_network(network: str) -> None:
    """That the operator allows 127.0.0.0/8 says nothing about NAT64."""
    address = ip_network(network)[0]
    assert denied(address, [IPv4Network("0.0.0.0/0")])
    assert denied(address, [ip_network(network)]) is None


@given(V4)
def test_a_mapped_address_is_judged_by_its_ipv4_address(address: IPv4Address) -> None:
    """A system calls the IPv4 address when given its mapped spelling, so both get the same answer."""
    assert (denied(mapped(address)) is None) == (denied(address) is None)
    assert unwrapped(mapped(address)) == address
    assert unwrapped(unwrapped(mapped(address))) == address


@given(V4 | V6)
def test_what_python_takes_for_private_is_denied(address: IPv4Address | IPv6Address) -> None:
    """The list of ours is never laxer than the standard library's, where it is stricter."""
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        assert denied(address)


@given(V6)
def test_nothing_outside_global_unicast_is_called(address: IPv6Address) -> None:
    """What nobody has been given is not called, so a network that IANA adds there needs no change."""
    if denied(address) is None and address.ipv4_mapped is None:
        assert address in IPv6Network("2000::/3")


@given(V4 | V6)
def test_an_allowed_network_lets_its_addresses_through(address: IPv4Address | IPv6Address) -> None:
    """Allowed means callable, and one network more never denies anything."""
    assert denied(address, [ip_network(address)]) is None
    if denied(address) is None:
        assert denied(address, [ip_network("10.0.0.0/8")]) is None


@pytest.mark.parametrize(
    ("address", "allowed", "is_allowed"),
    [
        ("10.1.0.0", "10.1.0.0/16", True),
        ("10.1.255.255", "10.1.0.0/16", True),
        ("10.0.255.255", "10.1.0.0/16", False),
        ("10.2.0.0", "10.1.0.0/16", False),
        ("::ffff:10.1.2.3", "10.1.0.0/16", True),
        ("::ffff:10.2.2.3", "10.1.0.0/16", False),
        ("fd00::1", "fd00::/8", True),
        ("fd00::1", "10.0.0.0/8", False),
        ("::1", "127.0.0.0/8", False),
    ],
)
def test_allowed_networks_end_at_their_edges(address: str, allowed: str, is_allowed: bool) -> None:
    """An exception for one network is none for its neighbours."""
    networks: list[Network] = [ip_network(allowed)]
    assert (denied(ip_address(address), networks) is None) == is_allowed
    assert is_within(ip_address(address), networks) == is_allowed


@pytest.mark.parametrize("address", ["fe80::1%eth0", "2606:4700::1%1", "::1%lo"])
def test_an_address_with_a_scope_is_always_denied(address: str) -> None:
    """It names an interface of our own machine, whatever is allowed."""
    assert denied(ip_address(address), [IPv6Network("::/0")])
    assert not is_within(ip_address(address), [IPv6Network("::/0")])


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("10.0.0.1", "10.0.0.1 is private (10.0.0.0/8)"),
        ("169.254.169.254", "169.254.169.254 is link-local, where cloud metadata is served (169.254.0.0/16)"),
        ("::ffff:7f00:1", "which is loopback (127.0.0.0/8)"),
        ("2002:a9fe:a9fe::", "2002:a9fe:a9fe:: is 6to4, which hides an IPv4 address (2002::/16)"),
        ("4000::1", "4000::1 is not global unicast (2000::/3)"),
    ],
)
def test_the_reason_can_be_shown_to_a_merchant(address: str, reason: str) -> None:
    """Words that say which address it is, what it is, and by which network."""
    assert (denied(ip_address(address)) or "").endswith(reason)
