"""The demo from its first server to its last: set up, two events, two calls, and then whatever its guest sends."""

import re
from functools import partial
from io import StringIO
from pathlib import Path

from rich.console import Console, Group
from rich.rule import Rule
from rich.text import Text

from demo import guest
from demo.cast import Cast, log_in
from demo.pbx import Pbx
from demo.scene import PATIENCE_SECONDS, Scene
from demo.state import BRIDGE_PORT, HOMESERVER_PORT, METRICS_PORT, DemoError, State, if_free
from demo.waiting import Steps, shown
from testbed.bridge import ROOT
from testbed.callcenter import Sms
from testbed.hospital import CARDIOLOGY_LINE, Hospital
from testbed.process import tail

TEXT = "My chest hurts since dinner and my left arm is numb"
EVENT = {
    "kind": "voicemail",
    "body": "Telemetry saw a pause of three seconds on bed 12, please ring the ward",
    "recipient": "cardiology",
    "caller": {"number": "+15550002222", "name": "Ward 4 West"},
}
GAVE_UP, LEFT_WORD = "Maria Lopez", "Ana Souza"  # the callers' names
PICTURE_COLUMNS = 126


async def perform(console: Console, state: State, *, once: bool, picture: Path | None) -> None:
    """Play everything. Raises DemoError if an event was not decrypted and accepted."""
    with state.taken():
        steps = Steps(console)
        pbx = Pbx(state.pbx)
        await pbx.open()
        hospital = Hospital(
            state.directory,
            config=pbx.configured(ROOT / "config"),
            ports=(if_free(HOMESERVER_PORT), if_free(BRIDGE_PORT), if_free(METRICS_PORT)),
            progress=steps,
        )
        try:
            console.print(Rule("a homeserver, a bridge, and people at their own clients", align="left"))
            async with shown(console, steps, lambda: steps):
                cast = await _set_up(hospital, steps)
            first, second, third, fourth = _scenes(console, hospital, cast)
            await first.play(partial(hospital.bridge.send_sms, sms=Sms(TEXT, to=CARDIOLOGY_LINE)))
            if picture:
                _draw(picture, steps, first)
            await second.play(partial(hospital.bridge.send_event, event=EVENT))
            await third.play_call(pbx.abandoned)
            await fourth.play_call(pbx.voicemail, state.recording)
            if not once:
                watch = guest.Watch(console, hospital, cast)
                state.address.write_text(hospital.bridge.base_url)
                await guest.receive(watch, hospital, cast, pbx)
        except DemoError:
            console.print(Text(tail(hospital.bridge.log_path), "dim"))
            raise
        finally:
            console.print("stopping the bridge and Synapse")
            await hospital.close()
            await pbx.close()


async def _set_up(hospital: Hospital, steps: Steps) -> Cast:
    await hospital.open(bridge=False)
    # Before the bridge: it makes the rooms at its start, and says of each whether anybody in it could read.
    steps("everybody's own client")
    cast = await log_in(hospital)
    steps("the bridge")
    await hospital.bridge.start()
    await hospital.bridge.until_bell_ready()
    steps(f"{cast.reader_name} to be in the room")
    await cast.client.wait_for(lambda: cast.room, PATIENCE_SECONDS)
    steps.done()
    return cast


def _scenes(console: Console, hospital: Hospital, cast: Cast) -> tuple[Scene, Scene, Scene, Scene]:
    return (
        Scene(console, hospital, cast, "A patient's text, signed by Twilio", TEXT),
        Scene(
            console,
            hospital,
            cast,
            "Another system's event, signed per Standard Webhooks",
            str(EVENT["body"]),
        ),
        Scene(console, hospital, cast, "A caller who gave up waiting, as Asterisk tells of it", GAVE_UP),
        Scene(console, hospital, cast, "A voicemail, as Asterisk tells of it, and its recording", LEFT_WORD),
    )


def _draw(picture: Path, steps: Steps, scene: Scene) -> None:
    paper = Console(record=True, width=PICTURE_COLUMNS, file=StringIO())
    paper.print(Group(steps, Text(), scene.frame(PICTURE_COLUMNS)))
    drawn = paper.export_svg(title="make demo", unique_id="demo")
    # A picture that fetches nothing: the reader's own monospaced font does.
    picture.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL))
