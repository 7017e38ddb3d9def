"""SNPP's level 3: a page whose client asks what became of it (RFC 1861, 4.6).

A message tag and its pass code are the two halves of the event's id, as numbers: who has them was given them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from bridge.channels.channel import Surroundings
from bridge.channels.choices import MOST, Choice, answer_attributes
from bridge.model.errors import StoreUnavailableError
from bridge.model.ids import ChannelId, IntakeId
from bridge.model.progress import Progress
from bridge.model.report import Standing

UNKNOWN_TAG = "550 Unknown message tag or pass code"
_LATER = "554 The status can't be read now, ask again"
_HALF = 2**64
READ_ACK, CODES = "read_ack", "reply_codes"


@dataclass(frozen=True, slots=True)
class TwoWay:
    """What a client wants to hear of the page that it is about to send."""

    read_ack: bool = False
    reply: str = "NONE"
    choices: tuple[Choice, ...] = ()

    @property
    def attributes(self) -> dict[str, str]:
        """What the event keeps of it."""
        said = answer_attributes(self.offered, text=self.reply == "TEXT")
        return said | {READ_ACK: "1" if self.read_ack else "", CODES: "1" if self.choices else ""}

    @property
    def offered(self) -> tuple[Choice, ...]:
        """The answers that a clinician may choose from."""
        return (("Yes", "Yes"), ("No", "No")) if self.reply == "YESNO" else self.choices


Said = tuple[TwoWay, str]  # what is known after a command, and its answer


def _read_ack(wanted: TwoWay, argument: str) -> Said:
    if argument not in ("0", "1"):
        return wanted, "550 It is 0 or 1"
    return replace(wanted, read_ack=argument == "1"), "250 Noted"


def _expire(wanted: TwoWay, argument: str) -> Said:
    if not re.fullmatch("[0-9]{1,3}", argument):
        return wanted, "550 A time is in hours"
    return wanted, "250 Noted: the page does not end, it climbs its ladder until somebody accepts it"


def _reply_type(wanted: TwoWay, name: str) -> Said:
    # As clients write them, at any length.
    known = {
        "NONE": "NONE",
        "YESN": "YESNO",
        "MULT": "MULTICHOICE",
        "SIMR": "TEXT",
        "TEXT": "TEXT",
        "FULL": "TEXT",
    }
    if name[:4] not in known:
        return wanted, "550 A reply is NONE, YESNO, MULTICHOICE or TEXT"
    return replace(wanted, reply=known[name[:4]]), "250 Reply type accepted"


def _choice(wanted: TwoWay, argument: str) -> Said:
    code, _, shown = argument.partition(" ")
    shown = " ".join(shown.split())
    if not re.fullmatch("[!-~]{1,2}", code) or not shown:
        return wanted, "550 A response is a code of two characters, and its text"
    if code in [told for _, told in wanted.choices]:
        return wanted, "503 There is a response with this code already"
    if len(wanted.choices) >= MOST:
        return wanted, "552 Too many responses"
    return replace(wanted, choices=(*wanted.choices, (shown, code))), "250 Response accepted"


# How a two-way page is to be treated.
WISHES: dict[str, Callable[[TwoWay, str], Said]] = {
    "ACKR": _read_ack,
    "EXPT": _expire,
    "MCRE": _choice,
    "NOQU": lambda wanted, _: (wanted, "250 Noted: the page is kept all the same until somebody has it"),
    "RTYP": _reply_type,
}


def queued(intake: IntakeId) -> str:
    """The answer to SEND: the page is durable, and this is how to ask for it."""
    tag, code = divmod(int(intake, 16), _HALF)
    return f"960 {tag} {code} OK, message queued for delivery"


async def status(around: Surroundings, channel: ChannelId, argument: str) -> str:
    """MSTA: how far a page has come, or what was answered to it last."""
    intake = _tagged(argument)
    try:
        standing = await around.standing(channel, intake) if intake is not None else None
    except StoreUnavailableError:
        return _LATER
    return _told(standing) if standing is not None else UNKNOWN_TAG


async def forget(around: Surroundings, channel: ChannelId, argument: str) -> str:
    """KTAG: the client asks no more. The page itself is not taken back."""
    intake = _tagged(argument)
    try:
        if intake is None or await around.standing(channel, intake) is None:
            return UNKNOWN_TAG
        await around.drop(channel, intake)
    except StoreUnavailableError:
        return _LATER
    return "250 The tag is forgotten; the page goes on"


def _tagged(argument: str) -> IntakeId | None:
    found = re.fullmatch("([0-9]{1,20}) +([0-9]{1,20})", argument, re.ASCII)
    if found is None or int(found[1]) >= _HALF or int(found[2]) >= _HALF:
        return None
    return IntakeId(f"{int(found[1]):016x}{int(found[2]):016x}")


def _told(standing: Standing) -> str:
    kept = standing.event.attributes if standing.event is not None else {}
    if standing.answers:
        number, last = len(standing.answers), standing.answers[-1]
        code = 888 if CODES in kept else 889
        return f"{code} {number} {_moment(last.at)} {' '.join(last.text.reveal().split())}"
    awaits_reply = "answers" in kept
    if standing.progress is Progress.READ:
        code, text = (870, "Read, awaiting reply") if awaits_reply else (881, "Delivered and read")
    elif standing.progress is Progress.DELIVERED and READ_ACK in kept:
        code, text = 860, "Delivered, awaiting read confirmation"
    elif standing.progress is Progress.DELIVERED:
        code, text = (861, "Delivered, awaiting reply") if awaits_reply else (880, "Delivered")
    else:
        code, text = 960, "Queued, awaiting delivery"
    return f"{code} 0 {_moment(standing.at)} {text}"


def _moment(at: datetime) -> str:
    return f"{at:%Y%m%d%H%M%S}+0000"
