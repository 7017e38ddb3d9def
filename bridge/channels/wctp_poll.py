"""What a sender of WCTP that can't be reached fetches: `wctp-PollForMessages`, answered by `wctp-PollResponse`.

Giving settles nothing. A message is given again, under the same `sequenceNo` and `messageID`, until a later poll
says by `wctp-MessageReceived` that its poller has it: an answer that was lost on its way loses nothing.
"""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

from bridge.channels.channel import Surroundings
from bridge.channels.wctp_report import message, refused
from bridge.channels.xml import named
from bridge.model.errors import ReportError
from bridge.model.ids import ChannelId

POLL_RESPONSE = "wctp-PollResponse"
MOST = 100  # messages in an answer
MOST_CHARACTERS = 256 * 1024  # of an answer, unless its first message alone is longer
PAUSE = 5  # seconds after which it is worth while to poll again
_NUMBER = re.compile("[0-9]{1,18}")  # as the database counts


async def poll_response(
    around: Surroundings, channel: ChannelId, poller: str, poll: Element, version: str
) -> str:
    """What there is for a poller, after what it says to have received. Raises `StoreUnavailableError`."""
    if verdicts := _verdicts(poll):
        await around.received(channel, poller, verdicts)
    most = _wanted(poll.get("maxMessagesInBatch", ""))
    waiting = await around.waiting(channel, poller, most + 1)
    given: list[str] = []
    for one in waiting[:most]:
        told = f'<wctp-Message sequenceNo="{one.number}">{message(one.report, version)}</wctp-Message>'
        if given and sum(map(len, given)) + len(told) > MOST_CHARACTERS:
            break
        given.append(told)
    pause = 0 if len(waiting) > len(given) else PAUSE
    return (
        f'<{POLL_RESPONSE} minNextPollInterval="{pause}">'
        f"{''.join(given) or '<wctp-NoMessages/>'}</{POLL_RESPONSE}>"
    )


def _wanted(written: str) -> int:
    """How many messages a poller takes at once. Whatever is no such number is no bound of its own."""
    wanted = int(written) if written.isdecimal() and len(written) <= len(str(MOST)) else MOST
    return min(wanted or MOST, MOST)


def _verdicts(poll: Element) -> dict[int, ReportError | None]:
    """What became of messages that were given before: taken, or why not.

    Some clients write a `wctp-Confirmation` around the verdict, so that it is looked for wherever it stands.
    """
    verdicts: dict[int, ReportError | None] = {}
    for each in named(poll, "wctp-MessageReceived"):
        number = each.get("sequenceNo", "").strip()
        failure = next(named(each, "wctp-Failure"), None)
        success = next(named(each, "wctp-Success"), None)
        if _NUMBER.fullmatch(number) and (failure is not None or success is not None):
            verdicts[int(number)] = refused(failure) if failure is not None else None
    return verdicts
