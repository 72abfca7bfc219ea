"""The store of agents on SQLite and on PostgreSQL: identities, versions, relationships, migrations."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")

from interplay.agents import database
from interplay.agents.desk import AgentDesk, look_up
from interplay.agents.memory import Memory
from interplay.agents.spec import AgentSpec
from interplay.agents.store import AgentStore
from interplay.agents.transfer import export_agent, import_agent
from interplay.core.types import BadInput, InterplayError
from tests.stores import KINDS, ada, new_url, seed, talk


@pytest.fixture(params=KINDS)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    async with new_url(request.param, tmp_path) as url:
        yield url


async def test_identity_is_stable_over_versions_names_and_restarts(url: str) -> None:
    async with await AgentStore.open(url) as store:
        first = await store.create(ada())
        second = await store.update("ada", ada(proactivity=0.9))
        renamed = await store.update("ada", ada("eve", proactivity=0.9), expect=2)
        assert (await store.update("eve", renamed.spec)).version == 3  # nothing changed
        with pytest.raises(BadInput, match="version 3, not 2"):
            await store.update("eve", ada("eve"), expect=2)
        with pytest.raises(BadInput, match="no agent 'ada'"):
            await store.get("ada")
    async with await AgentStore.open(url) as store:
        now = await store.get("eve")
        assert {first.id, second.id, renamed.id, now.id} == {first.id}
        assert [v.version for v in await store.versions("eve")] == [1, 2, 3]
        assert (await store.get("eve", 1)).spec == first.spec and now.spec.proactivity == 0.9
        with pytest.raises(BadInput, match="no version 9"):
            await store.get("eve", 9)
        with pytest.raises(BadInput, match="already"):
            await store.create(ada("eve"))


async def test_two_at_once_get_two_versions_and_one_relationship(url: str) -> None:
    async with await AgentStore.open(url) as store:
        await seed(store, "ada")
        await asyncio.gather(*(store.update("ada", ada(description=f"n{n}")) for n in range(6)))
        assert (await store.get("ada")).version == 7
        met = await asyncio.gather(*(store.relationship("ada", "me") for _ in range(6)))
        assert len({one.id for one in met}) == 1
        assert (await store.relationship("ada", "you")).id != met[0].id
        assert await store.users("ada") == ["me", "you"]
        for wrong in ("", "x" * 129, "a\nb"):
            with pytest.raises(BadInput):
                await store.relationship("ada", wrong)


async def test_export_and_import_carry_identity_and_memory(url: str, tmp_path: Path) -> None:
    async with await AgentStore.open(url) as store:
        agent = await store.create(ada())
        memory = Memory(store, await store.relationship("ada", "me"))
        await memory.close_session(talk(("user", "my name is anna"), ("user", "remind me tomorrow to buy milk")))
        text = await export_agent(store, "ada", user="me")
        with pytest.raises(BadInput, match="--replace"):
            await import_agent(store, text)
    async with await AgentStore.open(str(tmp_path / "other.db")) as other:
        moved = await import_agent(other, text, user="anna")
        assert (moved.id, moved.spec) == (agent.id, agent.spec)
        there = Memory(other, await other.relationship("ada", "anna"))
        assert {item.text for item in await there.list()} == {"name is anna", "buy milk"}
        assert [hit.text for hit in await there.search("milk")] == ["remind me tomorrow to buy milk"]
        again = await import_agent(other, text.replace("proactivity: 0.5", "proactivity: 0.25"), replace=True)
        assert (again.id, again.version, again.spec.proactivity) == (agent.id, 2, 0.25)
        with pytest.raises(BadInput, match="memories already"):
            await import_agent(other, text, replace=True, user="anna")
        assert (await import_agent(other, "name: bo\n")).name == "bo"
        for wrong, says in (
            (text.replace("proactivity: 0.5", "proactivity: 5"), "line"),
            (text.replace(f"id: {agent.id}", "id: ../../x"), "hexadecimal"),
            (text.replace("interplay: 1", "interplay: 99"), "must be 1"),
            (text.replace("who: user", "who: root", 1), "speaker"),
        ):
            assert wrong != text
            with pytest.raises(BadInput, match=says):
                await import_agent(other, wrong, replace=True, user="new")


async def test_an_import_that_is_refused_changes_nothing(url: str) -> None:
    async with await AgentStore.open(url) as store:
        await seed(store, "ada")
        await Memory(store, await store.relationship("ada", "bo")).remember("user", "has a dog")
        file = await export_agent(store, "ada", user="bo")
        file = file.replace("be kind and brief", "be brief")
        with pytest.raises(BadInput, match="have memories already"):
            await import_agent(store, file, replace=True, user="bo")
        assert (await store.get("ada")).version == 1, "the spec in the file was not taken either"
        assert (await import_agent(store, file, replace=True, user="cy")).version == 2


async def test_deleting_an_agent_ends_everything(url: str) -> None:
    async with await AgentStore.open(url) as store:
        await seed(store, "ada", "bo")
        for user in ("me", "you"):
            memory = Memory(store, await store.relationship("ada", user))
            await memory.close_session(talk(("user", "my name is anna")))
        assert await store.delete("ada") == 2
        assert [agent.name for agent in await store.list()] == ["bo"]
        await seed(store, "ada")
        assert await Memory(store, await store.relationship("ada", "me")).list() == []


async def test_migrations_make_the_tables_that_the_code_uses(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from interplay.agents.tables import metadata

    opened = await database.Database.open(url)
    try:
        async with opened.engine.connect() as connection:
            differences = await connection.run_sync(
                lambda sync: compare_metadata(
                    MigrationContext.configure(sync, opts={"include_object": _ours, "compare_type": True}), metadata
                )
            )
        # The column and index of PostgreSQL's search exist there alone, by the migration.
        assert [d for d in differences if "search" not in repr(d)] == []
    finally:
        await opened.close()


def _ours(thing: object, name: str, kind: str, *_: object) -> bool:
    return not (kind == "table" and name.startswith("lines_fts"))


async def test_a_store_can_be_opened_by_many_at_once_when_it_is_new(url: str) -> None:
    stores = await asyncio.gather(*(AgentStore.open(url) for _ in range(4)))
    await stores[0].create(ada())
    assert [[a.name for a in await store.list()] for store in stores] == [["ada"]] * 4
    for store in stores:
        await store.close()


async def test_a_store_of_the_future_is_left_alone(url: str) -> None:
    opened = await database.Database.open(url)
    async with opened.write() as connection:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    await opened.close()
    with pytest.raises(BadInput, match="newer interplay"):
        await AgentStore.open(url)


async def test_a_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "agents.db"
    async with await AgentStore.open(str(path)) as store:
        await seed(store, "ada")
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://root:hunter2@h/x", "SQLite or PostgreSQL"),
        ("sqlite://", "needs a file"),
        ("postgresql://me:hunter2@127.0.0.1:9/none", "store"),
        ("postgresql://me:hunter2@[::1/none", "not a URL"),
        ("FOLDER", "directory"),
        ("FILE", "not a store"),
    ],
)
async def test_wrong_addresses_are_said_in_one_line_without_the_password(tmp_path: Path, url: str, says: str) -> None:
    (tmp_path / "file").write_text("something else entirely")
    url = url.replace("FOLDER", str(tmp_path)).replace("FILE", str(tmp_path / "file"))
    with pytest.raises(InterplayError) as caught:
        await AgentStore.open(url)
    assert says in str(caught.value) and "\n" not in str(caught.value) and "hunter2" not in str(caught.value)


async def test_looking_for_somebody_makes_no_store(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    with pytest.raises(BadInput, match="no agent 'ada'"):
        await AgentDesk("ada", url=str(path)).agent()
    assert not path.exists()
    async with await AgentStore.open(str(path)) as store:
        await store.create(AgentSpec("phoney", surface=("phone",)))
    desk = AgentDesk("phoney", url=str(path))
    with pytest.raises(BadInput, match="is for phone, not for browser"):
        await desk.agent("browser")
    await desk.close()
    found = await asyncio.to_thread(look_up, "phoney", "phone", url=str(path))
    assert found.name == "phoney" and os.path.exists(path)
