"""An intake event: one thing that happened in the call center, normalised."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from bridge.model.attachment import Attachment
from bridge.model.ids import ChannelId
from bridge.model.phi import Phi, protect_optional, reveal_optional
from bridge.model.priority import Priority


class EventKind(StrEnum):
    """What happened."""

    TEXT = "text"
    VOICEMAIL = "voicemail"
    ABANDONED_CALL = "abandoned_call"
    MISSED_CALL = "missed_call"
    PAGE = "page"


@dataclass(frozen=True, slots=True)
class IntakeEvent:
    """What a channel hands to the inbox. Everything a person or a source wrote is `Phi`.

    `key` is the source's own id of the event and makes it idempotent within its channel. Numbers are E.164
    where they could be parsed, else as the source wrote them. `recipient` is a role or pager address that the
    source itself names (WCTP recipientID, a mail address, the `recipient` of a webhook). `attachments` are kept
    beside the event: one that is read back has none.
    """

    channel: ChannelId
    key: Phi[str]
    kind: EventKind
    body: Phi[str]
    caller: Phi[str] | None = None
    caller_name: Phi[str] | None = None
    called: Phi[str] | None = None
    recipient: Phi[str] | None = None
    queue: Phi[str] | None = None
    language: str | None = None
    priority: Priority | None = None
    occurred_at: datetime | None = None
    attributes: Mapping[str, Phi[str]] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()

    def texts(self) -> tuple[str, ...]:
        """All that a person or a source wrote, for the guard against saying it where others read."""
        one_by_one = (self.caller, self.caller_name, self.called, self.recipient, self.queue)
        written = (self.key, self.body, *filter(None, one_by_one), *self.attributes.values())
        return (*(value.reveal() for value in written), *self.attributes)

    def seal_form(self) -> Phi[bytes]:
        """The form in which the vault keeps the event."""
        document: dict[str, Any] = {
            "channel": self.channel,
            "key": self.key.reveal(),
            "kind": self.kind.value,
            "body": self.body.reveal(),
            "caller": reveal_optional(self.caller),
            "caller_name": reveal_optional(self.caller_name),
            "called": reveal_optional(self.called),
            "recipient": reveal_optional(self.recipient),
            "queue": reveal_optional(self.queue),
            "language": self.language,
            "priority": self.priority,
            "occurred_at": self.occurred_at.isoformat() if self.occurred_at else None,
            "attributes": {name: value.reveal() for name, value in self.attributes.items()},
        }
        return Phi(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())

    @classmethod
    def from_seal_form(cls, sealed: Phi[bytes]) -> IntakeEvent:
        """Read back what `seal_form` wrote."""
        document = json.loads(sealed.reveal())
        return cls(
            channel=ChannelId(document["channel"]),
            key=Phi(document["key"]),
            kind=EventKind(document["kind"]),
            body=Phi(document["body"]),
            caller=protect_optional(document["caller"]),
            caller_name=protect_optional(document["caller_name"]),
            called=protect_optional(document["called"]),
            recipient=protect_optional(document["recipient"]),
            queue=protect_optional(document["queue"]),
            language=document["language"],
            priority=Priority(document["priority"]) if document["priority"] else None,
            occurred_at=datetime.fromisoformat(document["occurred_at"]) if document["occurred_at"] else None,
            attributes={name: Phi(value) for name, value in document["attributes"].items()},
        )
