"""Pictures in requests: none is fetched from inside the house, none is larger than allowed.

An image URL is a request that somebody else makes us, or a provider, send; so is that of a film, a recording or a
document. Addresses must be public ones. Where the gateway fetches a picture itself, it connects to the very address
that it has checked, and follows no redirect. It fetches nothing but pictures, and a provider inside the house, which
reaches what the caller cannot, is sent no URLs at all.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from interplay.gateway.faults import Fault, from_exception
from interplay.gateway.wires.base import Json

TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
FETCH_S = 15.0
MOST = 100  # media in one request
MEDIA = {"image_url": "image", "video_url": "video", "audio_url": "audio", "file_url": "file"}
"""Parts that carry an address, as a string or as {"url": ...}, and what it leads to."""
_A = {"image": "an image", "video": "a video", "audio": "an audio", "file": "a file"}
_HOUSE = (".local", ".localhost", ".localdomain", ".internal", ".lan", ".home.arpa", ".intranet", ".corp")
_MAGIC = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a request where a medium stands. kind: image, video, audio or file. url: maybe a data URL."""

    holder: Json
    key: str
    url: str
    kind: str = "image"


def slots(body: Any) -> Iterator[Slot]:
    """Every medium in a request of any of the three protocols."""
    stack = [body.get("messages"), body.get("input")] if isinstance(body, dict) else []
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack.extend(item for item in value if isinstance(item, dict | list) and not _only_words(item))
        elif isinstance(value, dict):
            for key, kind in MEDIA.items():
                medium = value.get(key)
                if isinstance(medium, dict) and isinstance(medium.get("url"), str):
                    yield Slot(medium, "url", medium["url"], kind)
                elif isinstance(medium, str):
                    yield Slot(value, key, medium, kind)
            file = inner if isinstance(inner := value.get("file"), dict) else value
            data = file.get("file_data")
            if isinstance(data, str) and "://" in data[:12]:  # some providers take an address there, too
                yield Slot(file, "file_data", data, "file")
            if isinstance(source := value.get("source"), dict):
                kind = "file" if value.get("type") == "document" else "image"
                if isinstance(source.get("url"), str):
                    yield Slot(source, "url", source["url"], kind)
                elif source.get("type") == "base64":
                    url = f"data:{source.get('media_type')};base64,{source.get('data')}"
                    yield Slot(source, "data", url, kind)
                stack.append(source)  # a document may be made of parts
            parts = (value.get("content"), value.get("output"))
            stack.extend(part for part in parts if isinstance(part, dict | list))


def _only_words(item: Json | list[Any]) -> bool:
    """Most messages of most requests: nothing to look for in them."""
    return (
        isinstance(item, dict)
        and isinstance(item.get("content"), str)
        and not any(key in item for key in ("source", "output", "file", "file_data", *MEDIA))
    )


def kinds_of(body: Any) -> tuple[str, ...]:
    """The kinds of media in a request, each once."""
    return tuple(dict.fromkeys(slot.kind for slot in slots(body)))


class Pictures:
    """Checks and fetches. allow: "host" or "host:port" entries that may be private. most_bytes: of one picture."""

    def __init__(self, allow: tuple[str, ...] = (), most_bytes: int = 20 * 2**20) -> None:
        self._allow = frozenset(entry.lower() for entry in allow)
        self._most = most_bytes

    async def check(self, body: Json) -> int:
        """Looks at every medium of a request; returns how many. Raises Fault("bad_request")."""
        count = 0
        for slot in slots(body):
            count += 1
            if count > MOST:
                raise Fault("bad_request", f"more than {MOST} images and other media in one request")
            if slot.url.startswith("data:"):
                self._check_data(slot.url, slot.kind)
            else:
                await self._addresses(slot.url, slot.kind)
        return count

    async def inline(self, body: Json) -> None:
        """Replace every image URL in a (copied) request by the picture itself, for providers that must not fetch.

        Raises Fault("modality") for the URL of anything else.
        """
        for slot in list(slots(body)):
            holder, key = slot.holder, slot.key
            if slot.url.startswith("data:"):
                continue
            if slot.kind != "image":
                raise Fault("modality", f"the URL of a {slot.kind} for a provider inside the house; send its bytes")
            kind, data = await self.fetch(slot.url)
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

    def _check_data(self, url: str, kind: str) -> None:
        head, mark, data = url.partition(",")
        if not mark or ";base64" not in head or (kind == "image" and not head.startswith("data:image/")):
            raise Fault("bad_request", f"{_A[kind]} must be a base64 data URL or an https URL")
        if len(data) * 3 // 4 > self._most:
            raise Fault("bad_request", f"{_A[kind]} of more than {self._most} bytes")

    async def _addresses(self, url: str, kind: str = "image") -> list[str]:
        """The checked addresses of the host of a medium's URL."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise Fault("bad_request", f"{_A[kind]} URL that is none") from None
        if any(char.isspace() or ord(char) < 32 for char in url) or "\\" in url:
            raise Fault("bad_request", f"{_A[kind]} URL that is none")
        allowed = host in self._allow or f"{host}:{port}" in self._allow
        if parts.scheme not in ("https", "http") or (parts.scheme == "http" and not allowed):
            raise Fault("bad_request", f"{_A[kind]} must be a base64 data URL or an https URL")
        if not host or parts.username is not None or parts.password is not None:
            raise Fault("bad_request", f"{_A[kind]} URL with user and password")
        try:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(5):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError):
            if allowed or not _literal(host):
                raise Fault("bad_request", f"the host of {_A[kind]} URL has no address") from None
            raise Fault("bad_request", f"{_A[kind]} URL that does not lead to a public address") from None
        addresses = [str(entry[4][0]) for entry in found]
        if not allowed and not all(public(address) for address in addresses):
            raise Fault("bad_request", f"{_A[kind]} URL that does not lead to a public address")
        return addresses


def in_house(url: str) -> bool:
    """Whether a provider's address says that it is inside: plain http, a bare name, a private suffix or address."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.scheme == "http" or host.endswith(_HOUSE) or ("." not in host and ":" not in host):
        return True
    return _literal(host) and not public(host)


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
