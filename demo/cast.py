"""The people at their clients, and which of them the configuration has on call now."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from bridge.config import Config, load
from bridge.model.ids import RoleId
from bridge.policy.schedule import on_call
from testbed.bridge import ROOT
from testbed.clinician import Clinician
from testbed.hospital import Hospital

ROLE = RoleId("cardiology")
PLAYED = ("okafor", "lindqvist", "operator")
YOURS = "moreau"  # no client of ours ever used it, so that a person's Element makes its identity


@dataclass(frozen=True, slots=True)
class Cast:
    """Who is logged in."""

    config: Config
    clients: Mapping[str, Clinician]
    reader: str
    """Who of them holds the role, and so is the one to read and accept."""

    @property
    def client(self) -> Clinician:
        return self.clients[self.reader]

    @property
    def operator(self) -> Clinician:
        return self.clients["operator"]

    def name(self, user: str) -> str:
        """A person's name in the configuration, or the account's."""
        people = self.config.roster.people.values()
        return next((person.name for person in people if person.matrix == user), user)

    @property
    def reader_name(self) -> str:
        return self.name(self.client.user_id)

    @property
    def room(self) -> str | None:
        """The role's room, once the person on call is in it."""
        name = self.config.roster.roles[ROLE].room.name
        rooms = self.client.client.rooms.values()
        return next((room.room_id for room in rooms if room.name == name), None)


async def log_in(hospital: Hospital) -> Cast:
    """Everybody at their own client, before anything is sent."""
    config = load(ROOT / "config")
    clients = {name: await hospital.clinician(name) for name in PLAYED}
    reader = next(person for person in on_call(config, ROLE, datetime.now(UTC)) if person in clients)
    return Cast(config, clients, reader)
