"""The three panels: the call center, the homeserver, the clinician."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from demo.sound import Heard
from demo.stored import Search, Stored
from demo.wire import Exchange, Told
from testbed.clinician import Message, Reaction

SIDE_BY_SIDE = 120  # columns of the terminal; narrower ones get the panels below each other
CIPHERTEXT_SHOWN = 80
WORDS = r'Body=[^&]*|"body": "[^"]*"'
TITLES = ("what the call center sent", "what the homeserver stored")


def three(sent: RenderableType, stored: RenderableType, read: RenderableType, who: str, width: int) -> Group:
    """The panels beside each other where they fit."""
    titles = (*TITLES, f"what {who}'s own client reads")
    cells = (sent, stored, read)
    if width < SIDE_BY_SIDE:
        return Group(
            *(Panel(cell, title=title, title_align="left") for title, cell in zip(titles, cells, strict=True))
        )
    table = Table(box=box.ROUNDED, expand=True, header_style="bold")
    for title in titles:
        table.add_column(title, ratio=1, overflow="fold")
    table.add_row(*cells)
    return Group(table)


def sent(exchange: Exchange | None) -> RenderableType:
    """Request line, headers with the signature, body and answer."""
    if exchange is None:
        return Text("…", "dim")
    headers = Text()
    for name, value in exchange.headers.items():
        signed = "signature" in name.lower()
        headers.append(f"{name}: ", "dim").append(f"{value}\n", "bold yellow" if signed else "")
    body = Text(exchange.body.decode())
    body.highlight_regex(WORDS, "bold")
    answer = exchange.answer
    return Group(
        Text(exchange.line, "bold"),
        headers,
        body,
        Rule(style="dim"),
        Text.assemble(
            (f"{answer.status}", "bold green" if answer.accepted else "bold red"),
            f"  {answer.body}",
            (f"  after {exchange.seconds * 1000:.0f} ms", "dim"),
        ),
    )


def told(call: Told | None) -> RenderableType:
    """What the exchange has said of a call, the caller's own among it."""
    if call is None:
        return Text("…", "dim")
    events = Text(call.events, "dim")
    events.highlight_regex(r"(?m)^Event: .*$", "bold")
    events.highlight_regex(r"(?m)^CallerID(Num|Name): .*$", "not dim bold")
    return events


def stored(events: Sequence[Stored], search: Search | None) -> RenderableType:
    """The rows as the homeserver has them, and whether the words are anywhere in its files."""
    rows: list[RenderableType] = [row for event in events for row in (_row(event), Rule(style="dim"))]
    if search is not None:
        colour = "red" if search.found else "green"
        said = f"in all its files, {search.searched / 2**20:.1f} MiB, the words stand {search.found} times"
        rows.append(Text(said, colour))
    return Group(*rows) if rows else Text("…", "dim")


def _row(event: Stored) -> Text:
    row = Text.assemble((event.type, "bold"))
    relation = event.relation
    if "key" in relation:
        row.append(f"  {relation['key']}  in plain text", "yellow")
    elif relation:
        row.append(f"  {relation.get('rel_type', 'reply')}", "yellow")
    row.append("\nsender     ", "dim").append(event.sender)
    if event.ciphertext:
        row.append("\nalgorithm  ", "dim").append(str(event.content["algorithm"]))
        row.append("\nciphertext ", "dim").append(f"{event.ciphertext[:CIPHERTEXT_SHOWN]}…", "magenta")
        row.append(f"  {len(event.ciphertext)} characters", "dim")
    return row


def read(
    first: Message | None,
    latest: Message | None,
    taps: Sequence[Reaction],
    began: float | None,
    heard: Heard | None = None,
) -> RenderableType:
    """The message as it came, who tapped what under it, and what an edit made of it."""
    if first is None or latest is None:
        return Text("…", "dim")
    rows: list[RenderableType] = [Text(first.body)]
    if began is not None:
        rows.append(Text(f"\ndecrypted {first.seen - began:.2f} s after the request", "dim"))
    rows += [Text(f"{tap.key}  tapped by {tap.sender}") for tap in taps]
    if latest.edits:
        before = first.body.splitlines()
        changed = [line for line in latest.body.splitlines() if line not in before]
        rows += [
            Rule(style="dim"),
            Text("the message now says", "dim"),
            *(Text(line, "bold green") for line in changed),
        ]
    if heard is not None:
        rows += [
            Rule(style="dim"),
            Text.assemble(("🔊 ", ""), (heard.loudness, "bold green"), f"  {heard.seconds:.1f} s"),
            Text(
                f"decrypted in the page's thread, played to its end by ffmpeg; to hear it: {heard.file}",
                "dim",
            ),
        ]
    return Group(*rows)
