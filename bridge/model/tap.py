"""The reactions under a page: what one thumb can say."""

from enum import StrEnum


class Tap(StrEnum):
    """A fixed set, since the homeserver can read every reaction (Matrix spec, 'Event annotations')."""

    ACCEPT = "✅"
    DECLINE = "❌"
    CALL_BACK = "☎️"
    CLOSE = "🏁"
    ONE = "1️⃣"
    TWO = "2️⃣"
    THREE = "3️⃣"
    FOUR = "4️⃣"
    FIVE = "5️⃣"
    SIX = "6️⃣"
    SEVEN = "7️⃣"
    EIGHT = "8️⃣"
    NINE = "9️⃣"


# Under a page that offers choices; any more of them are answered in words.
CHOICE_TAPS = (
    Tap.ONE,
    Tap.TWO,
    Tap.THREE,
    Tap.FOUR,
    Tap.FIVE,
    Tap.SIX,
    Tap.SEVEN,
    Tap.EIGHT,
    Tap.NINE,
)
