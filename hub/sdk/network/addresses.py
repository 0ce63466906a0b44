"""Which addresses a host that somebody typed may lead to: looked up once, judged whole, and then connected to as found.

A name is judged by what it resolves to, so that no spelling (decimal, octal, IPv4 within IPv6) and no second answer of
the resolver gets past (OWASP ASVS 1.3.6). Where a machine of a cloud tells its secrets is never called, told or not.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator

from hub.sdk.errors import UnavailableError, UnexpectedError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

NEVER = tuple(
    ipaddress.ip_network(each)
    for each in (
        "0.0.0.0/8",  # this host, by another name
        "169.254.0.0/16",  # link-local: 169.254.169.254 is the metadata of most clouds
        "100.100.100.200/32",  # metadata of Alibaba Cloud
        "168.63.129.16/32",  # the host of an Azure machine, a public address by its number
        "192.0.0.192/32",  # metadata of Oracle Cloud
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "::/128",
        "fe80::/10",  # link-local
        "fec0::/10",  # site-local, given up
        "ff00::/8",  # multicast
        "fd00:ec2::/32",  # metadata of AWS
        "fd20:ce::/32",  # metadata of Google Cloud
    )
)
"""No setting opens these."""

TRANSLATED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
"""Prefixes under which a gateway turns IPv6 into IPv4 (RFC 6052, RFC 8215); the last 32 bits are the address."""
COMPATIBLE = ipaddress.ip_network("::/96")
"""An IPv4 address written as IPv6 by the form that RFC 4291 gave up, ::1 and :: apart."""


def resolve(host: str, port: int, *, private: bool) -> list[str]:
    """The addresses of a host, each of which may be called; the caller connects to one of these and to no name.

    UnexpectedError where any of them may not be: private ones unless `private`, and those of `NEVER` always.
    UnavailableError where the name leads nowhere.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnavailableError(f"{host} has no address", detail=type(error).__name__) from error
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    for each in addresses:
        if any(_never(form) for form in _forms(each)):
            raise UnexpectedError(f"{host} leads to an address that the hub never calls")
        if not private and not all(form.is_global for form in _forms(each)):
            raise UnexpectedError(f"{host} stands in a private network, which may only be called where private is set")
    return addresses


def _never(address: Address) -> bool:
    return any(address in each for each in NEVER if each.version == address.version)


def _forms(text: str) -> Iterator[Address]:
    """The address, and every IPv4 address that a router or a gateway would make of it."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    low = int(address) & 0xFFFF_FFFF
    if any(address in each for each in TRANSLATED) or (address in COMPATIBLE and low > 1):
        inner.append(ipaddress.IPv4Address(low))
    embedded = [each for each in inner if each is not None]
    # What stands for an IPv4 address is judged as that one: by its own number it counts as reserved.
    yield from embedded or [address]
