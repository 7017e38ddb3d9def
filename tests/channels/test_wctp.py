"""Pages of an answering service, over WCTP."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pytest
import pytest_asyncio
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree  # type: ignore[import-untyped]

from bridge.channels.channel import Request, Surroundings
from bridge.channels.wctp import WctpSettings, build
from bridge.channels.xml import read_xml
from bridge.config.problems import ConfigError
from bridge.config.values import SecretRef
from bridge.model.errors import ReportError, StoreUnavailableError
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId, IntakeId
from bridge.model.phi import Phi
from bridge.model.priority import Priority
from bridge.model.progress import Progress
from bridge.model.report import Answered, Fetches, Report, ReportKind, Standing, Waiting
from testbed.process import free_port
from tests.channels.parsers import QUICK
from tests.channels.signers import PUBLIC_URL, WCTP_CODE, utc_now
from tests.channels.wire import WCTP, RememberingInbox, Reply, Server, far_end, opened, running

CAPTURES = Path(__file__).parent / "captures"
QUERY, REPLY, SUBMIT, VERSION = (
    json.loads(line)["body"].encode("latin-1").decode()
    for line in (CAPTURES / "php_wctp_posts.jsonl").read_text().splitlines()
)
DTDS = Path(__file__).parents[3] / "shared" / "captures" / "wctp" / "dtd"


@pytest_asyncio.fixture
async def server(inbox: RememberingInbox) -> AsyncIterator[Server]:
    async with running(opened(WCTP, inbox)) as server:
        yield server


def submit(
    payload: str = "<wctp-Alphanumeric>hello</wctp-Alphanumeric>",
    *,
    version: str = "wctp-dtd-v1r3",
    sender: str = "desk",
    code: str = WCTP_CODE,
    control: str = 'messageID="1"',
    recipient: str = "cardiology",
    head: str = "",
) -> str:
    return (
        f'{head}<wctp-Operation wctpVersion="{version}"><wctp-SubmitRequest><wctp-SubmitHeader>'
        f'<wctp-Originator senderID="{sender}" securityCode="{code}"/><wctp-MessageControl {control}/>'
        f'<wctp-Recipient recipientID="{recipient}"/></wctp-SubmitHeader>'
        f"<wctp-Payload>{payload}</wctp-Payload></wctp-SubmitRequest></wctp-Operation>"
    )


def code(reply: Reply) -> str:
    """The protocol's own code in an answer."""
    assert reply.status == 200
    assert read_xml(Phi(reply.text.encode())) is not None
    [found] = re.findall(r'(?:error|success)Code="(\d+)"', reply.text)
    return str(found)


def is_valid(document: str) -> None:
    """Hold what we write against the protocol's own DTD, where it is."""
    if DTDS.is_dir():
        root = etree.fromstring(document.encode())
        dtd = etree.DTD(str(DTDS / f"{root.get('wctpVersion')}.dtd"))
        assert dtd.validate(root), dtd.error_log.filter_from_errors()


def only(inbox: RememberingInbox) -> IntakeEvent:
    [event] = inbox.events
    return event


async def test_a_captured_request_becomes_an_intake_event(server: Server, inbox: RememberingInbox) -> None:
    assert code(await server.post(SUBMIT)) == "200"
    assert only(inbox) == IntakeEvent(
        channel=only(inbox).channel,
        key=Phi('["silver-lapwing", "94"]'),
        kind=EventKind.PAGE,
        body=Phi("Call Dr. Smith <ext 12> & café ☎\nReply 1"),
        recipient=Phi("6145551234"),
        occurred_at=datetime(2026, 11, 24, 4, tzinfo=UTC),
        attributes={
            "sender": Phi("silver-lapwing"),
            "message_id": Phi("94"),
            "responses_to": Phi("http://127.0.0.1:18098/wctp"),
            "notify_when": Phi("delivered read"),
            "version": Phi("wctp-dtd-v1r3"),
            "answers": Phi("text"),
        },
    )


async def test_a_captured_reply_becomes_an_event_once_its_sender_is_known(
    server: Server, inbox: RememberingInbox
) -> None:
    assert code(await server.post(REPLY)) == "401"
    known = REPLY.replace('senderID="6145551234"', f'senderID="desk" securityCode="{WCTP_CODE}"')
    assert code(await server.post(known)) == "200"
    assert (only(inbox).body, only(inbox).attributes["in_reply_to"]) == (Phi("1"), Phi("94"))


async def test_a_captured_query_for_an_unknown_message_finds_none(server: Server) -> None:
    reply = await server.post(QUERY)
    assert "<wctp-ClientQueryResponse><wctp-NoMessages/></wctp-ClientQueryResponse>" in reply.text


@pytest.mark.parametrize("progress", list(Progress))
async def test_a_query_is_answered_with_how_far_its_message_has_come(
    inbox: RememberingInbox, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = datetime(2026, 11, 24, 4, tzinfo=UTC)

    async def known(channel: ChannelId, intake: IntakeId) -> Standing | None:
        answers = (Answered(Phi("On <my> way"), None, at), Answered(Phi("Yes"), 0, at))
        return Standing(progress, at, answers) if (channel, intake) == ("door", "t1") else None

    monkeypatch.setenv("TEST_WCTP_CODE", WCTP_CODE)
    settings = WctpSettings(senders={"desk": (SecretRef("env", "TEST_WCTP_CODE"),)})
    around = Surroundings(inbox, utc_now, PUBLIC_URL, standing=known)
    async with running(build(ChannelId("door"), settings, around)) as server:
        reply = await server.post(QUERY)
    assert f'<wctp-Notification type="{progress.upper()}"/>' in reply.text
    assert '<wctp-Originator senderID="r"/><wctp-Recipient recipientID="s"/>' in reply.text
    assert "<wctp-Alphanumeric>On &lt;my&gt; way</wctp-Alphanumeric>" in reply.text
    assert '<wctp-ClientMessageReply MCRMessageReply="true">' in reply.text
    is_valid(reply.text)


async def test_a_captured_version_query_is_answered(server: Server, inbox: RememberingInbox) -> None:
    reply = await server.post(VERSION)
    assert re.findall('dtdName="(.*?)"', reply.text) == ["wctp-dtd-v1r1", "wctp-dtd-v1r2", "wctp-dtd-v1r3"]
    assert not inbox.events


async def test_the_confirmation_of_a_repeated_message_is_the_same(
    server: Server, inbox: RememberingInbox
) -> None:
    replies = [await server.post(SUBMIT) for _ in range(2)]
    assert replies[0].text == replies[1].text
    assert len(inbox.events) == 1


async def test_the_same_message_id_of_another_sender_is_another_message(
    server: Server, inbox: RememberingInbox
) -> None:
    await server.post(submit())
    await server.post(submit(sender="silver-lapwing", code="f09cf4c0a547b183"))
    assert len(inbox.events) == 2


async def test_choices_stand_below_their_text(server: Server, inbox: RememberingInbox) -> None:
    await server.post(
        submit(
            "<wctp-MCR><wctp-MessageText>Coming?</wctp-MessageText><wctp-Choice>Yes</wctp-Choice>"
            "<wctp-ChoicePair><wctp-SendChoice>No</wctp-SendChoice><wctp-ReplyChoice>0</wctp-ReplyChoice>"
            "</wctp-ChoicePair></wctp-MCR>"
        )
    )
    assert only(inbox).body == Phi("Coming?\n1️⃣ Yes\n2️⃣ No")
    assert only(inbox).attributes["choices"] == Phi("Yes\nNo")
    assert only(inbox).attributes["choice_replies"] == Phi("Yes\n0")


async def test_who_wants_no_response_is_not_answered(server: Server, inbox: RememberingInbox) -> None:
    await server.post(submit(control='messageID="1" allowResponse="false"'))
    assert "answers" not in only(inbox).attributes


async def test_transparent_data_is_kept(server: Server, inbox: RememberingInbox) -> None:
    await server.post(submit('<wctp-TransparentData encoding="base64">aGk=</wctp-TransparentData>'))
    assert (only(inbox).body, only(inbox).attributes["data"]) == (Phi(""), Phi("aGk="))


@pytest.mark.parametrize(
    ("written", "priority"), [("HIGH", Priority.URGENT), ("NORMAL", None), ("low", Priority.ROUTINE)]
)
async def test_the_senders_priority_is_kept(
    server: Server, inbox: RememberingInbox, written: str, priority: Priority | None
) -> None:
    await server.post(submit(control=f'messageID="1" deliveryPriority="{written}"'))
    assert only(inbox).priority == priority


@pytest.mark.parametrize(
    ("written", "answered"),
    [("1.3", "3"), ("wctp-dtd-v1r1", "1"), ("WCTP-DTD-V1R2", "2"), ("1.0", "3"), ("", "3"), ("☎", "3")],
)
async def test_each_way_to_write_the_version_is_understood(
    server: Server, written: str, answered: str
) -> None:
    reply = await server.post(submit(version=written))
    assert code(reply) == "200"
    assert f'wctpVersion="wctp-dtd-v1r{answered}"' in reply.text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
@pytest.mark.parametrize(
    "declared", ["", '<?xml version="1.0" encoding="{}"?>', '<?xml version="1.0" encoding="UTF-8"?>']
)
async def test_utf_16_is_read_whatever_it_declares(
    server: Server, inbox: RememberingInbox, encoding: str, declared: str
) -> None:
    head = declared.format(encoding.removesuffix("-sig"))
    document = submit("<wctp-Alphanumeric>עזרה 🚑</wctp-Alphanumeric>", head=head)
    assert code(await server.post(document.encode(encoding))) == "200"
    assert only(inbox).body == Phi("עזרה 🚑")


async def test_latin_1_is_read(server: Server, inbox: RememberingInbox) -> None:
    head = '<?xml version="1.0" encoding="ISO-8859-1"?>'
    document = submit("<wctp-Alphanumeric>café</wctp-Alphanumeric>", head=head)
    await server.post(document.encode("latin-1"))
    assert only(inbox).body == Phi("café")


async def test_a_namespace_does_not_matter(server: Server, inbox: RememberingInbox) -> None:
    document = submit().replace(
        "<wctp-Operation ", '<wctp-Operation xmlns="http://dtd.wctp.org/wctp-dtd-v1r3.xsd" '
    )
    assert code(await server.post(document)) == "200"


@pytest.mark.parametrize(
    ("document", "answered"),
    [
        ("", "301"),
        ("hello", "301"),
        ("<wctp-Operation>", "301"),
        ("<wctp-Operation/>", "300"),
        ("<wctp-Operation><wctp-SubmitClientMessage/></wctp-Operation>", "300"),
        ("<wctp-Operation><wctp-PollForMessages/></wctp-Operation>", "401"),
        (submit(sender="stranger"), "401"),
        (submit(code="wrong"), "402"),
        (submit(code=""), "402"),
    ],
)
async def test_what_is_not_taken_is_refused_with_the_protocols_code(
    server: Server, inbox: RememberingInbox, document: str, answered: str
) -> None:
    assert code(await server.post(document)) == answered
    assert not inbox.events
    assert not inbox.unreadable


@pytest.mark.parametrize(
    "document",
    [submit(control=""), submit(recipient=""), submit().replace("wctp-Payload", "wctp-Nothing")],
    ids=["no messageID", "no recipientID", "no payload"],
)
async def test_an_authentic_message_that_lacks_something_is_kept_and_refused(
    server: Server, inbox: RememberingInbox, document: str
) -> None:
    assert code(await server.post(document)) == "302"
    [(_, raw, _)] = inbox.unreadable
    assert raw == Phi(document.encode())


async def test_the_code_that_comes_next_is_taken(server: Server) -> None:
    assert code(await server.post(submit(code="wctp-code-that-comes-after-it"))) == "200"


async def test_the_database_away_is_a_temporary_failure(server: Server, inbox: RememberingInbox) -> None:
    inbox.away = True
    assert code(await server.post(SUBMIT)) == "600"


@dataclass
class Desk:
    """An answering service that hears what becomes of its pages; `says` is how it answers."""

    says: list[tuple[int, str]] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)

    async def hear(self, request: web.Request) -> web.Response:
        self.heard.append(await request.text())
        status, text = self.says.pop(0) if self.says else (200, CONFIRMED)
        return web.Response(status=status, text=text, content_type="text/xml")


CONFIRMED = (
    '<wctp-Operation wctpVersion="1.3"><wctp-Confirmation><wctp-Success successCode="200"/>'
    "</wctp-Confirmation></wctp-Operation>"
)
FAILED = CONFIRMED.replace('wctp-Success successCode="200"', 'wctp-Failure errorCode="{}"')


@asynccontextmanager
async def listening_desk(desk: Desk) -> AsyncIterator[str]:
    async with far_end(desk.hear, method="POST", path="/wctp") as address:
        yield f"{address}/wctp"


async def told(
    inbox: RememberingInbox, document: str, url: str, kind: ReportKind, **answer: Any
) -> bool | Fetches:
    """Send a page, and tell its sender something of it."""
    channel = opened(f"{WCTP}push: {{desk: '{url}'}}\n", inbox)
    async with running(channel) as server:
        await server.post(document)
    at = datetime(2026, 11, 24, 4, 5, tzinfo=UTC)
    assert channel.report is not None
    answered = Answered(at=at, **answer) if answer else None
    return await channel.report(Report("5" * 32, kind, inbox.events[-1], IntakeId("t1"), at, answered))


@pytest.mark.parametrize("version", ["wctp-dtd-v1r1", "wctp-dtd-v1r2", "wctp-dtd-v1r3"])
async def test_a_sender_hears_by_push_what_it_asked_to_hear(inbox: RememberingInbox, version: str) -> None:
    desk = Desk()
    asked = submit(control='messageID="7" notifyWhenDelivered="true"', version=version)
    async with listening_desk(desk) as url:
        assert [await told(inbox, asked, url, kind) for kind in list(ReportKind)[:3]] == [False, True, False]
    [heard] = desk.heard
    assert '<wctp-Notification type="DELIVERED"/>' in heard
    assert 'responseToMessageID="7"' in heard
    assert f'<wctp-MessageControl messageID="{"5" * 32}"/><wctp-Recipient recipientID="desk"/>' in heard
    is_valid(heard)


@pytest.mark.parametrize("version", ["wctp-dtd-v1r1", "wctp-dtd-v1r2", "wctp-dtd-v1r3"])
@pytest.mark.parametrize("choice", [None, 0])
async def test_a_sender_hears_a_clinicians_answer_by_push(
    inbox: RememberingInbox, choice: int | None, version: str
) -> None:
    desk = Desk()
    async with listening_desk(desk) as url:
        document = submit(version=version)
        assert await told(inbox, document, url, ReportKind.ANSWER, text=Phi("Yes & now"), choice=choice)
    [heard] = desk.heard
    assert "<wctp-Payload><wctp-Alphanumeric>Yes &amp; now</wctp-Alphanumeric></wctp-Payload>" in heard
    is_valid(heard)


@pytest.mark.parametrize(
    ("says", "again"),
    [
        ((500, "x"), True),
        ((302, "x"), True),
        ((200, FAILED.format("604")), True),
        ((200, FAILED.format("402")), True),
        ((200, FAILED.format("300")), False),
        ((200, FAILED.format("")), True),
    ],
)
async def test_a_sender_that_did_not_take_it_is_told_again_where_that_can_help(
    inbox: RememberingInbox, says: tuple[int, str], *, again: bool
) -> None:
    desk = Desk([says])
    async with listening_desk(desk) as url:
        with pytest.raises(ReportError) as failed:
            await told(inbox, submit(), url, ReportKind.ANSWER, text=Phi("Kanarienvogel"), choice=None)
        assert failed.value.retry is again
        assert "Kanarienvogel" not in str(failed.value)
        assert url not in str(failed.value)
        assert await told(inbox, submit(), url, ReportKind.ANSWER, text=Phi("Kanarienvogel"), choice=None)
    assert desk.heard[0] == desk.heard[1]


async def test_a_sender_that_is_away_is_told_again(inbox: RememberingInbox) -> None:
    with pytest.raises(ReportError, match="can't be reached"):
        await told(
            inbox, submit(), f"http://127.0.0.1:{free_port()}/", ReportKind.ANSWER, text=Phi("x"), choice=None
        )


@pytest.mark.parametrize("push", ["{stranger: 'http://desk.example/'}", "{desk: 'ftp://desk.example/'}"])
def test_an_address_that_nobody_could_be_told_at_is_refused(inbox: RememberingInbox, push: str) -> None:
    with pytest.raises(ConfigError, match="push"):
        opened(f"{WCTP}push: {push}\n", inbox)


@dataclass
class Rows:
    """What waits to be fetched, in the place of the database."""

    reports: list[Report] = field(default_factory=list)
    verdicts: dict[int, str | None] = field(default_factory=dict)
    away: bool = False

    def add(self, event: IntakeEvent, words: str) -> None:
        at, number = datetime(2026, 11, 24, 4, 5, tzinfo=UTC), len(self.reports) + 1
        answer = Answered(Phi(words), 0, at)
        told = Report(f"{number:032x}", ReportKind.ANSWER, event, IntakeId("t1"), at, answer)
        self.reports.append(told)

    async def waiting(self, channel: ChannelId, poller: str, most: int) -> list[Waiting]:
        assert (channel, poller) == ("door", "desk")
        if self.away:
            raise StoreUnavailableError("the database is away")
        numbered = [Waiting(number, one) for number, one in enumerate(self.reports, 1)]
        return [one for one in numbered if one.number not in self.verdicts][:most]

    async def received(
        self, channel: ChannelId, poller: str, verdicts: Mapping[int, ReportError | None]
    ) -> None:
        assert (channel, poller) == ("door", "desk")
        self.verdicts |= {
            number: f"{error}, {error.retry}" if error else None for number, error in verdicts.items()
        }


def poll(
    attributes: str = "",
    received: str = "",
    *,
    poller: str = "desk",
    code: str = WCTP_CODE,
    version: str = "1.3",
) -> str:
    return (
        f'<wctp-Operation wctpVersion="{version}"><wctp-PollForMessages pollerID="{poller}" '
        f'securityCode="{code}" {attributes}>{received}</wctp-PollForMessages></wctp-Operation>'
    )


def taken(*numbers: int) -> str:
    return "".join(
        f'<wctp-MessageReceived sequenceNo="{number}"><wctp-Success successCode="200"/></wctp-MessageReceived>'
        for number in numbers
    )


def numbers_in(reply: Reply) -> list[int]:
    is_valid(reply.text)
    return [int(each) for each in re.findall('<wctp-Message sequenceNo="(.*?)">', reply.text)]


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest_asyncio.fixture
async def polled(inbox: RememberingInbox, rows: Rows) -> AsyncIterator[Server]:
    channel = opened(f"{WCTP}poll: desk\n", inbox, waiting=rows.waiting, received=rows.received)
    async with running(channel) as server:
        yield server


async def answered(server: Server, inbox: RememberingInbox, rows: Rows, *words: str) -> None:
    """Somebody answers the page that the desk has sent."""
    await server.post(submit(control='messageID="7"'))
    for each in words:
        rows.add(inbox.events[0], each)


@pytest.mark.parametrize("version", ["wctp-dtd-v1r1", "wctp-dtd-v1r2", "wctp-dtd-v1r3"])
async def test_a_poller_is_given_what_waits_for_it_in_its_own_version(
    polled: Server, inbox: RememberingInbox, rows: Rows, version: str
) -> None:
    await answered(polled, inbox, rows, "Yes & now", "No")
    reply = await polled.post(poll(version=version))
    assert numbers_in(reply) == [1, 2]
    assert "<wctp-Alphanumeric>Yes &amp; now</wctp-Alphanumeric>" in reply.text
    assert reply.text.count('responseToMessageID="7"') == 2


async def test_a_poller_is_given_the_same_until_it_says_that_it_has_it(
    polled: Server, inbox: RememberingInbox, rows: Rows
) -> None:
    await answered(polled, inbox, rows, "One", "Two", "Three")
    first = await polled.post(poll())
    assert (await polled.post(poll())).text == first.text
    assert numbers_in(await polled.post(poll(received=taken(1, 2)))) == [3]
    reply = await polled.post(poll(received=taken(3)))
    assert "<wctp-NoMessages/>" in reply.text
    is_valid(reply.text)


async def test_a_poller_gets_no_more_at_once_than_it_takes(
    polled: Server, inbox: RememberingInbox, rows: Rows
) -> None:
    await answered(polled, inbox, rows, *map(str, range(150)))
    some = await polled.post(poll('maxMessagesInBatch="2"'))
    assert numbers_in(some) == [1, 2]
    assert 'minNextPollInterval="0"' in some.text
    for asked in ("", 'maxMessagesInBatch=""', 'maxMessagesInBatch="0"', 'maxMessagesInBatch="9999999"'):
        assert len(numbers_in(await polled.post(poll(asked)))) == 100
    rest = await polled.post(poll(received=taken(*range(1, 149))))
    assert numbers_in(rest) == [149, 150]
    assert 'minNextPollInterval="5"' in rest.text


async def test_long_answers_come_in_several_batches_and_the_longest_alone(
    polled: Server, inbox: RememberingInbox, rows: Rows
) -> None:
    await answered(polled, inbox, rows, "a" * 300_000, "b" * 200_000, "c" * 200_000)
    assert numbers_in(await polled.post(poll())) == [1]
    assert numbers_in(await polled.post(poll(received=taken(1)))) == [2]


@pytest.mark.parametrize("around", ["{}", "<wctp-Confirmation>{}</wctp-Confirmation>"])
async def test_a_poller_may_say_why_it_did_not_take_a_message(
    polled: Server, inbox: RememberingInbox, rows: Rows, around: str
) -> None:
    await answered(polled, inbox, rows, "One", "Two")
    refused = "".join(
        f'<wctp-MessageReceived sequenceNo="{number}">'
        f'{around.format(f"""<wctp-Failure errorCode="{code}"/>""")}</wctp-MessageReceived>'
        for number, code in ((1, "604"), (2, "300"))
    )
    await polled.post(poll(received=refused))
    assert rows.verdicts == {
        1: "it answers with the failure 604, True",
        2: "it answers with the failure 300, False",
    }


@pytest.mark.parametrize("number", ["", "x", "-1", "1.5", "9" * 19, "\u0661"])
async def test_a_verdict_on_no_message_settles_nothing(polled: Server, rows: Rows, number: str) -> None:
    verdict = taken(1).replace('"1"', f'"{number}"')
    assert "NoMessages" in (await polled.post(poll(received=verdict))).text
    assert rows.verdicts == {}


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        (poll(poller="stranger"), "401"),
        (poll(code="wrong"), "402"),
        (poll(code=""), "402"),
        (poll(poller="silver-lapwing", code="f09cf4c0a547b183"), "400"),
    ],
)
async def test_who_is_no_poller_is_given_nothing_and_settles_nothing(
    polled: Server, inbox: RememberingInbox, rows: Rows, asked: str, refused: str
) -> None:
    await answered(polled, inbox, rows, "Kanarienvogel")
    reply = await polled.post(asked.replace("></wctp-Poll", f">{taken(1)}</wctp-Poll"))
    assert code(reply) == refused
    is_valid(reply.text)
    assert "<wctp-PollResponse><wctp-Failure" in reply.text
    assert "Kanarienvogel" not in reply.text
    assert rows.verdicts == {}


async def test_a_poll_while_the_database_is_away_is_a_temporary_failure(polled: Server, rows: Rows) -> None:
    rows.away = True
    assert code(await polled.post(poll())) == "600"


async def test_words_that_no_xml_may_hold_keep_nothing_else_back(
    polled: Server, inbox: RememberingInbox, rows: Rows
) -> None:
    await answered(polled, inbox, rows, "a\x0bb\ud800c\ufffe\x00 ok 🚑")
    reply = await polled.post(poll())
    assert "<wctp-Alphanumeric>a�b�c�� ok 🚑</wctp-Alphanumeric>" in reply.text
    assert numbers_in(reply) == [1]


async def test_a_report_waits_for_its_poller_instead_of_being_sent(inbox: RememberingInbox) -> None:
    channel = opened(f"{WCTP}poll: [desk]\npush: {{silver-lapwing: 'http://127.0.0.1:1/'}}\n", inbox)
    async with running(channel) as server:
        await server.post(submit(control='messageID="7" notifyWhenRead="true"'))
    at = datetime(2026, 11, 24, 4, 5, tzinfo=UTC)
    assert channel.report is not None
    said = [
        await channel.report(Report("5", kind, inbox.events[0], IntakeId("t1"), at))
        for kind in (ReportKind.DELIVERED, ReportKind.READ)
    ]
    assert said == [False, Fetches("desk")]


@pytest.mark.parametrize("poll", ["stranger", "[desk]\npush: {desk: 'http://desk.example/'}"])
def test_a_poller_who_is_unknown_or_is_told_by_push_is_refused(inbox: RememberingInbox, poll: str) -> None:
    with pytest.raises(ConfigError, match="poll"):
        opened(f"{WCTP}poll: {poll}\n", inbox)


QUOTE = '"'
BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ha"}">' for n in range(12))


@pytest.mark.parametrize(
    "declared",
    [
        BOMB,
        '<!ENTITY e11 SYSTEM "file:///etc/passwd">',
        '<!ENTITY e11 SYSTEM "http://127.0.0.1:9/">',
        '<!ENTITY % e11 SYSTEM "http://127.0.0.1:9/"> %e11;',
    ],
    ids=["a bomb", "a file", "an address", "a parameter"],
)
async def test_no_entity_is_expanded(server: Server, inbox: RememberingInbox, declared: str) -> None:
    head = f"<!DOCTYPE wctp-Operation [{declared}]>"
    assert code(await server.post(submit("<wctp-Alphanumeric>&e11;</wctp-Alphanumeric>", head=head))) == "301"
    assert not inbox.events


async def test_a_document_does_not_grow_by_attributes_that_it_defines(server: Server) -> None:
    head = f'<!DOCTYPE wctp-Operation [<!ATTLIST a b CDATA "{"x" * 20_000}">]>'
    assert code(await server.post(submit("<a/>" * 5_000, head=head))) == "301"


async def test_a_deep_document_is_no_burden(server: Server) -> None:
    depth = 7000
    assert code(await server.post(submit("<a>" * depth + "</a>" * depth))) == "200"


@pytest.mark.skipif(not DTDS.is_dir(), reason="the DTDs are not here")
@pytest.mark.parametrize("version", ["v1r1", "v1r2", "v1r3"])
def test_the_elements_that_are_read_are_those_of_the_dtd(version: str) -> None:
    text = (DTDS / f"wctp-dtd-{version}.dtd").read_text(errors="replace")
    source = (Path(__file__).parents[2] / "bridge" / "channels" / "wctp.py").read_text()
    declared = set(re.findall(r"<!ELEMENT\s+(wctp-[\w-]+)", text))
    unknown = set(re.findall(r"wctp-[A-Z]\w+", source)) - declared
    newer = {"wctp-ChoicePair", "wctp-SendChoice", "wctp-ReplyChoice", "wctp-Success"}
    assert unknown <= (newer if version == "v1r1" else set())


texts = st.text(st.characters(codec="utf-8", exclude_characters="\r"))


@settings(max_examples=QUICK)
@given(
    st.dictionaries(st.sampled_from(["messageID", "recipientID", "senderID", "securityCode"]), texts),
    texts,
    st.binary(max_size=20),
    st.integers(0, 900),
)
async def test_no_document_breaks_the_door(values: dict[str, str], said: str, noise: bytes, at: int) -> None:
    document = submit(f"<wctp-Alphanumeric>{escape(said)}</wctp-Alphanumeric>")
    for name, value in values.items():
        before, _, after = document.partition(f'{name}="')
        document = f"{before}{name}={quoteattr(value)}{after[after.index(QUOTE) + 1 :]}"
    body = document.encode()
    for sent in (body, body[:at] + noise + body[at:], body[:at]):
        inbox: Any = RememberingInbox()
        [route] = opened(WCTP, inbox).routes
        answer = await route.handle(Request(route.path, {}, Phi(sent)))
        assert answer.status == 200
        assert read_xml(Phi(answer.body.encode())) is not None
        assert len(inbox.events) + len(inbox.unreadable) <= 1
