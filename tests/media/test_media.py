"""Recordings and pictures in the rooms: encrypted, below their page, playable; and the page waits for none of it."""

from __future__ import annotations

from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path

from testbed.clinician import Clinician
from testbed.element import Element
from testbed.hospital import Hospital
from tests.media.conftest import SMTP_PORT
from tests.media.listening import below, file_below, mail, played
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
    kept = rows(hospital, "SELECT state, mxc, sealed, file FROM attachment")
    assert kept
    for state, mxc, sealed, file in kept:
        assert (state, sealed, file) == ("uploaded", None, None)
        assert mxc.startswith("mxc://nightbell.test/")
