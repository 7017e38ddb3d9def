"""`python -m demo`: play the whole thing; `python -m demo text "..."`: send a text to the one that is running."""

import asyncio
import signal
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from demo import panels
from demo.state import DemoError, State
from demo.story import perform
from demo.wire import exchange
from testbed.bridge import ROOT, CommandFailedError
from testbed.callcenter import Sms, send_sms
from testbed.hospital import CARDIOLOGY_LINE
from testbed.process import ServerFailedError

StateDirectory = Annotated[Path, typer.Option("--state", help="Where keys, databases and logs are kept.")]
STATE = ROOT / "var/demo"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False)


@app.callback(invoke_without_command=True)
def play(
    context: typer.Context,
    state: StateDirectory = STATE,
    *,
    once: Annotated[
        bool, typer.Option("--once", help="End by itself, with 0 only if all was accepted.")
    ] = False,
    picture: Annotated[Path | None, typer.Option(help="Draw what was shown into this SVG file.")] = None,
) -> None:
    """Start a homeserver and the bridge, send two events, and show how they are decrypted and accepted."""
    if context.invoked_subcommand:
        return
    try:
        asyncio.run(_until_asked_to_stop(State(state.resolve()), once=once, picture=picture))
    except (DemoError, ServerFailedError, CommandFailedError) as error:
        console.print(Text.assemble(("failed: ", "bold red"), str(error)))
        raise typer.Exit(1) from None


@app.command()
def text(words: str, state: StateDirectory = STATE, to: str = CARDIOLOGY_LINE) -> None:
    """Send a patient's text to the running demo, signed as Twilio signs."""
    try:
        found = State(state.resolve())
        token = (found.bridge / "twilio_auth_token").read_text()
        url = f"{found.read_address()}/intake/clinic-sms"
        send = partial(send_sms, url=url, sms=Sms(words, to=to), auth_token=token)
        console.print(panels.sent(asyncio.run(exchange(send))))
    except DemoError as error:
        console.print(Text(str(error)))
        raise typer.Exit(1) from None


async def _until_asked_to_stop(state: State, *, once: bool, picture: Path | None) -> None:
    playing = asyncio.ensure_future(perform(console, state, once=once, picture=picture))
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        playing.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await playing
    except asyncio.CancelledError:
        if not stopped:
            raise
        if once:
            raise DemoError("stopped before its end") from None


if __name__ == "__main__":
    app()
