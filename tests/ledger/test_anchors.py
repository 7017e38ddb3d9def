"""Signatures of the ledger that are kept where nobody who can change its database can change them."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import delete, insert, update
from typer.testing import CliRunner

from bridge import ledger as chain
from bridge.anchors import FileAnchor, TimestampAnchor
from bridge.cli.ledger import app
from bridge.engine.notarise import Notary
from bridge.engine.room_anchor import RoomAnchor
from bridge.ledger import Action, Record
from bridge.model.doors import OPERATIONS, Anchor, Destination
from bridge.model.errors import AnchorError
from bridge.model.ids import RoomId
from bridge.store import ledger, outbox, tables
from bridge.store.database import Database
from bridge.store.keys import KeyRing
from bridge.vault import Vault
from testbed.process import free_port

NOON = datetime(2026, 12, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
COMPLIANCE = Destination(room="compliance")
ROOM = RoomId("!compliance:x")

OPENSSL = """
[req]
distinguished_name = name
[name]
[tsa]
serial = serial
signer_cert = tsa.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
[signing]
extendedKeyUsage = critical,timeStamping
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
"""


@dataclass
class Authority:
    """A time stamping authority: openssl's own, behind HTTP."""

    directory: Path
    url: str = ""
    answers: bool = True
    tokens: int = field(default=0)

    def make(self) -> None:
        (self.directory / "openssl.cnf").write_text(OPENSSL)
        (self.directory / "serial").write_text("01\n")
        request = ("req", "-config", "openssl.cnf", "-newkey", "rsa:2048", "-nodes")
        root = ("-x509", "-days", "30", "-extensions", "authority", "-subj", "/CN=Root")
        self.openssl(*request, *root, "-keyout", "ca.key", "-out", "ca.pem")
        self.openssl(*request, "-subj", "/CN=Stamps", "-keyout", "tsa.key", "-out", "tsa.csr")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30")
        signing = ("-extfile", "openssl.cnf", "-extensions", "signing", "-in", "tsa.csr", "-out", "tsa.pem")
        self.openssl("x509", "-req", *signed, *signing)

    def openssl(self, *words: str) -> None:
        subprocess.run(("/usr/bin/openssl", *words), cwd=self.directory, check=True, capture_output=True)  # noqa: S603

    async def stamp(self, request: web.Request) -> web.Response:
        if not self.answers:
            return web.Response(status=503)
        self.tokens += 1
        (self.directory / "query.tsq").write_bytes(await request.read())
        reply = ("ts", "-reply", "-config", "openssl.cnf", "-section", "tsa", "-queryfile", "query.tsq")
        await asyncio.to_thread(self.openssl, *reply, "-out", "answer.tsr")
        answer = (self.directory / "answer.tsr").read_bytes()
        return web.Response(body=answer, content_type="application/timestamp-reply")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    authority.make()
    return authority


@pytest.fixture
async def authority(made: Authority) -> AsyncIterator[Authority]:
    server, port = web.Application(), free_port()
    server.router.add_post("/", made.stamp)
    runner = web.AppRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    made.url, made.answers = f"http://127.0.0.1:{port}/", True
    yield made
    await runner.cleanup()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'nightbell.db'}")
    await database.migrate()
    yield database
    await database.close()


@dataclass
class Clock:
    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Bench:
    """A notary at work on a ledger, and what it says of itself."""

    database: Database
    keys: KeyRing
    clock: Clock = field(default_factory=Clock)
    beats: dict[str, bool] = field(default_factory=dict)
    told: int = 0

    def notary(self, *anchors: Anchor) -> Notary:
        return Notary(
            self.database,
            self.keys,
            every=timedelta(hours=1),
            anchors=anchors,
            posts_to=COMPLIANCE,
            now=self.clock,
            beat=lambda part, error: self.beats.update({part: error is None}),
            wake=self.tell,
        )

    def tell(self) -> None:
        self.told += 1

    async def record(self, count: int = 3) -> None:
        async with self.database.write() as connection:
            await ledger.append(connection, [Record(Action.RECEIVED)] * count, self.clock.now)

    async def signed(self) -> list[int]:
        """The records that have a signature."""
        async with self.database.read() as connection:
            return [each.head.seq for each in await ledger.checkpoints(connection)]

    async def lines(self) -> list[str]:
        """An export."""
        async with self.database.read() as connection:
            links = [
                link async for link in ledger.links(connection, until=(await ledger.head(connection)).seq)
            ]
            signed, receipts = await ledger.checkpoints(connection), await ledger.receipts(connection)
        lines = list(chain.lines_of(links, signed))
        for checkpoint in signed:
            if checkpoint.head.seq in receipts:
                place = lines.index(chain.checkpoint_line(checkpoint)) + 1
                lines.insert(place, chain.receipt_line(checkpoint, receipts[checkpoint.head.seq]))
        return lines


@pytest.fixture
async def bench(database: Database) -> Bench:
    keys = KeyRing(Vault(bytes(32)))
    await keys.claim(database, NOON)
    return Bench(database, keys)


async def test_a_signature_is_added_to_the_file_once(bench: Bench, tmp_path: Path) -> None:
    await bench.record()
    for _ in range(2):
        await bench.notary(FileAnchor(tmp_path / "anchors.jsonl")).step()
    anchors = (tmp_path / "anchors.jsonl").read_text().splitlines()
    assert [json.loads(line)["checkpoint"]["seq"] for line in anchors] == [3]
    key = bench.keys.signer().public_key()
    assert chain.verify(await bench.lines(), key, anchors=anchors).problem is None


async def test_a_file_that_can_t_be_written_is_told_of_once_and_made_up_for(
    bench: Bench, tmp_path: Path
) -> None:
    share = tmp_path / "share"
    notary = bench.notary(FileAnchor(share / "anchors.jsonl"))
    await bench.record()
    for _ in range(3):
        await notary.step()
        bench.clock.now += timedelta(minutes=2)
    assert (bench.beats, bench.told) == ({"ledger": True, "anchor file": False}, 1)
    share.mkdir()
    await notary.step()
    assert (bench.beats, bench.told) == ({"ledger": True, "anchor file": True}, 2)
    assert '"seq":3' in (share / "anchors.jsonl").read_text()


async def test_an_authority_stamps_each_signature_and_an_export_proves_when(
    bench: Bench, authority: Authority
) -> None:
    certificates = authority.directory / "ca.pem"
    await bench.record()
    await bench.notary(TimestampAnchor(authority.url, certificates)).step()
    lines = await bench.lines()
    export = authority.directory / "ledger.jsonl"
    export.write_text("".join(f"{line}\n" for line in lines))
    key = chain.public_key_text(bench.keys.signer())
    words = ["verify", str(export), "--public-key", key, "--timestamp-certificates", str(certificates)]
    shown = CliRunner().invoke(app, words)
    assert (shown.exit_code, "record 3 and all before it stood at" in shown.output) == (0, True)


async def test_a_stamp_of_another_signature_does_not_hold(bench: Bench, authority: Authority) -> None:
    anchor = TimestampAnchor(authority.url, authority.directory / "ca.pem")
    other = await anchor.keep("something else")
    await bench.record()
    await bench.notary(anchor).step()
    async with bench.database.read() as connection:
        signed = await ledger.last_checkpoint(connection)
    assert signed is not None
    lines = [*(await bench.lines())[:-1], chain.receipt_line(signed, other)]
    export = authority.directory / "ledger.jsonl"
    export.write_text("".join(f"{line}\n" for line in lines))
    words = ["verify", str(export), "--public-key", chain.public_key_text(bench.keys.signer())]
    shown = CliRunner().invoke(app, [*words, "--timestamp-certificates", str(anchor.certificates)])
    assert shown.exit_code == 1
    assert "the time stamp of record 3 does not hold" in shown.output


async def test_an_authority_that_is_away_is_told_of_and_asked_again(
    bench: Bench, authority: Authority
) -> None:
    authority.answers = False
    notary = bench.notary(TimestampAnchor(authority.url, authority.directory / "ca.pem"))
    await bench.record()
    await notary.step()
    assert (bench.beats, bench.told) == ({"ledger": True, "anchor timestamp": False}, 1)
    authority.answers = True
    before = authority.tokens
    await notary.step()
    assert authority.tokens == before  # it is left alone for a while
    bench.clock.now += timedelta(minutes=2)
    await notary.step()
    assert (bench.beats, authority.tokens) == ({"ledger": True, "anchor timestamp": True}, before + 1)


async def test_another_authority_s_stamp_is_not_taken(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path)
    stranger.make()
    with pytest.raises(AnchorError, match="no time stamp by the authority"):
        await TimestampAnchor(authority.url, stranger.directory / "ca.pem").keep("a line")


async def test_an_authority_that_answers_nonsense_is_refused(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("no certificate")
    with pytest.raises(AnchorError, match="holds no certificates"):
        await TimestampAnchor(authority.url, tmp_path / "none.pem").keep("a line")
    with pytest.raises(AnchorError, match="answers 404"):
        await TimestampAnchor(f"{authority.url}nowhere", authority.directory / "ca.pem").keep("a line")


async def test_a_signature_in_a_room_shows_a_ledger_that_was_cut_short(bench: Bench) -> None:
    await bench.record()
    anchor = RoomAnchor(bench.database, bench.keys, "compliance", bench.clock, bench.tell)
    for _ in range(2):
        await bench.notary(anchor).step()
    async with bench.database.read() as connection:
        assert await outbox.depth(connection) == 1
        said = await outbox.head(connection, bench.keys, COMPLIANCE)
    assert said is not None
    assert said.content is not None
    content = json.loads(said.content.reveal())
    line = content["body"].splitlines()[-1]
    lines, key = await bench.lines(), bench.keys.signer().public_key()
    assert chain.verify(lines, key, anchors=[line]).problem is None
    problem = chain.verify(lines[:2], key, anchors=[line]).problem
    assert problem == "the end is missing: an anchor vouches for record 3, the last is 2"


async def test_an_idle_bridge_does_not_sign_its_own_posts_for_ever(bench: Bench) -> None:
    async with bench.database.write() as connection:
        made = insert(tables.room).values(destination=str(COMPLIANCE), room_id=ROOM, created_at=NOON)
        await connection.execute(made)
    notary = bench.notary(RoomAnchor(bench.database, bench.keys, "compliance", bench.clock, bench.tell))
    key = Record(Action.KEY_SHARED, objects={"room": ROOM, "session": "s"})
    post = Record(Action.SENT, objects={"room": ROOM, "session": "s", "purpose": "notice"})

    async def posts_in_three_hours(*meanwhile: Record) -> int:
        before = bench.told
        for _ in range(3):
            async with bench.database.write() as connection:
                await ledger.append(connection, meanwhile, bench.clock.now)
            await notary.step()
            bench.clock.now += HOUR
        return bench.told - before

    await bench.record()
    assert await posts_in_three_hours(key, post) == 1
    assert await posts_in_three_hours(post) == 0
    elsewhere = Record(Action.SENT, objects={"room": "!ward:x", "session": "s", "purpose": "notice"})
    assert await posts_in_three_hours(post, elsewhere) == 3
    assert await posts_in_three_hours(Record(Action.LOGGED_IN)) == 3


async def test_what_was_changed_is_not_signed_and_operations_are_told_once(bench: Bench) -> None:
    notary = bench.notary()
    await bench.record()
    await notary.step()
    bench.clock.now += HOUR
    await bench.record()
    async with bench.database.write() as connection:
        forged = update(tables.ledger).where(tables.ledger.c.seq == 5).values(actor="@mallory")
        await connection.execute(forged)
    for _ in range(2):
        await notary.step()
        bench.clock.now += HOUR
    assert (await bench.signed(), bench.beats, bench.told) == ([3], {"ledger": False}, 1)
    async with bench.database.read() as connection:
        said = await outbox.head(connection, bench.keys, OPERATIONS)
    assert said is not None
    assert said.content is not None
    assert "record 5 is missing or was changed" in said.content.reveal().decode()


@pytest.mark.parametrize("resigned", [True, False])
async def test_a_chain_that_was_written_anew_is_not_signed_again(bench: Bench, *, resigned: bool) -> None:
    notary = bench.notary()
    await bench.record()
    await notary.step()
    bench.clock.now += HOUR
    forged = chain.chain(chain.Head(), [Record(Action.CLOSED, "@mallory")] * 4, NOON)
    by_another = chain.sign(chain.Head(4, forged[-1].hash), NOON, Ed25519PrivateKey.generate())
    async with bench.database.write() as connection:
        for table in (tables.ledger, tables.ledger_checkpoint):
            await connection.execute(delete(table))
        await ledger.append(connection, [link.record for link in forged], NOON)
        if resigned:
            row = {"seq": 4, "hash": forged[-1].hash, "at": NOON, "signature": by_another.signature}
            await connection.execute(insert(tables.ledger_checkpoint).values(row))
            await ledger.append(connection, [Record(Action.CLOSED)], NOON)
    await notary.step()
    assert (await bench.signed(), bench.beats) == ([4] if resigned else [], {"ledger": False})


async def test_what_was_pruned_is_not_taken_for_changed(bench: Bench) -> None:
    notary = bench.notary()
    await bench.record()
    await notary.step()
    bench.clock.now += HOUR
    async with bench.database.write() as connection:
        assert await ledger.prune(connection, bench.clock.now, bench.clock.now)
    await notary.step()
    bench.clock.now += HOUR
    await bench.record()
    await notary.step()
    assert (await bench.signed(), bench.beats) == ([3, 4, 7], {"ledger": True})


def test_a_time_stamp_that_follows_no_signature_is_found() -> None:
    key = Ed25519PrivateKey.generate()
    (link,) = chain.chain(chain.Head(), [Record(Action.RECEIVED)], NOON)
    signed = chain.sign(chain.Head(link.seq, link.hash), NOON, key)
    lines = [chain.receipt_line(signed, b"x"), chain.link_line(link), chain.checkpoint_line(signed)]
    problem = chain.verify(lines, key.public_key()).problem
    assert problem == "line 1: a time stamp of record 1 does not follow its checkpoint"
