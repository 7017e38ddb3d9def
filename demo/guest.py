"""The demo's guest: how to log in, what to type, and everything that comes of it."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bridge.model.event import EventKind, IntakeEvent
from bridge.model.ids import ChannelId
from bridge.model.page import PageState
from bridge.model.phi import Phi
from bridge.policy.commands import help_line
from bridge.policy.ladder import plan
from bridge.policy.rendering import duration
from bridge.policy.routing import compile_rules, route
from demo.cast import PLAYED, YOURS, Cast
from demo.pbx import Pbx
from demo.scene import ACCEPT
from demo.stored import newest, stored_after
from testbed.clinician import Clinician, Message
from testbed.hospital import CARDIOLOGY_LINE, Hospital, password

ANOTHER = '.venv/bin/python -m demo text "I feel faint"'  # fits a narrow terminal whole
VOICEMAIL = "v"
LOOK_SECONDS = 0.2
CIPHERTEXT_SHOWN = 60


class Watch:
    """Prints what the homeserver stores and what is read, once each."""

    def __init__(self, console: Console, hospital: Hospital, cast: Cast) -> None:
        self.console = console
        self._database = hospital.synapse.database_path
        self._position = newest(self._database)
        self._readers = {cast.reader_name: cast.client, "the operator": cast.operator}
        self._cast = cast
        self._known = {key for client in self._readers.values() for key in map(_state, client.messages)}

    def look(self) -> None:
        """Print what is new."""
        for event in stored_after(self._database, self._position):
            self._position = event.position
            shown = Text(f"{event.ciphertext[:CIPHERTEXT_SHOWN]}…", "magenta")
            if not event.ciphertext:
                key = event.relation.get("key", "")
                shown = Text(f"{key} of {self._cast.name(event.sender)}, in plain text", "yellow")
            self._print("stored", event.type, shown)
        for name, client in self._readers.items():
            for message in client.messages:
                if (state := _state(message)) not in self._known:
                    self._known.add(state)
                    self._print("read", name, Text(message.body, "bold" if message.edits else ""))

    def _print(self, what: str, who: str, shown: Text) -> None:
        row = Table.grid(padding=(0, 2))
        row.add_row(Text(f"{datetime.now().astimezone():%H:%M:%S}", "dim"), f"{what:6}", f"{who:18}", shown)
        self.console.print(row)


async def receive(watch: Watch, hospital: Hospital, cast: Cast, pbx: Pbx) -> None:
    """Tell the guest what to do, and show what comes of it, until the demo is ended."""
    watch.console.print(guide(hospital, cast))
    with _entered() as lines:
        while True:
            watch.look()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    line = await lines.get()
                if line == VOICEMAIL:
                    await pbx.voicemail()
                else:
                    await accept_all(cast.client, hospital.bot)


async def accept_all(client: Clinician, bot: str) -> None:
    """The person on call taps every page that waits."""
    for message in client.messages:
        if message.sender == bot and help_line(PageState.OPEN) in message.body:
            await client.react(message.event_id, ACCEPT)


def guide(hospital: Hospital, cast: Cast) -> Panel:
    """What there is to do now."""
    yours = f"{YOURS}   password  {password(YOURS)}"
    played = "\n".join(f"{name}   password  {password(name)}" for name in PLAYED)
    rows = Table.grid(padding=(0, 2))
    rows.add_row("homeserver", hospital.synapse.base_url)
    rows.add_row(
        "for you",
        f"{yours}\nLog in with Element. No client has used this account before, so that Element makes its identity "
        f"and your session is verified: the next text arrives in it.",
    )
    rows.add_row(
        "played here",
        f"{played}\nThese have an identity already: a new Element would ask for it, or to reset it.",
    )
    rows.add_row("another text", f"{ANOTHER}\nin a second terminal, in this directory; watch it arrive here")
    rows.add_row(
        "a voicemail", f"type {VOICEMAIL} and Enter here: a caller leaves a message, to be heard in the room"
    )
    rows.add_row(
        "to accept it", f"press Enter here ({cast.reader_name} taps {ACCEPT}), or tap {ACCEPT} in Element"
    )
    rows.add_row("or wait", _ladder(cast))
    rows.add_row("to end", "Ctrl-C; the next start is quick, and everything is still there")
    rows.columns[0].style = "bold"
    return Panel(rows, title="now you", title_align="left", border_style="green")


def _ladder(cast: Cast) -> str:
    """The way up of a page that nobody accepts, as the configuration has it now."""
    began = datetime.now(UTC)
    line = IntakeEvent(ChannelId("clinic-sms"), Phi(""), EventKind.TEXT, Phi(""), called=Phi(CARDIOLOGY_LINE))
    decision = route(compile_rules(cast.config), line, began).primary
    steps = []
    due = began
    for move in plan(cast.config, decision, began):
        people = ", ".join(cast.config.roster.people[person].name for person in move.notify)
        steps.append(f"{duration(due - began)}  {people or 'the operations room'}")
        due = move.next_due or due
    return "nobody accepts, and it climbs:\n" + "\n".join(steps)


def _state(message: Message) -> tuple[str, int]:
    return message.event_id, message.edits


@contextmanager
def _entered() -> Iterator[asyncio.Queue[str]]:
    """The lines that are typed; none, where nobody sits at a keyboard."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    if not sys.stdin.isatty():
        yield lines
        return

    loop = asyncio.get_running_loop()

    def read() -> None:
        if line := sys.stdin.readline():
            lines.put_nowait(line.strip())
        else:
            loop.remove_reader(sys.stdin)

    loop.add_reader(sys.stdin, read)
    try:
        yield lines
    finally:
        loop.remove_reader(sys.stdin)
