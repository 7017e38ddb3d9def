"""A menu and a voicemail for calls at Twilio: what the bridge has its callers hear (TwiML).

https://www.twilio.com/docs/voice/twiml/gather, .../record. Twilio asks step by step, and signs each. What a caller has
pressed stands in the address of the next step, so that a restart in the middle of a call loses nothing of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from xml.etree.ElementTree import Element, SubElement, tostring

from pydantic import Field

from bridge.channels.channel import Answer, Request, Surroundings, intake_path, refusal
from bridge.channels.twilio_voice import call
from bridge.config.values import Duration, Section
from bridge.model.doors import Inbox, Receipt
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi
from bridge.model.priority import Priority

EMERGENCY_KEY = "1"
GATHER_SECONDS = 5
SETTLE_SECONDS = 5.0  # a call's end and its recording are told at once, in any order; Twilio waits for 15 s
MAX_PRESSED = 10_000  # calls whose key is remembered

Form = Mapping[str, str]
Step = Callable[[dict[str, str]], Awaitable[Answer]]
Take = Callable[[Request, dict[str, str]], Awaitable[Answer]]
Pressed = dict[str, None]  # the calls whose caller said that it is an emergency, in their order


class VoiceSettings(Section):
    """What callers hear."""

    greeting: str = Field(description="The first words, such as the practice's name and hours.")
    emergency: str = Field(
        default="If this is an emergency, press 1.",
        description="What offers the key 1, which makes the page a stat one; empty if it is not offered.",
    )
    message: str = Field(default="Please leave a message after the tone.", description="Before the tone.")
    goodbye: str = Field(default="Thank you. Goodbye.", description="After the message.")
    language: str = Field(default="en-US", description="The voice's language, as Twilio names it.")
    longest: Duration = Field(default=timedelta(minutes=2), description="The longest message.")


def menu(
    channel: ChannelId, settings: VoiceSettings, region: str | None, around: Surroundings, pressed: Pressed
) -> dict[str, Take]:
    """What is answered to each step of a call, by the end of its address. It notes in `pressed` who pressed the key."""
    desk = _Desk(channel, settings, region, around, pressed)
    steps = {
        "/voice": desk.greet,
        "/voice/message": desk.ask,
        "/voice/recorded": desk.keep,
        "/voice/recorded/stat": desk.keep_stat,
        "/voice/status": desk.end,
    }
    return {under: partial(desk.step, step) for under, step in steps.items()}


async def take_call(inbox: Inbox, event: IntakeEvent) -> Receipt:
    """Keep what became of a call, once for each CallSid; a message told long after the call's end is kept, too."""
    receipt = await inbox.accept(event)
    if event.kind is EventKind.VOICEMAIL and receipt.kind is not EventKind.VOICEMAIL:
        return await inbox.accept(message_besides(event))
    return receipt


def message_besides(event: IntakeEvent) -> IntakeEvent:
    """A message as an event of its own, where its call has become one without it."""
    return replace(event, key=Phi(f"{event.key.reveal()} message"))


def emergency(event: IntakeEvent | None, pressed: Pressed) -> IntakeEvent | None:
    """The event of a call, with what its caller pressed if that is remembered."""
    if event is None or event.key.reveal() not in pressed:
        return event
    digits = {**event.attributes, "digits": Phi(EMERGENCY_KEY)}
    return replace(event, priority=Priority.STAT, attributes=digits)


@dataclass(frozen=True, slots=True)
class _Desk:
    channel: ChannelId
    settings: VoiceSettings
    region: str | None
    around: Surroundings
    pressed: Pressed

    async def step(self, then: Step, request: Request, form: dict[str, str]) -> Answer:
        """A step of a call."""
        if form.get("CallSid"):
            return await then(form)
        kept = await self.around.inbox.keep_unreadable(
            self.channel, request.body, "Twilio sent what is no call"
        )
        return refusal(400, "unreadable_but_kept", "A call has CallSid.", id=kept.intake)

    async def greet(self, _: dict[str, str]) -> Answer:
        """The call has come."""
        said = Element("Response")
        if self.settings.emergency:
            attributes = {"numDigits": "1", "timeout": str(GATHER_SECONDS), "action": self._url("message")}
            gather = SubElement(said, "Gather", attributes)
            self._say(gather, f"{self.settings.greeting} {self.settings.emergency}")
        else:
            self._say(said, self.settings.greeting)
        SubElement(said, "Redirect").text = self._url("message")
        return _twiml("greeted", said)

    async def ask(self, form: dict[str, str]) -> Answer:
        """A key was pressed, or none in time: the message is recorded."""
        stat = bool(self.settings.emergency) and form.get("Digits") == EMERGENCY_KEY
        if stat:
            self._remember(form)
        onward = self._url("recorded/stat" if stat else "recorded")
        said = Element("Response")
        self._say(said, self.settings.message)
        longest = str(round(self.settings.longest.total_seconds()))
        SubElement(said, "Record", {"maxLength": longest, "playBeep": "true", "action": onward})
        SubElement(said, "Redirect").text = onward  # where nothing was said, there is no recording
        return _twiml("asked", said)

    async def keep(self, form: dict[str, str], priority: Priority | None = None) -> Answer:
        """The message was left, or none."""
        outcome = await self._take(form, priority)
        said = Element("Response")
        self._say(said, self.settings.goodbye)
        SubElement(said, "Hangup")
        return _twiml(outcome, said)

    async def keep_stat(self, form: dict[str, str]) -> Answer:
        """Likewise, in an emergency."""
        return await self.keep(form, Priority.STAT)

    async def end(self, form: dict[str, str]) -> Answer:
        """The call's state has changed. If it has ended, what was recorded may be told at the same time."""
        if form.get("CallStatus") not in _ENDED:
            return _twiml("ignored", Element("Response"))
        await asyncio.sleep(SETTLE_SECONDS)
        sid = form["CallSid"]
        priority = Priority.STAT if sid in self.pressed else None
        return _twiml(await self._take(form, priority), Element("Response"))

    async def _take(self, form: dict[str, str], priority: Priority | None) -> str:
        digits = {"Digits": EMERGENCY_KEY} if priority else {}
        told = {name: value for name, value in form.items() if name != "Digits"} | digits
        event = call(self.channel, told, self.region) or call(self.channel, told | _UNANSWERED, self.region)
        if event is None:  # one that was made, not one that came
            return "ignored"
        receipt = await take_call(self.around.inbox, replace(event, priority=priority))
        return "duplicate" if receipt.duplicate else "accepted"

    def _remember(self, form: Form) -> None:
        self.pressed[form["CallSid"]] = None
        if len(self.pressed) > MAX_PRESSED:
            del self.pressed[next(iter(self.pressed))]

    def _say(self, within: Element, text: str) -> None:
        SubElement(within, "Say", {"language": self.settings.language}).text = text

    def _url(self, step: str) -> str:
        return f"{self.around.public_url}{intake_path(self.channel)}/voice/{step}"


_ENDED = ("completed", "no-answer", "busy", "canceled", "failed")
_UNANSWERED = {"CallStatus": "no-answer"}


def _twiml(outcome: str, said: Element) -> Answer:
    return Answer(outcome, 200, tostring(said, encoding="unicode", xml_declaration=True), "text/xml")
