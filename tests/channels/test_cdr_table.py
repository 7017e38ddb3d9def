"""Call records in tables: FreePBX's on a real MariaDB, others on a real PostgreSQL and on SQLite."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from bridge.channels import cdr_table
from bridge.channels.cdr_table import NEEDED, RecordsTable
from bridge.model.errors import SourceError
from bridge.model.event import EventKind
from bridge.model.phi import Phi
from testbed.mariadb import MariaDb
from testbed.postgres import Postgres
from tests.channels.test_cdr import DAY, MASTER, recount
from tests.channels.wire import ASTERISK

# As FreePBX makes it, with the columns of its newer versions.
FREEPBX = """CREATE TABLE asteriskcdrdb.cdr (
    calldate datetime NOT NULL DEFAULT '0000-00-00 00:00:00', clid varchar(80) NOT NULL DEFAULT '',
    src varchar(80) NOT NULL DEFAULT '', dst varchar(80) NOT NULL DEFAULT '', dcontext varchar(80) NOT NULL DEFAULT '',
    channel varchar(80) NOT NULL DEFAULT '', dstchannel varchar(80) NOT NULL DEFAULT '',
    lastapp varchar(80) NOT NULL DEFAULT '', lastdata varchar(80) NOT NULL DEFAULT '',
    duration int(11) NOT NULL DEFAULT 0, billsec int(11) NOT NULL DEFAULT 0,
    disposition varchar(45) NOT NULL DEFAULT '', amaflags int(11) NOT NULL DEFAULT 0,
    accountcode varchar(20) NOT NULL DEFAULT '', uniqueid varchar(32) NOT NULL DEFAULT '',
    userfield varchar(255) NOT NULL DEFAULT '', did varchar(50) NOT NULL DEFAULT '',
    recordingfile varchar(255) NOT NULL DEFAULT '', linkedid varchar(32) NOT NULL DEFAULT '',
    peeraccount varchar(80) NOT NULL DEFAULT '', sequence int(11) NOT NULL DEFAULT 0,
    KEY IDX_UNIQUEID (uniqueid), KEY calldate (calldate)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci"""
BRIDGE = (
    "CREATE USER nightbell@127.0.0.1 IDENTIFIED BY 'p@ss:word'",
    "GRANT SELECT ON asteriskcdrdb.cdr TO nightbell@127.0.0.1",
)
NIGHTBELL = "nightbell:p%40ss%3Aword"
EARLY = datetime(2026, 11, 23, tzinfo=UTC)


def records() -> list[dict[str, str]]:
    """The captured records, as columns of a table."""
    names = (
        *("accountcode", "src", "dst", "dcontext", "clid", "channel", "dstchannel", "lastapp", "lastdata"),
        *(
            "start",
            "answer",
            "end",
            "duration",
            "billsec",
            "disposition",
            "amaflags",
            "uniqueid",
            "userfield",
        ),
    )
    with MASTER.open(newline="") as file:
        return [dict(zip(names, record, strict=True)) for record in csv.reader(file)]


def inserts(table: str, begin: str) -> list[str]:
    columns = (begin, *NEEDED)
    rows = [{**record, begin: record["start"]} for record in records()]
    literal = [", ".join("'" + row[name].replace("'", "''") + "'" for name in columns) for row in rows]
    return [f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})" for values in literal]  # noqa: S608


def section(tmp_path: Path, url: str, more: str = "") -> str:
    (tmp_path / "url").write_text(url)
    return f"{ASTERISK}cdr: {{database: 'file:{tmp_path / 'url'}', contexts: [inbound]{more}}}\n"


@pytest.fixture(scope="module")
async def mariadb(lasting_certificate: Path) -> AsyncIterator[MariaDb]:
    cert, key = lasting_certificate / "mail.pem", lasting_certificate / "key.pem"
    async with MariaDb(f"--ssl-cert={cert}", f"--ssl-key={key}") as server:
        await server.run(
            "CREATE DATABASE asteriskcdrdb", FREEPBX, *inserts("asteriskcdrdb.cdr", "calldate"), *BRIDGE
        )
        yield server


async def test_freepbx_is_asked_by_a_user_who_may_only_read(mariadb: MariaDb, tmp_path: Path) -> None:
    asked = recount(section(tmp_path, mariadb.url("asteriskcdrdb", NIGHTBELL)))
    events = await asked(*DAY)
    assert [(event.key, event.kind, event.called) for event in events] == [
        (Phi("pbx1-1795492857.3"), EventKind.ABANDONED_CALL, Phi("602")),
        (Phi("pbx1-1795492864.6"), EventKind.VOICEMAIL, Phi("601")),
    ]
    await mariadb.run(
        "UPDATE asteriskcdrdb.cdr SET did = '+15554567890', linkedid = uniqueid WHERE uniqueid LIKE '%857.3'"
    )
    assert (await asked(*DAY))[0].called == Phi("+15554567890")
    assert await asked(DAY[1], DAY[1] + timedelta(hours=1)) == []


async def test_what_freepbx_refuses_says_what_to_do(mariadb: MariaDb, tmp_path: Path) -> None:
    for url, more, words in (
        (mariadb.url("asteriskcdrdb", "nightbell:wrong"), "", "check user, password"),
        (mariadb.url("asteriskcdrdb", NIGHTBELL), ", table: cel", "no table cel|check user, password"),
        (mariadb.url("asterisk", NIGHTBELL), "", "check user, password|no database of this name"),
        (mariadb.url("nothing"), "", "no database of this name"),
        (mariadb.url("asteriskcdrdb"), ", table: nothing", "no table nothing"),
        (mariadb.url("mysql"), ", table: db", "no column uniqueid, .*start or calldate"),
    ):
        with pytest.raises(SourceError, match=words) as trouble:
            await recount(section(tmp_path, url, more))(*DAY)
        assert "p@ss" not in str(trouble.value)


async def test_a_connection_to_mariadb_is_encrypted_where_it_should_be(
    mariadb: MariaDb, lasting_certificate: Path, tmp_path: Path
) -> None:
    await mariadb.run(
        "CREATE USER careful@127.0.0.1 REQUIRE SSL", "GRANT SELECT ON asteriskcdrdb.cdr TO careful@127.0.0.1"
    )
    url = mariadb.url("asteriskcdrdb", "careful")
    trusted = f", tls: true, certificate: {lasting_certificate / 'mail.pem'}"
    assert len(await recount(section(tmp_path, url, trusted))(*DAY)) == 2
    for more in ("", ", tls: true", f", tls: true, certificate: {tmp_path / 'none.pem'}"):
        with pytest.raises(SourceError, match=r"refuses the user|check its address|no certificate"):
            await recount(section(tmp_path, url, more))(*DAY)


@pytest.mark.slow
async def test_a_mariadb_that_does_not_encrypt_is_not_asked_where_it_should(tmp_path: Path) -> None:
    async with MariaDb("--skip-ssl") as plain:
        with pytest.raises(SourceError, match="does not encrypt"):
            await recount(section(tmp_path, plain.url("mysql"), ", tls: true"))(*DAY)


async def test_asking_mariadb_writes_nothing_and_takes_no_longer_than_it_may(
    mariadb: MariaDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mariadb.run(
        "CREATE TABLE asteriskcdrdb.written (n int) ENGINE=MyISAM",
        "SET GLOBAL log_bin_trust_function_creators = 1",
        "CREATE FUNCTION asteriskcdrdb.writes() RETURNS int BEGIN INSERT INTO asteriskcdrdb.written VALUES (1);"
        " RETURN 1; END",
        "CREATE VIEW asteriskcdrdb.writing AS SELECT * FROM asteriskcdrdb.cdr WHERE asteriskcdrdb.writes() = 1",
        "CREATE VIEW asteriskcdrdb.slow AS SELECT * FROM asteriskcdrdb.cdr WHERE SLEEP(1) = 0",
    )
    with pytest.raises(SourceError, match="can't be asked for"):
        await RecordsTable(mariadb.url("asteriskcdrdb"), "writing").rows(EARLY)
    assert await mariadb.ask("SELECT count(*) FROM asteriskcdrdb.written") == [(0,)]
    monkeypatch.setattr(cdr_table, "ASK_SECONDS", 1)
    with pytest.raises(SourceError, match=r"does not answer within 1 s|can't be asked for"):
        await RecordsTable(mariadb.url("asteriskcdrdb"), "slow").rows(EARLY)


@pytest.fixture(scope="module", params=["timestamp", "timestamp with time zone"])
async def postgresql(postgres: Postgres, request: pytest.FixtureRequest) -> str:
    """A database with the records, as cdr_pgsql and cdr_adaptive_odbc write them."""
    url = await postgres.create_database(uuid4().hex)
    connection = await asyncpg.connect(url)
    texts = ", ".join(f"{name} varchar(80)" for name in NEEDED if name != "duration")
    await connection.execute(f"CREATE TABLE cdr (calldate {request.param}, {texts}, duration bigint)")
    await connection.execute(";".join(inserts("cdr", "calldate")))
    await connection.close()
    return url


async def test_postgresql_is_asked_as_the_file_is(postgresql: str, tmp_path: Path) -> None:
    asked = recount(section(tmp_path, postgresql))
    assert len(await asked(*DAY)) == 2
    assert await asked(DAY[0] - timedelta(days=9), DAY[0]) == []


@pytest.mark.parametrize("postgresql", ["timestamp"], indirect=True)
async def test_what_postgresql_refuses_says_what_to_do(postgresql: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(postgresql)
    role = f"reader{uuid4().hex}"
    await connection.execute(
        f"CREATE ROLE {role} LOGIN; CREATE TABLE narrow (uniqueid text, calldate timestamp)"
    )
    for url, more, words in (
        (postgresql.replace("postgres@", f"{role}@"), "", "check user, password, and that it may SELECT"),
        (postgresql.replace("postgres@", "nobody@"), "", "check user, password"),
        (postgresql + "x", "", "no database of this name"),
        (postgresql, ", table: nothing", "no table nothing"),
        (postgresql, ", table: narrow", "no column channel, dcontext"),
        (postgresql, ", tls: true", "check its address"),
        (postgresql.replace("127.0.0.1", "127.0.0.2"), "", "check its address"),
        ("oracle://there/cdr", "", "should be postgresql://"),
        ("no address", "", "should be postgresql://"),
    ):
        with pytest.raises(SourceError, match=words):
            await recount(section(tmp_path, url, more))(*DAY)
    await connection.execute(f"GRANT SELECT ON cdr TO {role}")
    assert len(await recount(section(tmp_path, postgresql.replace("postgres@", f"{role}@")))(*DAY)) == 2
    await connection.close()


@pytest.mark.parametrize("postgresql", ["timestamp"], indirect=True)
async def test_asking_postgresql_writes_nothing_and_takes_no_longer_than_it_may(
    postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await asyncpg.connect(postgresql)
    await connection.execute(
        "CREATE TABLE written (n int);"
        " CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'INSERT INTO written VALUES (1) RETURNING 1';"
        " CREATE VIEW writing AS SELECT * FROM cdr WHERE writes() = 1;"
        " CREATE VIEW slow AS SELECT cdr.* FROM cdr, pg_sleep(5)"
    )
    with pytest.raises(SourceError, match="can't be asked for"):
        await RecordsTable(postgresql, "writing").rows(EARLY)
    assert await connection.fetchval("SELECT count(*) FROM written") == 0
    monkeypatch.setattr(cdr_table, "ASK_SECONDS", 1)
    with pytest.raises(SourceError, match=r"does not answer within 1 s|can't be asked for"):
        await RecordsTable(postgresql, "slow").rows(EARLY)
    await connection.close()


@pytest.mark.parametrize("begin", ["start", "calldate"])
async def test_sqlite_is_asked_as_the_file_is(tmp_path: Path, begin: str) -> None:
    path = tmp_path / "cdr.db"
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE records ({begin}, {', '.join(NEEDED)})")
        for statement in inserts("records", begin):
            database.execute(statement)
    database.close()
    assert len(await recount(section(tmp_path, f"sqlite:///{path}", ", table: records"))(*DAY)) == 2
    with pytest.raises(SourceError, match="no table nothing"):
        await recount(section(tmp_path, f"sqlite:///{path}", ", table: nothing"))(*DAY)


async def test_more_records_than_a_day_can_have_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cdr.db"
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE cdr (calldate, {', '.join(NEEDED)})")
        for statement in inserts("cdr", "calldate"):
            database.execute(statement)
    database.close()
    monkeypatch.setattr(cdr_table, "MAX_ROWS", 10)
    with pytest.raises(SourceError, match="more than 10 records"):
        await recount(section(tmp_path, f"sqlite:///{path}"))(*DAY)
