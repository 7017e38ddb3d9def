"""What a Twilio account knows of its texts and calls: the lists of its REST API.

https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources,
https://www.twilio.com/docs/voice/api/call-resource#read-multiple-call-resources,
https://www.twilio.com/docs/voice/api/recording#read-multiple-recording-resources,
https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource (who answers a number's calls),
https://www.twilio.com/docs/usage/api/applications,
https://www.twilio.com/docs/voice/api/call-event-resource (what Twilio asked about a call, and was answered).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

from bridge.channels.asking import Asking, Provider
from bridge.channels.fetching import basic_auth
from bridge.channels.twilio_media import listed_pictures
from bridge.model.errors import NothingThereError

PAGE_SIZE = 200
EVENTS_AFTER = timedelta(minutes=16)  # Twilio has a call's events fifteen minutes after its end
LONGEST_CALL = timedelta(hours=4)  # Twilio's own bound: what was recorded in a call is no older than the call

Form = dict[str, str]


@dataclass(frozen=True, slots=True)
class Account:
    """An account that can be asked."""

    api: str
    sid: str
    token: str = field(repr=False)

    async def happened(
        self, numbers: Iterable[str], since: datetime, until: datetime, menu: str | None = None
    ) -> list[Form]:
        """The texts that came to these numbers and the calls to them that ended, as Twilio's callbacks tell of them.

        `menu` is the address at which the bridge itself answers calls: who left nothing there has reached nobody.
        Raises `SourceError`.
        """
        within = _Within(since, until)
        forms: list[Form] = []
        async with self._provider().asking() as asking:
            recordings: dict[str, Mapping[str, Any]] | None = None
            for number in numbers:
                texts = await self._list(asking, "Messages", {"To": number, **within.filters("DateSent")})
                forms += [
                    self._text(one) for one in texts if _came_in(one) and within.holds(one.get("date_sent"))
                ]
                ended = await self._ended(asking, number, within)
                if not ended:
                    continue
                if recordings is None:
                    earlier = _Within(since - LONGEST_CALL, until).filters("DateCreated")
                    recordings = _messages(await self._list(asking, "Recordings", earlier))
                ours = menu is not None and await self._is_answered_at(asking, number, menu)
                forms += [self._call(one, recordings.get(str(one.get("sid"))), ours=ours) for one in ended]
        return forms

    async def told(
        self,
        numbers: Iterable[str],
        since: datetime,
        until: datetime,
        address: str,
        is_known: Callable[[str], Awaitable[bool]],
    ) -> list[list[Form]]:
        """What Twilio told this address of each call that ended then and is not known, or tried to.

        Of a call that a list has as completed, nothing else says that its caller gave up in a queue, or that nobody
        answered a `<Dial>`. The moments must be `EVENTS_AFTER` ago. Raises `SourceError`.
        """
        found = []
        async with self._provider().asking() as asking:
            for number in numbers:
                for call in await self._ended(asking, number, _Within(since, until)):
                    sid = str(call.get("sid"))
                    if call.get("status") != "completed" or await is_known(sid):
                        continue
                    with suppress(NothingThereError):
                        events = await self._list(
                            asking, f"Calls/{quote(sid, safe='')}/Events", {}, key="events"
                        )
                        found.append([form for one in events if (form := _callback(one, address))])
        return found

    async def _ended(self, asking: Asking, number: str, within: _Within) -> list[Mapping[str, Any]]:
        calls = await self._list(asking, "Calls", {"To": number, **within.filters("EndTime")})
        return [one for one in calls if _came_in(one) and within.holds(one.get("end_time"))]

    async def _is_answered_at(self, asking: Asking, number: str, menu: str) -> bool:
        """Whether a number's calls come to this address, by the number's own settings or its application's."""
        owned = await self._list(
            asking, "IncomingPhoneNumbers", {"PhoneNumber": number}, key="incoming_phone_numbers"
        )
        for one in owned:
            answering: Mapping[str, Any] = one
            if application := one.get("voice_application_sid"):
                place = self._place(f"Applications/{quote(str(application), safe='')}")
                answering = await asking.get(place, "Applications")
            if _where(answering.get("voice_url")) == _where(menu):
                return True
        return False

    async def _list(
        self, asking: Asking, name: str, filters: Mapping[str, str], *, key: str = ""
    ) -> list[Mapping[str, Any]]:
        place = f"{self._place(name)}?{urlencode({**filters, 'PageSize': PAGE_SIZE})}"
        what = name.rpartition("/")[2]  # without the id of a call
        return await asking.listed(place, what, key or name.lower(), lambda page: page.get("next_page_uri"))

    def _provider(self) -> Provider:
        return Provider("Twilio", self.api, basic_auth(self.sid, self.token), "account_sid and auth_token")

    def _place(self, name: str) -> str:
        return f"/2010-04-01/Accounts/{self.sid}/{name}.json"

    def _text(self, text: Mapping[str, Any]) -> Form:
        told = {"MessageSid": "sid", "From": "from", "To": "to", "Body": "body", "NumMedia": "num_media"}
        form = _form({name: text.get(field) for name, field in told.items()})
        pictures = self._place(f"Messages/{quote(form.get('MessageSid', ''), safe='')}/Media")
        return form | listed_pictures(self.api.rstrip("/") + pictures, form)

    def _call(self, call: Mapping[str, Any], recording: Mapping[str, Any] | None, *, ours: bool) -> Form:
        told = {
            "CallSid": call.get("sid"),
            "From": call.get("from"),
            "To": call.get("to"),
            "CallStatus": call.get("status"),
            "CallerName": call.get("caller_name"),
            "Direction": "inbound",
        }
        if recording is not None:
            told |= {
                "RecordingSid": recording.get("sid"),
                "RecordingUrl": urljoin(self.api, str(recording.get("uri", "")).removesuffix(".json")),
                "RecordingDuration": recording.get("duration"),
                "RecordingSource": recording.get("source"),
                "RecordingStatus": recording.get("status"),
            }
        elif ours:
            told["CallStatus"] = "no-answer"  # Twilio calls it completed, since the menu answered
        return _form(told)


@dataclass(frozen=True, slots=True)
class _Within:
    since: datetime
    until: datetime

    def filters(self, name: str) -> dict[str, str]:
        """As Twilio's own SDK writes them: the sign stands in the parameter's name."""
        return {f"{name}>": _written(self.since), f"{name}<": _written(self.until + timedelta(seconds=1))}

    def holds(self, written: Any) -> bool:
        """Whether a moment of the list lies within; what can't be read does, so that it is not lost."""
        try:
            moment = parsedate_to_datetime(str(written))
        except ValueError:
            return True
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return self.since.replace(microsecond=0) <= moment <= self.until


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _came_in(one: Mapping[str, Any]) -> bool:
    return one.get("direction") == "inbound"


def _messages(recordings: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The message that was left in each call, the longest if there are several; no conversation that was recorded."""
    found: dict[str, Mapping[str, Any]] = {}
    for one in recordings:
        call = str(one.get("call_sid"))
        if one.get("source") == "RecordVerb" and _seconds(one) >= _seconds(found.get(call, {})):
            found[call] = one
    return found


def _seconds(recording: Mapping[str, Any]) -> int:
    seconds = str(recording.get("duration") or "")
    return int(seconds) if seconds.isdecimal() and len(seconds) < len("100000") else 0


def _callback(event: Mapping[str, Any], address: str) -> Form:
    """The form that Twilio posted to this address; empty if it asked another one."""
    request = event.get("request")
    if not isinstance(request, dict) or _where(request.get("url")) != _where(address):
        return {}
    parameters = request.get("parameters")
    told = parameters.items() if isinstance(parameters, dict) else ()
    return _form({"".join(map(str.capitalize, str(name).split("_"))): value for name, value in told})


def _where(url: Any) -> tuple[str | None, str]:
    try:
        parts = urlsplit(str(url or ""))
    except ValueError:
        return None, ""
    return parts.hostname, parts.path.rstrip("/")


def _form(told: Mapping[str, Any]) -> Form:
    return {name: str(value) for name, value in told.items() if value is not None}
