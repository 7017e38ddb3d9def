import sqlite3
from contextlib import closing
from pathlib import Path

import aiohttp
import asyncpg

from testbed.clinician import Clinician
from testbed.postgres import Postgres
from testbed.synapse import Synapse


async def test_synapse_remembers_over_a_kill(tmp_path: Path) -> None:
    server = Synapse(tmp_path / "synapse")
    async with server:
        alice = await server.register_user("alice", "pw")
        assert await server.register_user("alice", "pw") == alice
        await server.kill()
        await server.start()
        async with Clinician(server.base_url, alice, "pw", tmp_path / "alice") as client:
            assert client.device_id
    with closing(sqlite3.connect(server.database_path)) as database:
        assert database.execute("SELECT name FROM users").fetchall() == [(alice,)]


async def test_synapse_serves_clients_only(synapse: Synapse) -> None:
    async with (
        aiohttp.ClientSession(synapse.base_url) as session,
        session.get("/_matrix/federation/v1/version") as federation,
        session.get("/_matrix/client/versions") as client,
    ):
        assert (federation.status, client.status) == (404, 200)


async def test_postgres_remembers_over_a_kill_what_was_committed() -> None:
    async with Postgres() as server:
        url = await server.create_database("nightbell")
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE page (id int)")
        await connection.close()
        await server.kill()
        await server.start()
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SELECT count(*) FROM page") == 0
        await connection.close()
    assert not server.directory.exists()
