"""The command line. The module of a command is imported when it is run, so that help is instant."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import typer

# A command's name, the module that has a function for it, and its line in the help. `call-back` is run by
# the function `call_back`.
COMMANDS = {
    "run": ("bridge.cli.run", "Run the bridge."),
    "reload": ("bridge.cli.reload", "Have the running bridge take the configuration as it now is."),
    "check": ("bridge.cli.check", "Look for mistakes in the configuration, and for minutes without anybody."),
    "explain": ("bridge.cli.explain", "Show what would happen to an event, step by step."),
    "oncall": ("bridge.cli.oncall", "Show who holds which role."),
    "calendar": ("bridge.cli.calendar", "Draw who holds which role in the coming days."),
    "replay": ("bridge.cli.replay", "Route past events by a new configuration, and show what would differ."),
    "registration": ("bridge.cli.registration", "Write the appservice registration, with fresh tokens."),
    "keygen": ("bridge.cli.keygen", "Print a fresh operator key."),
    "identity": ("bridge.cli.identity", "Create, recover or show the bot's encryption identity."),
    "doctor": ("bridge.cli.doctor", "Examine configuration, homeserver and people."),
    "leakcheck": (
        "bridge.cli.leakcheck",
        "Plant canaries through the front door, and look for them everywhere.",
    ),
    "ledger": ("bridge.cli.ledger", "Show, export or verify the record of what happened."),
    "retention": ("bridge.cli.retention", "Show what will go, when and why, and the proof of what went."),
    "hold": ("bridge.cli.hold", "Keep content from going: legal holds, and their export."),
    "vault": ("bridge.cli.vault", "Show the vault's keys, or change the operator's key."),
    "offboard": ("bridge.cli.offboard", "Take a person out of every room and every key, at once."),
    "break-glass": (
        "bridge.cli.break_glass",
        "Read a page's content in an emergency; it is told and recorded.",
    ),
    "send": ("bridge.cli.send", "Send a test event on a channel: a real page for whoever is on call."),
    "channels": ("bridge.cli.channels", "List the channels, their addresses and last events."),
    "capture": (
        "bridge.cli.capture",
        "Record a channel's raw traffic for a time, or show what was recorded.",
    ),
    "health": ("bridge.cli.health", "Ask the running bridge how it is."),
}


def main() -> None:
    """Run the command that was asked for."""
    app = typer.Typer(
        name="nightbell",
        help="Calls and texts of a call center, as end-to-end encrypted pages to whoever is on call.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_show_locals=False,  # they may hold content
    )
    app.callback()(_nothing)  # keeps a single command a command
    for name, (module, line) in COMMANDS.items():
        passed_on = {"allow_extra_args": True, "ignore_unknown_options": True}
        app.command(name, help=line, add_help_option=False, context_settings=passed_on)(_runs(module, name))
    app()


def _nothing() -> None:
    pass


def _runs(module: str, name: str) -> Callable[[typer.Context], None]:
    def run(context: typer.Context) -> None:
        found = importlib.import_module(module)
        command = getattr(found, "app", None)  # of a command that has commands of its own
        if not isinstance(command, typer.Typer):
            command = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)
            command.command()(getattr(found, name.replace("-", "_")))
        command(args=context.args, prog_name=context.command_path)

    return run
