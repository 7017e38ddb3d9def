"""Pages by mail: from swaks, from Python's own client, and as Asterisk writes them."""

from __future__ import annotations

import asyncio
import base64
import smtplib
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from bridge.channels import smtp
from bridge.channels.smtp import read_mail
from bridge.config.problems import ConfigError
from bridge.model.attachment import Attachment
from bridge.model.doors import Receipt
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.phi import Phi
from bridge.model.priority import Priority
from tests.channels.wire import SMTP, RememberingInbox, listening, opened
from tests.channels.wires import CANARY

CAPTURES = Path(__file__).parent / "captures" / "voicemail_mail"
T = TypeVar("T")


@pytest_asyncio.fixture
async def port(inbox: RememberingInbox) -> AsyncIterator[int]:
    async with listening(SMTP, inbox) as port:
        yield port


def mail(text: str = "Call room 12", **headers: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Front desk <desk@call.example>"
    message["To"] = "cardiology@pager.example"
    message["Subject"] = "Urgent page"
    message["Message-ID"] = "<1@call.example>"
    for name, value in headers.items():
        del message[name]
        message[name.replace("_", "-")] = value
    message.set_content(text)
    return message


async def client(port: int, talk: Callable[[smtplib.SMTP], T]) -> T:
    """What a client in another thread makes of a connection."""

    def run() -> T:
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as connection:
            return talk(connection)

    return await asyncio.to_thread(run)


async def send(port: int, message: EmailMessage, to: str | list[str] = "cardiology@pager.example") -> None:
    await client(port, lambda connection: connection.send_message(message, to_addrs=to))


async def send_captured(port: int, name: str) -> None:
    content = (CAPTURES / f"{name}.eml").read_bytes().replace(b"\n", b"\r\n")
    to = "100@pager.example"
    await client(port, lambda connection: connection.sendmail("pbx@pbx1.example", to, content))


def only(inbox: RememberingInbox) -> IntakeEvent:
    [event] = inbox.events
    return event


async def test_a_mail_becomes_an_intake_event(port: int, inbox: RememberingInbox) -> None:
    await send(port, mail(Date="Tue, 24 Nov 2026 04:12:47 +0100"))
    assert only(inbox) == IntakeEvent(
        channel=only(inbox).channel,
        key=Phi("<1@call.example> cardiology@pager.example"),
        kind=EventKind.PAGE,
        body=Phi("Urgent page\nCall room 12"),
        caller_name=Phi("Front desk"),
        recipient=Phi("cardiology"),
        occurred_at=datetime(2026, 11, 24, 3, 12, 47, tzinfo=UTC),
        attributes={"sender": Phi("desk@call.example")},
    )


@pytest.mark.skipif(not Path("/usr/bin/swaks").exists(), reason="swaks is not installed")
async def test_swaks_sends_a_page(port: int, inbox: RememberingInbox) -> None:
    command = ("swaks", "--server", f"127.0.0.1:{port}", "--to", "5551234@pager.example")
    words = ("--from", "desk@call.example", "--header", "Subject: Urgent page", "--body", "Call room 12")
    process = await asyncio.create_subprocess_exec(*command, *words, stdout=asyncio.subprocess.DEVNULL)
    assert await asyncio.wait_for(process.wait(), 20) == 0
    assert (only(inbox).recipient, only(inbox).body) == (Phi("5551234"), Phi("Urgent page\nCall room 12"))


async def test_each_address_gets_its_event(port: int, inbox: RememberingInbox) -> None:
    await send(port, mail(), ["Cardiology@pager.example", "surgery@PAGER.TEST"])
    assert [event.recipient for event in inbox.events] == [Phi("cardiology"), Phi("surgery")]


async def test_the_same_mail_again_is_one_event(port: int, inbox: RememberingInbox) -> None:
    for _ in range(2):
        await send(port, mail())
    assert len(inbox.events) == 1


async def test_mail_for_another_domain_is_refused(port: int, inbox: RememberingInbox) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused, match="550"):
        await send(port, mail(), "somebody@elsewhere.example")
    assert not inbox.events


async def test_mail_from_another_address_is_refused(inbox: RememberingInbox) -> None:
    async with listening(SMTP.replace("127.0.0.1", "10.0.0.1"), inbox) as port:
        with pytest.raises(smtplib.SMTPConnectError, match="554"):
            await send(port, mail())


async def test_the_sender_hears_that_the_database_is_away(port: int, inbox: RememberingInbox) -> None:
    inbox.away = True
    with pytest.raises(smtplib.SMTPDataError, match="451"):
        await send(port, mail())


async def test_too_large_a_mail_is_refused(inbox: RememberingInbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "MAX_MAIL", 1000)
    async with listening(SMTP, inbox) as port:
        with pytest.raises(smtplib.SMTPResponseException, match="552"):
            await send(port, mail("x" * 900 + "\n" + "y" * 900))
    assert not inbox.events


async def test_too_many_addresses_are_refused(port: int, inbox: RememberingInbox) -> None:
    to = [f"pager{number}@pager.example" for number in range(17)]
    refused = await client(port, lambda connection: connection.send_message(mail(), to_addrs=to))
    assert [code for code, _ in refused.values()] == [452]
    assert len(inbox.events) == 16


async def test_who_is_slow_makes_room_and_is_told_so(port: int, inbox: RememberingInbox) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert (await reader.readline()).startswith(b"220")
    others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(smtp.MAX_OF_ONE - 1)]
    await send(port, mail())
    assert len(inbox.events) == 1
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"421 4.7.0 Too many connections")
    for _, each in [(reader, writer), *others]:
        each.close()


async def test_connections_over_the_bound_are_turned_away_while_the_others_mails_are_kept(
    inbox: RememberingInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived, released = asyncio.Event(), asyncio.Event()
    accept = inbox.accept

    async def slowly(event: IntakeEvent) -> Receipt:
        arrived.set()
        await released.wait()
        return await accept(event)

    monkeypatch.setattr(inbox, "accept", slowly)
    monkeypatch.setattr(smtp, "MAX_OF_ONE", 1)
    async with listening(SMTP, inbox) as port:
        sending = asyncio.create_task(send(port, mail()))
        await arrived.wait()
        with pytest.raises(smtplib.SMTPConnectError, match="421"):
            await client(port, lambda connection: connection.noop())
        released.set()
        await sending
    assert len(inbox.events) == 1


async def test_mails_over_the_rate_are_told_to_come_again_and_counted(inbox: RememberingInbox) -> None:
    outcomes: list[str] = []
    async with listening(
        f"{SMTP}per_minute: 1\n", inbox, count=lambda _, outcome: outcomes.append(outcome)
    ) as port:
        await send(port, mail())
        with pytest.raises(smtplib.SMTPSenderRefused, match="Too many mails"):
            await send(port, mail("Another"))
    assert len(inbox.events) == 1
    assert outcomes == ["accepted", "too_many_mails"]


async def test_its_raw_traffic_can_be_listened_to(inbox: RememberingInbox) -> None:
    heard: list[tuple[str, bytes]] = []
    async with listening(SMTP, inbox, tap=lambda _, way, raw: heard.append((way, raw.reveal()))) as port:
        await send(port, mail("Call room 12"))
    assert any(way == "<" and b"Call room 12" in raw for way, raw in heard)
    assert any(way == ">" and b"250 2.0.0 Paged" in raw for way, raw in heard)


async def test_a_connection_ends_in_its_time(
    inbox: RememberingInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "SESSION_SECONDS", 0.05)
    async with listening(SMTP, inbox) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert b"421 4.4.2 The connection took too long" in await asyncio.wait_for(reader.read(), 5)
        writer.close()


async def test_who_says_nothing_is_told_so(inbox: RememberingInbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "SILENT_SECONDS", 0.05)
    async with listening(SMTP, inbox) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert b"421 4.4.2 The connection took too long" in await asyncio.wait_for(reader.read(), 5)
        writer.close()


async def test_mail_is_taken_only_after_starttls_where_it_is_required(
    inbox: RememberingInbox, certificate: Path
) -> None:
    tls = f"certificate: {certificate}/mail.pem\nkey: {certificate}/key.pem\n"
    context = ssl.create_default_context(cafile=certificate / "mail.pem")

    def with_tls(connection: smtplib.SMTP) -> None:
        connection.starttls(context=context)
        connection.send_message(mail(), to_addrs="cardiology@pager.example")

    async with listening(SMTP.replace("require_tls: false\n", tls), inbox) as port:
        with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
            await send(port, mail())
        await client(port, with_tls)
    assert only(inbox).recipient == Phi("cardiology")


def test_what_requires_tls_and_has_no_certificate_is_refused(inbox: RememberingInbox) -> None:
    """Or mail would be taken in the clear, whatever was required."""
    with pytest.raises(ConfigError, match="needs a certificate for STARTTLS, or require_tls: false"):
        opened(SMTP.replace("require_tls: false\n", "").replace("PORT", "25"), inbox)


async def test_a_certificate_that_is_not_there_is_named(inbox: RememberingInbox, tmp_path: Path) -> None:
    tls = f"certificate: {tmp_path}/mail.pem\n"
    channel = opened(SMTP.replace("require_tls: false\n", tls).replace("PORT", "0"), inbox)
    assert channel.serve is not None
    with pytest.raises(OSError, match="and its key can't be used") as missing:
        await channel.serve()
    assert missing.value.strerror is not None
    assert "No such file" in missing.value.strerror


async def test_attachments_come_with_the_event(port: int, inbox: RememberingInbox) -> None:
    message = mail()
    message.add_alternative("<p>Call room 12</p>", subtype="html")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="ecg.pdf")
    await send(port, message)
    assert only(inbox).attributes["media_count"] == Phi("1")
    assert only(inbox).attachments == (
        Attachment("application/pdf", name=Phi("ecg.pdf"), content=Phi(b"%PDF")),
    )


async def test_asterisks_mail_is_a_voicemail_with_its_recording(port: int, inbox: RememberingInbox) -> None:
    await send_captured(port, "vm-1795492915573532593")
    event = only(inbox)
    assert (event.kind, event.caller) == (EventKind.VOICEMAIL, Phi("+15550001111"))
    assert event.caller_name == Phi("Maria Lopez")
    [recording] = event.attachments
    assert recording.type == "audio/x-wav"
    assert recording.content is not None
    assert recording.content.reveal().startswith(b"RIFF")


async def test_asterisks_mail_about_an_empty_message_is_a_missed_call(
    port: int, inbox: RememberingInbox
) -> None:
    await send_captured(port, "vm-1795492878887521352")
    assert (only(inbox).kind, only(inbox).attachments) == (EventKind.MISSED_CALL, ())


async def test_a_name_that_asterisk_has_cut_is_left_to_its_text(port: int, inbox: RememberingInbox) -> None:
    await send_captured(port, "vm-1795492932587035930")
    assert (only(inbox).kind, only(inbox).caller_name) == (EventKind.VOICEMAIL, None)
    assert "José Ñandú" in only(inbox).body.reveal()


async def test_asterisks_mail_of_a_caller_who_withholds_the_number_is_a_voicemail(
    port: int, inbox: RememberingInbox
) -> None:
    mail = (CAPTURES / "vm-1795492915573532593.eml").read_bytes().replace(b"\n", b"\r\n")
    headers = b"X-Asterisk-CallerID: +15550001111\r\nX-Asterisk-CallerIDName: Maria Lopez\r\n"
    withheld = mail.replace(headers, b"").replace(b"Maria Lopez", b"an unknown caller")
    await client(port, lambda smtp: smtp.sendmail("pbx@pbx1.example", "100@pager.example", withheld))
    event = only(inbox)
    assert (event.kind, event.caller, event.caller_name) == (EventKind.VOICEMAIL, None, None)


async def test_a_recording_as_ogg_is_sound(port: int, inbox: RememberingInbox) -> None:
    message = mail()
    message.add_attachment(b"OggS", maintype="application", subtype="ogg", filename="msg0000.ogg")
    await send(port, message)
    assert [each.type for each in only(inbox).attachments] == ["audio/ogg"]


async def test_callers_numbers_get_their_country(inbox: RememberingInbox) -> None:
    mail = (CAPTURES / "vm-1795492915573532593.eml").read_bytes().replace(b"\n", b"\r\n")
    national = mail.replace(b"X-Asterisk-CallerID: +1555", b"X-Asterisk-CallerID: 555")
    async with listening(f"{SMTP}region: US\n", inbox) as port:
        await client(port, lambda smtp: smtp.sendmail("pbx@pbx1.example", "100@pager.example", national))
    assert only(inbox).caller == Phi("+15550001111")


async def test_importance_is_a_priority(port: int, inbox: RememberingInbox) -> None:
    await send(port, mail(Importance="High"))
    assert only(inbox).priority == Priority.URGENT


async def test_html_alone_is_read_as_its_text(port: int, inbox: RememberingInbox) -> None:
    message = mail()
    message.set_content("<style>p{}</style><p>Call  room<br>12 &amp; 13</p>", subtype="html")
    await send(port, message)
    assert only(inbox).body == Phi("Urgent page\nCall room 12 & 13")


@pytest.mark.parametrize("path", sorted(CAPTURES.glob("*.eml")), ids=lambda path: path.stem)
def test_a_captured_voicemail_mail_is_read(path: Path) -> None:
    read = read_mail(Phi(path.read_bytes()))
    assert read is not None
    assert read.key.startswith("<Asterisk-")
    assert "\ufffd" not in read.text
    assert read.text


@pytest.mark.parametrize("charset", ["utf-16", "UTF-16LE", "utf-16-be", "utf-32"])
def test_utf_16_is_read(charset: str) -> None:
    head = f'Content-Type: text/plain; charset="{charset}"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
    read = read_mail(Phi(head.encode() + base64.encodebytes("Bett 12 🚑".encode(charset))))
    assert read is not None
    assert read.text == "Bett 12 🚑"


def test_utf_8_under_the_label_of_latin_1_is_read() -> None:
    [text] = [
        read.text
        for path in CAPTURES.glob("*.eml")
        if (read := read_mail(Phi(path.read_bytes()))) is not None and "Ñ" in read.text
    ]
    assert "José Ñandú" in text


async def test_nothing_that_a_sender_wrote_is_logged(
    port: int, inbox: RememberingInbox, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")

    async def crash(_: IntakeEvent) -> None:
        raise RuntimeError(CANARY)

    await send(port, mail(CANARY, Subject=CANARY), f"{CANARY}@pager.example")
    inbox.accept = crash  # type: ignore[method-assign,assignment]
    with pytest.raises(smtplib.SMTPDataError, match="451"):
        await send(port, mail(CANARY), f"{CANARY}@pager.example")
    assert CANARY not in f"{caplog.text}{capsys.readouterr()}"


@given(
    st.binary()
    | st.text().map(lambda text: f"From: {text}\r\nSubject: {text}\r\n\r\n{text}".encode(errors="replace"))
)
def test_no_content_breaks_the_reader(content: bytes) -> None:
    read = read_mail(Phi(content))
    if read is not None:
        f"{read.key}{read.subject}{read.text}{read.sender}{read.sender_name}".encode()
