"""A new configuration while the bridge runs: all of it or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress

import structlog

from bridge.config import Config, ConfigError, Problem, load, with_calendars
from bridge.config.values import SecretUnreadableError
from bridge.engine import operations
from bridge.engine.calendars import CalendarUnavailableError, complete, fetch
from bridge.engine.desk import Desk
from bridge.engine.rulebook import Rulebook
from bridge.ledger import Action, Record
from bridge.policy.proof import prove
from bridge.store import ledger, pages, reloads
from bridge.vault import VaultError

SHOWN_PROBLEMS = 5
NEEDS_RESTART = " nightbell.yaml has changed too: but for its keys, what it says holds after a restart."

log = structlog.get_logger(__name__)


class Reload:
    """Loads, checks and takes a configuration when it was asked to. A bad one changes nothing."""

    def __init__(
        self,
        desk: Desk,
        *,
        take_keys: Callable[[Config], Awaitable[str]],
        refused: Callable[[Config], Iterable[Problem]] = lambda _: (),
    ) -> None:
        self._desk = desk
        self._refused = refused
        self._take_keys = take_keys
        self._asked = False

    def ask(self) -> None:
        """Somebody wants a reload: by SIGHUP, or by a word in the operations room."""
        self._asked = True
        self._desk.bells.reload.ring()

    async def step(self) -> float | None:
        """Reload if it was asked for, and tell the operations room what came of it."""
        async with self._desk.database.read() as connection:
            commands = await reloads.waiting(connection)
        if not self._asked and not commands:
            return None
        self._asked = False
        taken, said = await self._reload()
        async with self._desk.database.write() as connection:
            await reloads.answer(connection, commands, said)
            await operations.tell(connection, self._desk.keys, said, self._desk.now())
            objects = {"config": self._desk.rulebook().config.hash}
            outcome = "taken" if taken else "refused"
            record = Record(Action.CONFIG_LOADED, objects=objects, outcome=outcome)
            await ledger.append(connection, [record], self._desk.now())
        self._desk.bells.decided()
        return None

    async def _reload(self) -> tuple[bool, str]:
        present = self._desk.rulebook().config
        try:
            config = await complete(await asyncio.to_thread(load, present.directory), self._desk.database)
            async with self._desk.database.read() as connection:
                _keeps(config, await pages.names_in_use(connection))
            book = await asyncio.to_thread(self._checked, await self._fetched(config))
        except ConfigError as error:
            shown = "\n".join(str(problem) for problem in error.problems[:SHOWN_PROBLEMS])
            log.warning("config_refused", problems=len(error.problems))
            return False, _kept(present, shown)
        self._desk.rulebook.replace(book)
        known = await self._known_keys(book.config)  # after it: they may take their time, or not be to be had
        was = present.nightbell.model_copy(update={"keys": book.config.nightbell.keys})
        restart = NEEDS_RESTART if book.config.nightbell != was else ""
        log.info("config_loaded", hash=book.config.hash)
        return True, f"Configuration {book.config.hash[:12]} is in force.{known}{restart}"

    async def _known_keys(self, config: Config) -> str:
        """Have the operator's keys read again. Returns what to say of them."""
        try:
            return await self._take_keys(config)
        except (VaultError, SecretUnreadableError) as error:
            log.warning("operator_keys_refused", reason=str(error))
            return f" ⚠️ The operator's keys were not taken again, and those known before stay. {error}."

    async def _fetched(self, config: Config) -> Config:
        """With the calendars that nobody has fetched yet, so far as they can be: a roster may stand in them."""
        for name, calendar in config.roster.calendars.items():
            if calendar.url is not None and name not in config.calendars:
                with suppress(CalendarUnavailableError):
                    config = with_calendars(config, {name: await fetch(calendar.url)})
        return config

    def _checked(self, config: Config) -> Rulebook:
        problems = (*self._refused(config), *prove(config, self._desk.now()).problems)
        if problems:
            raise ConfigError(problems)
        return Rulebook.of(config)


def _kept(present: Config, why: str) -> str:
    return f"⚠️ The new configuration was not taken; {present.hash[:12]} stays in force.\n{why}"


def _keeps(config: Config, in_use: Mapping[str, set[str]]) -> None:
    """Raise ConfigError if something is gone without which open pages could neither climb nor be answered."""
    known: dict[str, tuple[str, str, Collection[str]]] = {
        "role": ("roles.yaml", "roles", config.roster.roles),
        "ladder": ("routing.yaml", "ladders", config.routing.ladders),
        "template": ("routing.yaml", "templates", config.routing.templates),
    }
    missing: list[Problem] = [
        config.sources[file].problem(
            (section,), f'{kind} "{name}" is gone, and open pages need it: close them first, or keep it'
        )
        for kind, (file, section, names) in known.items()
        for name in sorted(in_use[kind] - set(names))
    ]
    if missing:
        raise ConfigError(missing)
