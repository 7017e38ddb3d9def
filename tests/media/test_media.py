"""Recordings and pictures in the rooms: encrypted, below their page, playable; and the page waits for none of it."""

from __future__ import annotations

import json
import shutil
import zipfile
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path

import pytest
from twilio.request_validator import RequestValidator

from testbed.clinician import Clinician
from testbed.element import Element, Event
from testbed.hospital import Hospital
from tests.channels.pbx import Pbx
from tests.channels.test_asterisk import VOICEMAIL
from tests.channels.test_fetching import PICTURE, RECORDING, Far
from tests.media.conftest import CAPTURES, SMTP_PORT, TWILIO_TOKEN
from tests.media.listening import below, file_below, mail, played, until
from tests.scenarios.story import rows

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f80f00010501012718e366"
    "0000000049454e44ae426082"
)


def with_attachment(text: str, content: bytes, kind: str, name: str) -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "desk@call.example", "100@pager.example", text
    message["Message-ID"] = make_msgid()
    message.set_content("See below")
    maintype, _, subtype = kind.partition("/")
    message.add_attachment(content, maintype=maintype, subtype=subtype, filename=name)
    return message.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


async def test_a_voicemail_is_heard_below_its_page(
    okafor: Element, voicemail_mail: bytes, tmp_path: Path
) -> None:
    await mail(SMTP_PORT, voicemail_mail)
    page = await okafor.message("New message 2 in mailbox 100")
    audio = await file_below(okafor, page)
    assert (audio.content["msgtype"], audio.shield) == ("m.audio", "none")
    file = await okafor.download(audio.event_id)
    assert (file.stored_as, file.named) == ("application/octet-stream", "attachment")
    heard = played(file.content, tmp_path)
    [stream] = heard["streams"]
    assert (stream["codec_name"], stream["channels"], heard["format"]["format_name"]) == ("opus", 1, "ogg")
    voice = audio.content["org.matrix.msc1767.audio"]
    assert "org.matrix.msc3245.voice" in audio.content
    assert voice["duration"] == audio.content["info"]["duration"]
    assert abs(float(heard["format"]["duration"]) * 1000 - voice["duration"]) < 100
    assert max(voice["waveform"]) == 1024
    assert min(voice["waveform"]) >= 0


async def test_a_voicemail_at_asterisk_is_heard_and_then_deleted_there(
    okafor: Element, exchange: Pbx, spool: Path, tmp_path: Path
) -> None:
    await exchange.connected.wait()
    exchange.writers[-1].write(VOICEMAIL)
    page = await okafor.wait_for(lambda: next(iter(voicemails_of(okafor, "Maria Lopez")), None), 30)
    file = await okafor.download((await file_below(okafor, page)).event_id)
    assert played(file.content, tmp_path)["streams"][0]["codec_name"] == "opus"
    await until(lambda: files_in(spool / "default/100/INBOX") == ["msg0000.WAV", "msg0000.txt"])


@pytest.mark.slow
async def test_a_voicemail_that_only_a_mailboxs_count_tells_of_is_heard_and_then_deleted_there(
    okafor: Element, exchange: Pbx, spool: Path, tmp_path: Path
) -> None:
    folder = spool / "default" / "200" / "INBOX"
    folder.mkdir(parents=True)
    for ending in ("txt", "WAV"):
        shutil.copy(CAPTURES / "asterisk" / "voicemail_spool" / f"msg0001.{ending}", folder)
    await exchange.connected.wait()
    entry = (
        "Event: VoicemailUserEntry\r\nVMContext: default\r\nVoiceMailbox: 200\r\nNewMessageCount: {}\r\n\r\n"
    )
    exchange.writers[-1].write((entry.format(0) + entry.format(1)).encode())
    page = await okafor.message("Left while the connection to Asterisk was away")
    file = await okafor.download((await file_below(okafor, page)).event_id)
    assert played(file.content, tmp_path)["streams"][0]["codec_name"] == "opus"
    await until(lambda: files_in(folder) == [])


async def test_a_voicemail_at_twilio_is_heard_and_then_deleted_there(
    okafor: Element, hospital: Hospital, far: Far, tmp_path: Path
) -> None:
    far.sound = (CAPTURES / "asterisk/voicemail_spool/msg0001.WAV").read_bytes()
    call = {"CallSid": "CA1", "From": "+15550007777", "CallStatus": "completed", "RecordingDuration": "5"}
    await post(hospital, call | {"RecordingUrl": far.url + RECORDING})
    page = await okafor.wait_for(lambda: next(iter(voicemails_of(okafor, "7777")), None), 30)
    file = await okafor.download((await file_below(okafor, page)).event_id)
    assert float(played(file.content, tmp_path)["format"]["duration"]) > 5
    await until(lambda: RECORDING not in far.kept)
    assert {credentials for *_, credentials in far.asked} == {f"AC0001:{TWILIO_TOKEN}"}


async def test_a_texts_picture_is_seen(okafor: Element, hospital: Hospital, far: Far) -> None:
    text = {"MessageSid": "MM1", "From": "+15550007778", "Body": "My rash", "NumMedia": "1"}
    await post(hospital, text | {"MediaUrl0": far.url + PICTURE, "MediaContentType0": "image/png"})
    picture = await file_below(okafor, await okafor.message("My rash"))
    assert picture.content["msgtype"] == "m.image"
    assert (await okafor.download(picture.event_id)).content == b"picture"


def voicemails_of(reader: Element, caller: str) -> list[Event]:
    return [event for event in reader.messages if "Voicemail" in event.body and caller in event.body]


def files_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


async def post(hospital: Hospital, fields: dict[str, str]) -> None:
    """A request of Twilio's."""
    url = f"{hospital.bridge.base_url}/intake/line"
    headers = {"X-Twilio-Signature": RequestValidator(TWILIO_TOKEN).compute_signature(url, fields)}
    async with hospital.session.post(url, data=fields, headers=headers) as answer:
        assert answer.status == 200


async def test_a_picture_is_a_picture_and_a_document_a_file(okafor: Element) -> None:
    await mail(SMTP_PORT, with_attachment("The wound", PNG, "image/png", "../wound.png"))
    picture = await file_below(okafor, await okafor.message("The wound"))
    assert (picture.content["msgtype"], picture.content["body"]) == ("m.image", "wound.png")
    assert (await okafor.download(picture.event_id)).content == PNG
    await mail(SMTP_PORT, with_attachment("The letter", b"%PDF", "application/pdf", "letter.pdf"))
    letter = await file_below(okafor, await okafor.message("The letter"))
    assert (letter.content["msgtype"], letter.content["info"]["mimetype"]) == ("m.file", "application/pdf")


async def test_a_recording_that_nothing_can_read_stands_there_as_it_came(
    okafor: Element, operator: Clinician
) -> None:
    await mail(SMTP_PORT, with_attachment("Noise", b"no sound at all", "audio/x-wav", "noise.wav"))
    page = await okafor.message("Noise")
    noise = await file_below(okafor, page)
    assert noise.content["msgtype"] == "m.file"
    assert (await okafor.download(noise.event_id)).content == b"no sound at all"
    await okafor.wait_for(
        lambda: any("can't be made playable" in event.body for event in below(okafor, page))
    )
    await operator.message("mail: A recording can't be made playable")


async def test_an_address_for_each_file_is_kept_for_its_deletion(hospital: Hospital) -> None:
    kept = rows(hospital, "SELECT state, mxc, sealed, file FROM attachment WHERE channel = 'mail'")
    assert kept
    for state, mxc, sealed, file in kept:
        assert (state, sealed, file) == ("uploaded", None, None)
        assert mxc.startswith("mxc://nightbell.test/")


async def test_a_legal_holds_export_has_the_files_of_its_pages_and_says_what_is_missing(
    hospital: Hospital, okafor: Element, tmp_path: Path
) -> None:
    await mail(SMTP_PORT, with_attachment("Exhibit of case 7", PNG, "image/png", "exhibit.png"))
    page = await okafor.message("Exhibit of case 7")
    await file_below(okafor, page)
    [(name,)] = rows(hospital, "SELECT page FROM outbox WHERE event = ?", page.event_id)
    by = ("--by", hospital.user_id("operator"))
    placed = await hospital.bridge.command("hold", "place", "page", name, *by, "--reason", "Case 7")

    async def handed_over(to: str) -> tuple[str, dict[str, bytes]]:
        sealed, opened = tmp_path / f"{to}.nightbell", tmp_path / f"{to}.zip"
        secret = ("--passphrase", "correct horse battery staple")
        said = await hospital.bridge.command("hold", "export", placed.split()[-1], str(sealed), *by, *secret)
        await hospital.bridge.command("hold", "open", str(sealed), str(opened), *secret, configured=False)
        with zipfile.ZipFile(opened) as archive:
            return said, {each: archive.read(each) for each in archive.namelist()}

    said, documents = await handed_over("whole")
    assert "1 events of 1 pages, and 2 documents of their recordings and files" in said
    assert [content for each, content in documents.items() if each.endswith(".png")] == [PNG]
    assert json.loads(documents["manifest.json"])["missing"] == {}
    file = (await file_below(okafor, page)).content["file"]["url"].rsplit("/", 1)[-1]
    (hospital.synapse.media_path / "local_content" / file[:2] / file[2:4] / file[4:]).unlink()
    said, documents = await handed_over("without")
    assert "NOT in it: " in said
    assert list(json.loads(documents["manifest.json"])["missing"].values()) == [
        "the homeserver has it no more"
    ]
    await hospital.bridge.command("hold", "lift", placed.split()[-1], *by)
