"""The reactions under a page: what one thumb can say."""

from enum import StrEnum


class Tap(StrEnum):
    """A fixed set, since the homeserver can read every reaction (Matrix spec, 'Event annotations')."""

    ACCEPT = "✅"
    DECLINE = "❌"
    CALL_BACK = "☎️"
    CLOSE = "🏁"
