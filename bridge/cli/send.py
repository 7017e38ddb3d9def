"""`nightbell send`: a test event on a channel, made as its source makes one."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import urllib.error
import urllib.request
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Annotated
from uuid import uuid4

import typer

from bridge.channels import CHANNEL_TYPES, read_settings
from bridge.channels.asterisk import AsteriskSettings
from bridge.channels.asterisk_sample import announce
from bridge.channels.channel import NoSampleError, Probe, Request, intake_path
from bridge.channels.smtp import SmtpSettings
from bridge.channels.snpp import SnppSettings
from bridge.cli.check import CONFIG, ConfigDirectory, load_or_exit
from bridge.cli.reachable import reachable
from bridge.config.nightbell import Listen
from bridge.config.problems import did_you_mean
from bridge.config.values import Section
from bridge.model.errors import NightbellError
from bridge.model.event import EventKind
from bridge.model.ids import ChannelId

TIMEOUT_SECONDS = 10


def send(
    channel: Annotated[str, typer.Argument(help="The channel.")],
    text: Annotated[str, typer.Option(help="What it says.")] = "This is a test, please accept it.",
    to: Annotated[str, typer.Option(help="The number, role, pager or mailbox that it is for.")] = "test",
    kind: Annotated[EventKind | None, typer.Option(help="What it is, if the channel has more kinds.")] = None,
    config: ConfigDirectory = CONFIG,
) -> None:
    """Send a signed test event to the running bridge, and show its answer.

    It is a real page: whoever is on call for it gets it.
    """
    loaded = load_or_exit(config)
    section = loaded.channels.get(ChannelId(channel))
    if section is None:
        message = f'channel "{channel}" does not exist{did_you_mean(channel, loaded.channels)}'
        raise typer.BadParameter(message)
    listen = loaded.nightbell.listen
    url = listen.public_url.rstrip("/") + intake_path(ChannelId(channel))
    probe = Probe(url, uuid4().hex, datetime.now(UTC), text, to, kind)
    try:
        settings = read_settings(ChannelId(channel), section)
        taken, answer = sent(listen, section.type, settings, probe)
    except (NightbellError, OSError, smtplib.SMTPException) as error:
        typer.echo(f"nightbell: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(answer)
    if not taken:
        raise typer.Exit(1)


def sent(listen: Listen, type_: str, settings: Section, probe: Probe) -> tuple[bool, str]:
    """Whether the bridge took a test event, and what it, or its source, answered.

    Raises `NoSampleError` where none can be made, `SecretUnreadableError`, `OSError` and `smtplib.SMTPException`.
    """
    made = CHANNEL_TYPES[type_]
    if probe.kind not in (None, *made.kinds):
        raise NoSampleError(f"of {type_} there are test events of kind {' and '.join(made.kinds)}")
    if isinstance(settings, AsteriskSettings):
        return True, asyncio.run(announce(settings, probe))
    if isinstance(settings, SnppSettings):
        return _page(settings, probe)
    if isinstance(settings, SmtpSettings):
        return _mail(settings, probe)
    if made.sample is None:
        raise NoSampleError(f"of {type_} there are no test events")
    return _post(listen, made.sample(settings, probe))


def _post(listen: Listen, made: Request) -> tuple[bool, str]:
    address = f"http://{reachable(listen.host)}:{listen.port}{made.target}"
    body = made.body.reveal() or None
    request = urllib.request.Request(address, body, dict(made.headers))
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - likewise
            said = answer.read().decode()
            return "wctp-Failure" not in said, f"{answer.status} {said}".strip()
    except urllib.error.HTTPError as error:
        return False, f"{error.code} {error.read().decode()}"


def _page(settings: SnppSettings, probe: Probe) -> tuple[bool, str]:
    password = [f"LOGI nightbell {settings.secrets[0].read_text()}"] if settings.secrets else []
    text = " ".join(probe.text.split())
    caller = f"CALL {probe.caller}"
    lines = [*password, caller, f"PAGE {probe.recipient}", f"MESS {text}", "SEND", "QUIT"]
    place = (reachable(settings.host), settings.port)
    with socket.create_connection(place, TIMEOUT_SECONDS) as connection, connection.makefile("rb") as answers:
        connection.sendall("".join(f"{line}\r\n" for line in lines).encode())
        said = answers.read().decode()
    return "250 Page sent" in said, said.strip()


def _mail(settings: SmtpSettings, probe: Probe) -> tuple[bool, str]:
    domain = settings.domains[0]
    mail = EmailMessage()
    mail["From"] = Address(probe.caller_name, "nightbell", domain)
    mail["Subject"], mail["Message-ID"] = "Test", f"<{probe.key}@{domain}>"
    mail.set_content(probe.text)
    with smtplib.SMTP(reachable(settings.host), settings.port, timeout=TIMEOUT_SECONDS) as connection:
        if settings.certificate is not None:
            connection.starttls()
        connection.sendmail(f"nightbell@{domain}", f"{probe.recipient}@{domain}", mail.as_bytes())
    return True, "250 Paged"
