"""Calls of an Asterisk, over the wire: a small manager interface replays captured streams."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from bridge.channels import ami, asterisk
from bridge.channels.ami import Message
from bridge.config.problems import ConfigError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi
from bridge.model.priority import Priority
from tests.channels.pbx import Pbx, pbx, reply
from tests.channels.signers import AMI_SECRET, utc_now
from tests.channels.wire import ASTERISK, RememberingInbox, opened

CAPTURES = Path(__file__).parent / "captures" / "asterisk"
ABANDON, VOICEMAIL, SHUTDOWN = (
    (CAPTURES / f"{name}.ami.txt").read_bytes() for name in ("queue_abandon", "voicemail_left", "shutdown")
)


@asynccontextmanager
async def bridged(
    made: Pbx, inbox: RememberingInbox, section: str = ASTERISK, **around: Any
) -> AsyncIterator[list[str | None]]:
    """The bridge, connected; yields what operations are told."""
    told: list[str | None] = []

    async def tell(_: ChannelId, trouble: str | None) -> None:
        told.append(trouble)

    channel = opened(section.replace("PORT", str(made.port)), inbox, tell=tell, **around)
    assert channel.serve is not None
    serving = asyncio.ensure_future(channel.serve())
    try:
        yield told
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asterisk, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(asterisk, "LONGEST_PAUSE", 0.05)


@pytest.mark.parametrize("login", ["md5", "plain"])
async def test_an_abandoned_call_comes_in_over_the_wire(inbox: RememberingInbox, login: str) -> None:
    async with pbx(Pbx()) as made, bridged(made, inbox, f"{ASTERISK}login: {login}\n") as told:
        await made.connected.wait()
        # Whether it says when each event was, or not (`timestampevents` in manager.conf).
        said = [line for line in ABANDON.splitlines(keepends=True) if not line.startswith(b"Timestamp:")]
        made.writers[0].write(ABANDON if login == "md5" else b"".join(said))
        await until(lambda: bool(inbox.events))
    assert told == [None]
    assert inbox.events == [
        IntakeEvent(
            channel=ChannelId("door"),
            key=Phi("pbx1-1795492857.3"),
            kind=EventKind.ABANDONED_CALL,
            body=Phi(""),
            caller=Phi("+15550001111"),
            caller_name=Phi("Maria Lopez"),
            called=Phi("602"),
            queue=Phi("nobody"),
            occurred_at=datetime(2026, 11, 24, 4, 0, 57, tzinfo=UTC),
            attributes={"waited_seconds": Phi("3")},
        )
    ]


async def test_voicemails_come_in_over_the_wire(inbox: RememberingInbox) -> None:
    async with pbx(Pbx()) as made, bridged(made, inbox):
        await made.connected.wait()
        made.writers[0].write(VOICEMAIL)
        await until(lambda: len(inbox.events) == 2)
    assert [(event.caller, event.caller_name, event.recipient) for event in inbox.events] == [
        (Phi("+15550001111"), Phi("Maria Lopez"), Phi("100@default")),
        (Phi("+34911222333"), Phi("José Ñandú"), Phi("101@default")),
    ]


async def test_all_captured_streams_in_small_fragments_are_exactly_their_pages(
    inbox: RememberingInbox,
) -> None:
    streams = b"".join(
        path.read_bytes()
        for path in sorted(CAPTURES.glob("*.ami.txt"))
        if not path.name.startswith("shutdown")
    )
    async with pbx(Pbx()) as made, bridged(made, inbox):
        await made.connected.wait()
        at, sizes = 0, cycle((1, 7, 63, 500, 4000))
        while at < len(streams):
            size = next(sizes)
            made.writers[0].write(streams[at : at + size])
            await made.writers[0].drain()
            await asyncio.sleep(0)
            at += size
        made.writers[0].write(ABANDON.replace(b"pbx1", b"last"))
        await until(lambda: bool(inbox.events) and inbox.events[-1].key.reveal().startswith("last"))
    kinds = [event.kind for event in inbox.events[:-1]]
    assert kinds == [EventKind.ABANDONED_CALL, EventKind.VOICEMAIL, EventKind.VOICEMAIL]


async def test_a_replayed_stream_is_the_same_calls(inbox: RememberingInbox) -> None:
    async with pbx(Pbx()) as made, bridged(made, inbox):
        await made.connected.wait()
        made.writers[0].write(VOICEMAIL + ABANDON + VOICEMAIL + ABANDON)
        await until(lambda: len(inbox.events) == 3)
        await asyncio.sleep(0.05)
    assert len(inbox.events) == 3


async def test_calls_that_begin_in_another_context_are_no_pages(inbox: RememberingInbox) -> None:
    async with pbx(Pbx()) as made, bridged(made, inbox, f"{ASTERISK}contexts: [outside]\n"):
        await made.connected.wait()
        made.writers[0].write(ABANDON + ABANDON.replace(b"inbound", b"outside").replace(b"pbx1", b"pbx2"))
        await until(lambda: bool(inbox.events))
    assert [event.key for event in inbox.events] == [Phi("pbx2-1795492857.3")]


async def test_the_dialplan_can_make_a_page_of_a_call(inbox: RememberingInbox) -> None:
    call = [
        b"Event: Newchannel\r\nUniqueid: 1\r\nLinkedid: 1\r\nCallerIDNum: 5550001111\r\nContext: inbound",
        (
            b"Event: UserEvent\r\nUserEvent: Nightbell\r\nUniqueid: 1\r\nLinkedid: 1\r\n"
            b"Priority: STAT\r\nRecipient: cardiology\r\nBody: pressed 1"
        ),
        b"Event: Hangup\r\nUniqueid: 1\r\nLinkedid: 1",
    ]
    async with pbx(Pbx()) as made, bridged(made, inbox):
        await made.connected.wait()
        made.writers[0].write(b"".join(each + b"\r\n\r\n" for each in call))
        await until(lambda: bool(inbox.events))
    [event] = inbox.events
    assert (event.priority, event.recipient, event.body) == (
        Priority.STAT,
        Phi("cardiology"),
        Phi("pressed 1"),
    )
    assert event.caller == Phi("+15550001111")


async def test_a_call_that_ended_while_the_connection_was_away_is_missed(inbox: RememberingInbox) -> None:
    waiting = ABANDON[: ABANDON.index(b"Event: HangupRequest")]
    async with pbx(Pbx()) as made, bridged(made, inbox) as told:
        await made.connected.wait()
        made.writers[0].write(waiting)
        await asyncio.sleep(0.05)
        await made.hang_up()
        await until(lambda: bool(inbox.events))
    assert [event.kind for event in inbox.events] == [EventKind.MISSED_CALL]
    assert told == [None, "Asterisk closed the connection", None]


async def test_a_call_that_still_waits_after_the_connection_was_away_goes_on(inbox: RememberingInbox) -> None:
    cut = ABANDON.index(b"Event: HangupRequest")
    there = b"".join(
        f"Event: CoreShowChannel\r\nUniqueid: pbx1-{channel}\r\nLinkedid: pbx1-1795492857.3\r\n\r\n".encode()
        for channel in ("1795492857.3", "1795492858.4", "1795492858.5")
    )
    answers = {"CoreShowChannels": there + b"Event: CoreShowChannelsComplete\r\n\r\n"}
    async with pbx(Pbx()) as made, bridged(made, inbox):
        await made.connected.wait()
        made.writers[0].write(ABANDON[:cut])
        await asyncio.sleep(0.05)
        made.answers = answers
        await made.hang_up()
        await made.connected.wait()
        made.writers[0].write(ABANDON[cut:])
        await until(lambda: bool(inbox.events))
    assert [event.kind for event in inbox.events] == [EventKind.ABANDONED_CALL]


async def test_a_caller_who_began_to_wait_while_the_connection_was_away_is_found(
    inbox: RememberingInbox,
) -> None:
    # By now in the queue's context, and rung for through a channel of an agent's.
    agent = (
        "Event: CoreShowChannel\r\nCallerIDNum: 201\r\nUniqueid: 8\r\nLinkedid: 7\r\nContext: agents\r\n\r\n"
    )
    caller = "CallerIDNum: 5550001111\r\nUniqueid: 7\r\nContext: queues\r\n"
    there = (
        f"{agent}Event: CoreShowChannel\r\n{caller}Linkedid: 7\r\n\r\nEvent: CoreShowChannelsComplete\r\n\r\n"
    )
    waits = f"Event: QueueEntry\r\nQueue: heart\r\n{caller}\r\nEvent: QueueStatusComplete\r\n\r\n"
    answers = {"CoreShowChannels": there.encode(), "QueueStatus": waits.encode()}
    async with pbx(Pbx(answers)) as made, bridged(made, inbox, f"{ASTERISK}contexts: [outside]\n"):
        await made.connected.wait()
        for channel in (8, 7):
            made.writers[0].write(f"Event: Hangup\r\nUniqueid: {channel}\r\nLinkedid: 7\r\n\r\n".encode())
        await until(lambda: bool(inbox.events))
    [event] = inbox.events
    assert (event.kind, event.queue, event.caller) == (
        EventKind.MISSED_CALL,
        Phi("heart"),
        Phi("+15550001111"),
    )


async def test_an_asterisk_without_queues_is_no_trouble(inbox: RememberingInbox) -> None:
    unknown = reply("Error", "QueueStatus", "Message: Invalid/unknown command: QueueStatus.\r\n")
    async with pbx(Pbx({"QueueStatus": unknown})) as made, bridged(made, inbox) as told:
        await made.connected.wait()
        made.writers[0].write(ABANDON)
        await until(lambda: bool(inbox.events))
    assert told == [None]


async def test_an_asterisk_that_lets_the_bridge_in_and_drops_it_is_asked_ever_less_often(
    inbox: RememberingInbox,
) -> None:
    class Dropping(Pbx):
        def answer(self, action: Message) -> bytes:
            if action["action"] == "CoreShowChannels":
                self.writers.pop().close()
                return b""
            return super().answer(action)

    async with pbx(Dropping()) as made, bridged(made, inbox) as told:
        await until(lambda: made.logins >= 4)
        await asyncio.sleep(0.2)
    assert made.logins <= 4 + 0.2 / asterisk.LONGEST_PAUSE + 1
    # Which is one trouble, and not two words to operations each time.
    assert told == [None, "Asterisk closed the connection", None, "Asterisk closed the connection"]


async def test_an_asterisk_that_drops_the_bridge_no_more_is_well_once_a_connection_lasts(
    inbox: RememberingInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pbx(Pbx()) as made, bridged(made, inbox) as told:
        for _ in range(asterisk.FLAPPING + 1):
            await made.connected.wait()
            await made.hang_up()
        await made.connected.wait()
        assert told[-1] == "Asterisk closed the connection"
        monkeypatch.setattr(asterisk, "STEADY_SECONDS", 0.0)
        made.writers[0].write(ABANDON)
        await until(lambda: told[-1] is None)
    assert told.count(None) == asterisk.FLAPPING + 1


async def test_a_certificate_that_is_not_there_is_named(inbox: RememberingInbox, tmp_path: Path) -> None:
    section = f"{ASTERISK}tls: true\ncertificate: {tmp_path / 'asterisk.pem'}\n"
    async with pbx(Pbx()) as made, bridged(made, inbox, section) as told:
        await until(lambda: bool(told))
    assert told == [f"{tmp_path}/asterisk.pem is no certificate that can be used (No such file or directory)"]


async def test_messages_left_while_the_connection_was_away_are_found(inbox: RememberingInbox) -> None:
    def counted(count: int) -> dict[str, bytes]:
        entry = f"Event: VoicemailUserEntry\r\nVMContext: default\r\nVoiceMailbox: 100\r\nNewMessageCount: {count}"
        return {"VoicemailUsersList": f"{entry}\r\n\r\n".encode()}

    async with pbx(Pbx(counted(1))) as made, bridged(made, inbox):
        await made.connected.wait()
        await asyncio.sleep(0.05)
        assert not inbox.events
        made.answers = counted(3)
        await made.hang_up()
        await until(lambda: bool(inbox.events))
    [event] = inbox.events
    assert (event.recipient, event.attributes["messages"]) == (Phi("100@default"), Phi("2"))


@pytest.mark.parametrize("by", ["nobody", "a colleague"])
async def test_a_message_that_no_call_has_left_is_a_page(inbox: RememberingInbox, by: str) -> None:
    """It was forwarded from another mailbox, say. Listening to one makes them fewer, which is none."""
    entry = (
        b"Event: VoicemailUserEntry\r\nVMContext: default\r\nVoiceMailbox: 100\r\nNewMessageCount: 4\r\n\r\n"
    )
    desk = "Uniqueid: 1\r\nLinkedid: 1\r\n" if by == "a colleague" else ""
    listens = f"Event: Newexten\r\n{desk}Application: VoiceMailMain\r\n\r\n"
    section = f"{ASTERISK}contexts: [from-trunk]\n"
    async with pbx(Pbx({"VoicemailUsersList": entry})) as made, bridged(made, inbox, section):
        await made.connected.wait()
        made.writers[0].write(f"Event: Newchannel\r\n{desk}Context: desks\r\n\r\n{listens}".encode())
        for new in (1, 2):
            waits = f"Event: MessageWaiting\r\n{desk}Mailbox: 100@default\r\nWaiting: 1\r\nNew: {new}\r\n\r\n"
            made.writers[0].write(waits.encode())
        await until(lambda: bool(inbox.events))
    [event] = inbox.events
    assert (event.recipient, event.attributes["messages"]) == (Phi("100@default"), Phi("1"))


async def test_messages_that_nobody_told_of_are_taken_from_the_spool_directory(
    inbox: RememberingInbox, tmp_path: Path
) -> None:
    def counted(count: int) -> dict[str, bytes]:
        entry = f"Event: VoicemailUserEntry\r\nVMContext: default\r\nVoiceMailbox: 100\r\nNewMessageCount: {count}"
        return {"VoicemailUsersList": f"{entry}\r\n\r\n".encode()}

    folder = tmp_path / "default" / "100" / "INBOX"
    shutil.copytree(CAPTURES / "voicemail_spool", folder)
    for number, file in enumerate(("msg0000.txt", "msg0001.txt")):
        os.utime(folder / file, (1795492909 + number, 1795492909 + number))
    section = f"{ASTERISK}spool: {tmp_path}\n"
    async with pbx(Pbx(counted(5))) as made, bridged(made, inbox, section):
        await made.connected.wait()
        await asyncio.sleep(0.05)
        made.answers = counted(8)
        await made.hang_up()
        await until(lambda: len(inbox.events) == 3)
    assert [event.kind for event in inbox.events] == [
        EventKind.MISSED_CALL,  # the recording is empty
        EventKind.VOICEMAIL,
        EventKind.VOICEMAIL,
    ]
    _, spoken, unseen = inbox.events
    assert (spoken.caller, spoken.caller_name) == (Phi("+15550001111"), Phi("Maria Lopez"))
    assert spoken.occurred_at == datetime(2026, 11, 24, 4, 1, 49, tzinfo=UTC)
    media = opened(section.replace("PORT", "1"), inbox).media
    assert media is not None
    [attachment] = spoken.attachments
    recording = (CAPTURES / "voicemail_spool" / "msg0001.WAV").read_bytes()
    assert (await media.fetch(attachment)).content == Phi(recording)
    assert (unseen.attributes["messages"], unseen.attachments) == (Phi("1"), ())


async def test_an_empty_message_in_a_mailbox_without_an_address_is_known_by_its_file(
    inbox: RememberingInbox, tmp_path: Path
) -> None:
    """The mailer, which tells of its length, is silent there."""
    shutil.copytree(CAPTURES / "voicemail_spool", tmp_path / "default" / "100" / "INBOX")
    blocks = VOICEMAIL.partition(b"pbx1-1795492919")[0].split(b"\r\n\r\n")
    silent = b"\r\n\r\n".join(block for block in blocks if b"Variable: VM_DUR" not in block)
    # The captured call, as if it had left the empty message that lies beside it.
    empty = silent.replace(b"17954929", b"17954928").replace(b"msg0001", b"msg0000").replace(b"02.1", b"64.1")
    section = f"{ASTERISK}spool: {tmp_path}\n"
    async with pbx(Pbx()) as made, bridged(made, inbox, section):
        await made.connected.wait()
        made.writers[0].write(silent + empty)
        await until(lambda: len(inbox.events) == 2)
    assert [event.kind for event in inbox.events] == [EventKind.VOICEMAIL, EventKind.MISSED_CALL]
    assert [len(event.attachments) for event in inbox.events] == [1, 0]


async def test_messages_left_while_the_bridge_was_down_are_found(inbox: RememberingInbox) -> None:
    notes: dict[str, int] = {}

    async def recall(_: ChannelId) -> dict[str, int]:
        return dict(notes)

    async def remember(_: ChannelId, note: Mapping[str, int]) -> None:
        notes.update(note)

    def counted(count: int) -> dict[str, bytes]:
        entry = f"Event: VoicemailUserEntry\r\nVMContext: default\r\nVoiceMailbox: 100\r\nNewMessageCount: {count}"
        return {"VoicemailUsersList": f"{entry}\r\n\r\n".encode()}

    async with pbx(Pbx(counted(1))) as made, bridged(made, inbox, recall=recall, remember=remember):
        await until(lambda: notes == {"100@default": 1})
        # One that is being left is not noted before its call has ended, and is durable.
        made.writers[0].write(VOICEMAIL.partition(b"Event: MessageWaiting")[0])
        made.writers[0].write(
            b"Event: MessageWaiting\r\nUniqueid: pbx1-1795492902.17\r\nLinkedid: pbx1-1795492902.16\r\n"
            b"Mailbox: 100@default\r\nWaiting: 1\r\nNew: 2\r\n\r\n"
        )
        await asyncio.sleep(0.05)
        assert notes == {"100@default": 1}
    async with pbx(Pbx(counted(3))) as made, bridged(made, inbox, recall=recall, remember=remember):
        await until(lambda: bool(inbox.events) and notes == {"100@default": 3})
    [event] = inbox.events
    assert (event.recipient, event.attributes["messages"]) == (Phi("100@default"), Phi("2"))


async def test_where_there_are_call_records_they_tell_of_messages(inbox: RememberingInbox) -> None:
    entry = (
        "Event: VoicemailUserEntry\r\nVMContext: default\r\nVoiceMailbox: 100\r\nNewMessageCount: {}\r\n\r\n"
    )
    section = f"{ASTERISK}cdr: {{file: {CAPTURES / 'Master.csv'}}}\n"
    async with pbx(Pbx()) as made, bridged(made, inbox, section):
        await made.connected.wait()
        made.writers[0].write((entry.format(1) + entry.format(2)).encode() + ABANDON)
        await until(lambda: bool(inbox.events))
    assert [event.kind for event in inbox.events] == [EventKind.ABANDONED_CALL]


async def test_a_clock_that_differs_is_told_where_call_records_are_asked_for_by_the_time(
    inbox: RememberingInbox,
) -> None:
    def call(at: datetime) -> bytes:
        number = f"{int(at.timestamp())}.7"
        return f"Event: Newchannel\r\nUniqueid: {number}\r\nLinkedid: {number}\r\n\r\n".encode()

    section = f"{ASTERISK}cdr: {{file: {CAPTURES / 'Master.csv'}}}\n"
    async with pbx(Pbx()) as made, bridged(made, inbox, section) as told:
        await made.connected.wait()
        made.writers[0].write(
            call(utc_now() - timedelta(minutes=20)) + call(utc_now() + timedelta(minutes=20))
        )
        await until(lambda: len(told) == 2)
        made.writers[0].write(call(utc_now()))
        await until(lambda: len(told) == 3)
    assert [said and said[:40] for said in told] == [None, "its clock and this machine's are more th", None]


def test_call_records_are_bounded_where_calls_are(inbox: RememberingInbox) -> None:
    """Or the reconciler takes each call between two desks that nobody answers for a missing one."""
    section = f"{ASTERISK}contexts: [from-trunk]\ncdr: {{file: /var/log/Master.csv}}\n".replace(
        "PORT", "5038"
    )
    with pytest.raises(ConfigError, match="cdr needs contexts, too"):
        opened(section, inbox)


async def test_a_call_waits_for_the_database(inbox: RememberingInbox) -> None:
    inbox.away = True
    async with pbx(Pbx()) as made, bridged(made, inbox):
        await made.connected.wait()
        made.writers[0].write(ABANDON)
        await asyncio.sleep(0.1)
        inbox.away = False
        await until(lambda: bool(inbox.events))


async def test_a_refused_login_is_told_once_and_tried_again_ever_less_often(inbox: RememberingInbox) -> None:
    async with pbx(Pbx(secret="another")) as made, bridged(made, inbox) as told:
        await until(lambda: made.logins >= 3)
        assert told == ["Asterisk refused the login: check username, secret, and permit in manager.conf"]
        made.secret = AMI_SECRET
        await made.connected.wait()
        await until(lambda: told[-1] is None)
    assert made.logins < 30


async def test_a_missing_permission_is_told_and_the_connection_stays(inbox: RememberingInbox) -> None:
    denied = reply("Error", "CoreShowChannels", "Message: Permission denied\r\n")
    async with pbx(Pbx({"CoreShowChannels": denied})) as made, bridged(made, inbox) as told:
        await until(lambda: len(told) == 2)
        made.writers[0].write(ABANDON)
        await until(lambda: bool(inbox.events))
    assert str(told[1]).startswith("Asterisk does not allow CoreShowChannels")


async def test_its_raw_traffic_can_be_listened_to(inbox: RememberingInbox) -> None:
    heard: list[bytes] = []
    async with pbx(Pbx()) as made, bridged(made, inbox, tap=lambda _, __, raw: heard.append(raw.reveal())):
        await made.connected.wait()
        made.writers[0].write(ABANDON)
        await until(lambda: bool(inbox.events))
    assert ABANDON.partition(b"Event: Newchannel")[2][:200] in b"".join(heard)


async def test_asterisk_is_told_nothing_of_any_call(inbox: RememberingInbox) -> None:
    heard: list[Message] = []

    async def overheard(action: Message) -> None:
        heard.append(action)

    async with pbx(Pbx(overheard=overheard)) as made, bridged(made, inbox):
        for stream in (ABANDON, VOICEMAIL):
            await made.connected.wait()
            made.writers[0].write(stream)
            await until(lambda: bool(inbox.events))
            await made.hang_up()
        await made.connected.wait()
    asked = {action["action"] for action in heard}
    assert asked == {"Challenge", "Login", "CoreShowChannels", "QueueStatus", "VoicemailUsersList"}
    own = {"action", "actionid", "authtype", "username", "events", "key"}
    assert {name for action in heard for name in action} == own
    assert {action["actionid"] for action in heard} == asked - {"Challenge", "Login"} | {"challenge", "login"}


async def test_a_shutdown_is_told_and_waited_out(inbox: RememberingInbox) -> None:
    async with pbx(Pbx()) as made, bridged(made, inbox) as told:
        await made.connected.wait()
        made.writers[0].write(SHUTDOWN)
        await until(lambda: len(told) >= 3)
    assert told[:3] == [None, "Asterisk ended the connection", None]


async def test_an_asterisk_that_falls_silent_is_asked_and_left(
    inbox: RememberingInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asterisk, "QUIET_SECONDS", 0.05)
    async with pbx(Pbx({"Ping": b""})) as made, bridged(made, inbox) as told:
        await until(lambda: "Asterisk does not answer" in told)


async def test_an_asterisk_that_is_not_there_is_told(inbox: RememberingInbox) -> None:
    async with pbx(Pbx()) as made:
        pass
    async with bridged(made, inbox) as told:
        await until(lambda: bool(told))
    assert told == ["Asterisk can't be reached (ConnectionRefusedError)"]


async def test_what_does_not_speak_ami_is_left(
    inbox: RememberingInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ami, "MAX_MESSAGE", 1024)
    async with pbx(Pbx({"CoreShowChannels": b"x" * 9000})) as made, bridged(made, inbox) as told:
        await until(lambda: "what answers does not speak AMI" in told)


async def test_the_connection_is_encrypted_where_it_should_be(
    inbox: RememberingInbox, certificate: Path
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate / "mail.pem", certificate / "key.pem")
    section = f"{ASTERISK}tls: true\ncertificate: {certificate / 'mail.pem'}\n"
    async with pbx(Pbx(), tls) as made, bridged(made, inbox, section) as told:
        await made.connected.wait()
    assert told == [None]


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    inbox: RememberingInbox, certificate: Path
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate / "mail.pem", certificate / "key.pem")
    async with pbx(Pbx(), tls) as made, bridged(made, inbox, f"{ASTERISK}tls: true\n") as told:
        await until(lambda: bool(told))
    assert told == ["Asterisk can't be reached (SSLCertVerificationError)"]
    assert not made.logins
