"""What belongs to an event and is no text: a recording, a picture, a file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from bridge.model.phi import Phi, protect_optional, reveal_optional

MOST = 10  # of one event


@dataclass(frozen=True, slots=True)
class Attachment:
    """One of an event's attachments.

    `content` is there if it came with the event. Otherwise `place` says where its channel can fetch it, in the
    channel's own terms. `type` is its media type (RFC 6838) as the source has it, or empty.
    """

    type: str = field(default="", repr=False)
    name: Phi[str] | None = None
    place: Phi[str] | None = None
    content: Phi[bytes] | None = None

    def seal_form(self) -> Phi[bytes]:
        """The form in which the vault keeps it: a line of JSON, then the content."""
        head = {
            "type": self.type,
            "name": reveal_optional(self.name),
            "place": reveal_optional(self.place),
            "content": self.content is not None,
        }
        content = self.content.reveal() if self.content is not None else b""
        return Phi(json.dumps(head).encode() + b"\n" + content)

    @classmethod
    def from_seal_form(cls, sealed: Phi[bytes]) -> Attachment:
        """Read back what `seal_form` wrote."""
        line, _, content = sealed.reveal().partition(b"\n")
        head = json.loads(line)
        return cls(
            type=head["type"],
            name=protect_optional(head["name"]),
            place=protect_optional(head["place"]),
            content=Phi(content) if head["content"] else None,
        )
