"""A small hospital whose configuration the tests bend to their purpose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from bridge.config import Config, parse
from bridge.model.decision import Decision, Move
from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import (
    ChannelId,
    IntakeId,
    LadderId,
    PageId,
    PersonId,
    RetentionClassId,
    RoleId,
    RuleId,
    TemplateId,
)
from bridge.model.page import Page, PageState
from bridge.model.phi import Phi, protect_optional
from bridge.model.priority import Priority

DIRECTORY = Path("config")
BERLIN = ZoneInfo("Europe/Berlin")
CARDIOLOGY = RoleId("cardiology")
ANA, BEN, CLEO, DORA = (PersonId(name) for name in ("ana", "ben", "cleo", "dora"))

NIGHTBELL: dict[str, Any] = {
    "homeserver": {"url": "http://hs", "server_name": "nightbell.test", "registration": "registration.yaml"},
    "listen": {"public_url": "http://bridge"},
    "database": {"url": "sqlite:///nightbell.db"},
    "keys": {"operator_key": "env:KEY"},
    "rooms": {"operations": {"members": ["@ops:nightbell.test"]}},
    "channels": {"sms": {"type": "twilio"}, "events": {"type": "webhook"}},
}
PEOPLE = {
    name: {"name": f"Dr. {name.title()} Meyer", "matrix": f"@{name}:nightbell.test"}
    for name in ("ana", "ben", "cleo", "dora")
}
ROUTING: dict[str, Any] = {
    "defaults": {"ladder": "standard", "template": "plain", "retention": "standard"},
    "fallback": {"role": "switchboard"},
    "ladders": {
        "standard": {
            "steps": [
                {"after": "1 min", "notify": "again"},
                {"after": "1 min", "notify": "next"},
                {"after": "2 min", "notify": "operations"},
            ]
        }
    },
    "templates": {"plain": {"lines": ["{priority} · {kind}", "From {caller_name} {caller}", "{body}"]}},
}


def role(name: str = "Cardiology on call", **changes: Any) -> dict[str, Any]:
    """A role of all four people, which Ana always holds; any key can be changed."""
    always = {
        "name": name,
        "room": {"name": name},
        "members": list(PEOPLE),
        "schedule": {"layers": [{"people": "ana"}]},
    }
    return always | changes


def documents(
    *,
    roles: Mapping[str, Any] | None = None,
    people: Mapping[str, Any] | None = None,
    zone: str = "Europe/Berlin",
    roster: Mapping[str, Any] | None = None,
    nightbell: Mapping[str, Any] | None = None,
    **routing: Any,
) -> dict[str, Any]:
    """The four files as values. Unnamed keyword arguments are keys of routing.yaml."""
    everybody = {name: person | (people or {}).get(name, {}) for name, person in PEOPLE.items()}
    all_roles = {"cardiology": role(), "switchboard": role("Switchboard")} | dict(roles or {})
    return {
        "nightbell.yaml": NIGHTBELL | dict(nightbell or {}),
        "roles.yaml": {"time_zone": zone, "people": everybody, "roles": all_roles} | dict(roster or {}),
        "routing.yaml": ROUTING | routing,
        "retention.yaml": {"classes": {"standard": {"keep": "30 days"}, "short": {"keep": "1 day"}}},
    }


def hospital(**changes: Any) -> Config:
    """The configuration of `documents`."""
    return parse({name: json.dumps(value) for name, value in documents(**changes).items()}, DIRECTORY)


def scheduled(*layers: Mapping[str, Any], zone: str = "Europe/Berlin", **changes: Any) -> Config:
    """A hospital whose cardiology has these layers. Further arguments are keys of its schedule or of the role."""
    schedule = {"layers": list(layers)}
    schedule |= {key: changes.pop(key) for key in ("overrides", "swaps") if key in changes}
    people, roster = changes.pop("people", None), changes.pop("roster", None)
    return hospital(
        roles={"cardiology": role(schedule=schedule, **changes)}, zone=zone, people=people, roster=roster
    )


def local(text: str, zone: str | ZoneInfo = BERLIN) -> datetime:
    """The UTC instant of a local time such as `2026-12-24 18:00`."""
    key = zone if isinstance(zone, ZoneInfo) else ZoneInfo(zone)
    return datetime.fromisoformat(text).replace(tzinfo=key).astimezone(UTC)


NOON = local("2026-11-24 12:00")


def event(
    body: str = "chest pain",
    *,
    channel: str = "sms",
    kind: EventKind = EventKind.TEXT,
    called: str | None = "+15550100",
    caller: str | None = "+15550200",
    caller_name: str | None = None,
    recipient: str | None = None,
    queue: str | None = None,
    language: str | None = None,
    priority: Priority | None = None,
    **attributes: str,
) -> IntakeEvent:
    """An intake event."""
    return IntakeEvent(
        channel=ChannelId(channel),
        key=Phi("SM1"),
        kind=kind,
        body=Phi(body),
        called=protect_optional(called),
        caller=protect_optional(caller),
        caller_name=protect_optional(caller_name),
        recipient=protect_optional(recipient),
        queue=protect_optional(queue),
        language=language,
        priority=priority,
        attributes={name: Phi(value) for name, value in attributes.items()},
    )


def decision(role_id: str = "cardiology", **changes: Any) -> Decision:
    """A decision for a role."""
    values: dict[str, Any] = {
        "rule": RuleId("r"),
        "role": RoleId(role_id),
        "priority": Priority.URGENT,
        "ladder": LadderId("standard"),
        "template": TemplateId("plain"),
        "retention": RetentionClassId("standard"),
        "why": (),
        "config_hash": "",
    }
    return Decision(**(values | changes))


def page(move: Move | None = None, **changes: Any) -> Page:
    """A page of cardiology that was opened at noon, after a move."""
    values: dict[str, Any] = {
        "id": PageId("p"),
        "intake": IntakeId("i"),
        "rule": RuleId("r"),
        "role": move.role if move else CARDIOLOGY,
        "priority": Priority.URGENT,
        "ladder": LadderId("standard"),
        "template": TemplateId("plain"),
        "retention": RetentionClassId("standard"),
        "config_hash": "",
        "state": PageState.OPEN,
        "opened_at": NOON,
        "step": move.step if move else 0,
        "notified": move.notify if move else (ANA,),
    }
    return Page(**(values | changes))
