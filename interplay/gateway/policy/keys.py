"""Virtual keys: what callers carry instead of provider keys. The secret is shown once; only its digest is kept.

A secret has 256 random bits, so a plain SHA-256 is enough: there is nothing to guess, and nothing to slow down.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from interplay.core.types import BadInput, InterplayError
from interplay.gateway.ledger.store import Database
from interplay.gateway.ledger.writer import Writer
from interplay.gateway.policy.config import ConfigKey, KeySection
from interplay.gateway.scrub import remember

FRESH_S = 2.0  # a key is used without asking the database again
STALE_S = 30.0  # it is still used once more, while the database is asked behind its back
CACHE = 4096
_SHAPE = re.compile(r"^ipk_([0-9a-z]{12})_[0-9A-Za-z_-]{43}$")


@dataclass(frozen=True, slots=True)
class Key:
    """A virtual key without its secret. revoked: Unix seconds, or None."""

    id: str
    name: str
    digest: str
    created: float
    revoked: float | None
    section: KeySection

    def dead(self, now: float) -> str:
        """Why the key is no good any more, or ""."""
        if self.revoked is not None:
            return "was revoked"
        if self.section.expires is not None and now >= self.section.expires:
            return "has expired"
        return ""


def make_secret() -> tuple[str, str, str]:
    """(id, secret, digest) of a new key. The secret exists nowhere else."""
    key_id = "".join(secrets.choice("0123456789abcdefghijklmnopqrstuvwxyz") for _ in range(12))
    secret = f"ipk_{key_id}_{secrets.token_urlsafe(32)}"
    return key_id, secret, digest(secret)


def digest(secret: str) -> str:
    return "sha256:" + hashlib.sha256(secret.encode()).hexdigest()


def key_id(secret: str) -> str:
    """The public id inside a secret, or "" if it does not look like one of ours."""
    match = _SHAPE.match(secret)
    return match.group(1) if match else ""


class Keys:
    """Keys by id: those of the config file, then those of the database, cached for seconds."""

    def __init__(self, writer: Writer, config: Mapping[str, ConfigKey] | None = None) -> None:
        self._writer = writer
        self._cache: OrderedDict[str, tuple[float, Key | None]] = OrderedDict()
        self._refreshing: dict[str, asyncio.Task[Key | None]] = {}
        self.configured: dict[str, Key] = {}
        self.configure(config or {})

    def configure(self, config: Mapping[str, ConfigKey]) -> None:
        """Take the keys of a config file, by digest."""
        self.configured = {
            one.digest: Key(name, name, one.digest, 0.0, None, KeySection(**one.model_dump(exclude={"digest"})))
            for name, one in config.items()
        }

    async def find(self, secret: str) -> Key | None:
        """The key of a secret, or None if there is none. Says nothing about whether it is revoked or expired."""
        if len(secret) > 256:
            return None
        remember(secret)
        told = digest(secret)
        if key := self.configured.get(told):
            return key
        if not (wanted := key_id(secret)):
            return None
        key = await self.get(wanted)
        return key if key is not None and hmac.compare_digest(key.digest, told) else None

    async def get(self, wanted: str) -> Key | None:
        """The key with this id, as of at most STALE_S ago, and of at most FRESH_S ago if it is used all the time."""
        for key in self.configured.values():
            if key.id == wanted:
                return key
        at, key = self._cache.get(wanted, (0.0, None))
        age = time.monotonic() - at if at else STALE_S + 1
        if age <= FRESH_S:
            return key
        if wanted not in self._refreshing:
            task = asyncio.create_task(self._load(wanted))
            self._refreshing[wanted] = task
            task.add_done_callback(lambda done: (self._refreshing.pop(wanted, None), done.exception()))
        if age <= STALE_S:
            return key
        return await asyncio.shield(self._refreshing[wanted])

    async def all(self) -> list[Key]:
        """Every key of config and database, oldest first."""
        rows = await self._writer.ask(lambda database: database.query(f"{_SELECT} ORDER BY created"))
        return [*self.configured.values(), *(_key(row) for row in rows)]

    async def create(self, name: str, section: KeySection) -> tuple[Key, str]:
        """A new key and its secret, which is nowhere else. Raises BadInput if the name is taken."""
        if not re.fullmatch(r"[\w .@-]{1,64}", name):
            raise BadInput("a key's name has 1 to 64 letters, digits, spaces, dots and dashes")
        new_id, secret, told = make_secret()
        key = Key(new_id, name, told, time.time(), None, section)

        def insert(database: Database) -> bool:
            if database.query("SELECT 1 FROM virtual_keys WHERE name = ? AND revoked IS NULL", (name,)):
                return False
            database.execute(
                "INSERT INTO virtual_keys (id, name, digest, created, section) VALUES (?, ?, ?, ?, ?)",
                (key.id, name, told, key.created, section.model_dump_json(exclude_defaults=True)),
            )
            return True

        if not await self._writer.ask(insert):
            raise BadInput(f"there is a key named {name!r} already; revoke it first, or take another name")
        return key, secret

    async def revoke(self, name_or_id: str) -> Key:
        """End a key. Raises BadInput if there is none. Other processes notice within seconds."""
        now = time.time()

        def update(database: Database) -> list[tuple[object, ...]]:
            rows = database.query(f"{_SELECT} WHERE (id = ? OR name = ?) AND revoked IS NULL", (name_or_id, name_or_id))
            for row in rows:
                database.execute("UPDATE virtual_keys SET revoked = ? WHERE id = ?", (now, row[0]))
            return rows

        rows = await self._writer.ask(update)
        if not rows:
            raise BadInput(f"no key in use is called {name_or_id!r}; see: interplay gateway keys list")
        key = replace(_key(rows[0]), revoked=now)
        self._cache.pop(key.id, None)
        return key

    async def _load(self, wanted: str) -> Key | None:
        try:
            rows = await self._writer.ask(lambda database: database.query(f"{_SELECT} WHERE id = ?", (wanted,)))
        except InterplayError:
            return self._cache.get(wanted, (0.0, None))[1]  # the database is away: who was in stays in
        key = _key(rows[0]) if rows else None
        self._cache[wanted] = (time.monotonic(), key)
        self._cache.move_to_end(wanted)
        while len(self._cache) > CACHE:
            self._cache.popitem(last=False)
        return key


_SELECT = "SELECT id, name, digest, created, revoked, section FROM virtual_keys"


def _key(row: tuple[object, ...]) -> Key:
    key_id, name, told, created, revoked, section = row
    return Key(
        str(key_id),
        str(name),
        str(told),
        float(str(created)),
        None if revoked is None else float(str(revoked)),
        KeySection.model_validate(json.loads(str(section))),
    )
