"""Pictures in requests: none is fetched from inside the house, none is larger than allowed.

An image URL is a request that somebody else makes us, or a provider, send. So addresses must be public ones; where
the gateway fetches a picture itself, it connects to the very address that it has checked, and follows no redirect.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from interplay.gateway.faults import Fault, from_exception
from interplay.gateway.wires.base import Json

TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
FETCH_S = 15.0
MOST = 100  # pictures in one request
_MAGIC = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))


def slots(body: Any) -> Iterator[tuple[Json, str, str]]:
    """Every place in a request of any of the three protocols where an image URL stands: (object, key, URL)."""
    stack = [body.get("messages"), body.get("input")] if isinstance(body, dict) else []
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack.extend(item for item in value if isinstance(item, dict | list) and not _only_words(item))
        elif isinstance(value, dict):
            image = value.get("image_url")
            if isinstance(image, dict) and isinstance(image.get("url"), str):
                yield image, "url", image["url"]
            elif isinstance(image, str):
                yield value, "image_url", image
            source = value.get("source")
            if isinstance(source, dict) and source.get("type") == "url" and isinstance(source.get("url"), str):
                yield source, "url", source["url"]
            elif isinstance(source, dict) and source.get("type") == "base64":
                yield source, "data", f"data:{source.get('media_type')};base64,{source.get('data')}"
            stack.extend(inner for inner in (value.get("content"), value.get("output")) if isinstance(inner, list))


def _only_words(item: Json | list[Any]) -> bool:
    """Most messages of most requests: nothing to look for in them."""
    return (
        isinstance(item, dict)
        and isinstance(item.get("content"), str)
        and not ("image_url" in item or "source" in item or "output" in item)
    )


def has_images(body: Any) -> bool:
    return next(slots(body), None) is not None


class Pictures:
    """Checks and fetches. allow: "host" or "host:port" entries that may be private. most_bytes: of one picture."""

    def __init__(self, allow: tuple[str, ...] = (), most_bytes: int = 20 * 2**20) -> None:
        self._allow = frozenset(entry.lower() for entry in allow)
        self._most = most_bytes

    async def check(self, body: Json) -> int:
        """Looks at every picture of a request; returns how many. Raises Fault("bad_request")."""
        count = 0
        for _, _, url in slots(body):
            count += 1
            if count > MOST:
                raise Fault("bad_request", f"more than {MOST} images in one request")
            if url.startswith("data:"):
                self._check_data(url)
            else:
                await self._addresses(url)
        return count

    async def inline(self, body: Json) -> None:
        """Replace every image URL in a (copied) request by the picture itself, for providers that cannot fetch."""
        for holder, key, url in slots(body):
            if url.startswith("data:"):
                continue
            kind, data = await self.fetch(url)
            encoded = base64.b64encode(data).decode()
            if holder.get("type") == "url":
                holder.clear()
                holder.update(type="base64", media_type=kind, data=encoded)
            else:
                holder[key] = f"data:{kind};base64,{encoded}"

    async def fetch(self, url: str) -> tuple[str, bytes]:
        """The type and the bytes of a picture. Raises Fault("bad_request") if it may not or cannot be had."""
        addresses = await self._addresses(url)
        connector = aiohttp.TCPConnector(resolver=_Pinned(addresses), use_dns_cache=False, force_close=True)
        timeout = aiohttp.ClientTimeout(total=FETCH_S)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as s,
                s.get(url, allow_redirects=False, headers={"accept": ", ".join(TYPES)}) as response,
            ):
                if response.status != 200:
                    raise Fault("bad_request", f"image URL answered {response.status}")
                data = b""
                async for chunk in response.content.iter_any():
                    data += chunk
                    if len(data) > self._most:
                        raise Fault("bad_request", f"an image of more than {self._most} bytes")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Fault("bad_request", f"image URL: {from_exception(error).words}") from None
        return _kind(data), data

    def _check_data(self, url: str) -> None:
        head, mark, data = url.partition(",")
        if not mark or ";base64" not in head or not head.startswith("data:image/"):
            raise Fault("bad_request", "an image must be a base64 data URL or an https URL")
        if len(data) * 3 // 4 > self._most:
            raise Fault("bad_request", f"an image of more than {self._most} bytes")

    async def _addresses(self, url: str) -> list[str]:
        """The checked addresses of an image URL's host."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise Fault("bad_request", "an image URL that is none") from None
        if any(char.isspace() or ord(char) < 32 for char in url) or "\\" in url:
            raise Fault("bad_request", "an image URL that is none")
        allowed = host in self._allow or f"{host}:{port}" in self._allow
        if parts.scheme not in ("https", "http") or (parts.scheme == "http" and not allowed):
            raise Fault("bad_request", "an image must be a base64 data URL or an https URL")
        if not host or parts.username is not None or parts.password is not None:
            raise Fault("bad_request", "an image URL with user and password")
        try:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(5):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError):
            if allowed or not _literal(host):
                raise Fault("bad_request", "the host of an image URL has no address") from None
            raise Fault("bad_request", "an image URL that does not lead to a public address") from None
        addresses = [str(entry[4][0]) for entry in found]
        if not allowed and not all(public(address) for address in addresses):
            raise Fault("bad_request", "an image URL that does not lead to a public address")
        return addresses


def public(address: str) -> bool:
    """Whether an IP address is one of the open internet; false for private, loopback, link-local, mapped ones, ..."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return public(str(inner))
    return ip.is_global and not ip.is_multicast


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _kind(data: bytes) -> str:
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    raise Fault("bad_request", "an image URL that is no PNG, JPEG, GIF or WebP")


class _Pinned(AbstractResolver):
    """Resolves to the addresses that were checked, whatever the name means by now."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_UNSPEC) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host=address, port=port, flags=socket.AI_NUMERICHOST, proto=0,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
            )
            for address in self._addresses
        ]  # fmt: skip

    async def close(self) -> None:
        return None
