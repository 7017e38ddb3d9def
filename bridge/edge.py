"""The Matrix edge, built on the open house: what reads, encrypts and sends, and how the rooms are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from bridge.engine.desk import Desk
from bridge.engine.situation import is_known
from bridge.house import House
from bridge.matrix.courier import MatrixCourier
from bridge.matrix.encryption import Encryption
from bridge.matrix.rooms import RoomPlan, Rooms
from bridge.matrix.sync import Sync
from bridge.model.doors import Destination
from bridge.model.errors import HomeserverError
from bridge.model.ids import PersonId, UserId
from bridge.policy.schedule import room_members


@dataclass(frozen=True, slots=True)
class Edge:
    """The parts of the Matrix edge."""

    sync: Sync
    encryption: Encryption
    rooms: Rooms
    courier: MatrixCourier

    @classmethod
    def of(cls, house: House, desk: Desk) -> Edge:
        """Build them."""
        trust, now = house.config.nightbell.encryption.trust, desk.now
        encryption = Encryption(house.machine, house.database, trust, now)
        rooms = Rooms(house.homeserver, house.database, now, members_changed=encryption.forget_audiences)
        courier = MatrixCourier(house.homeserver, encryption, rooms, partial(room_plan, desk), now)
        return cls(Sync(house.homeserver, house.database, now), encryption, rooms, courier)


def room_plan(desk: Desk, destination: Destination) -> RoomPlan:
    """How the configuration in force wants a destination's room. Raises HomeserverError if it has none any more."""
    config = desk.rulebook().config
    rooms, encryption, roster = config.nightbell.rooms, config.nightbell.encryption, config.roster
    people: tuple[PersonId, ...] = ()
    members: frozenset[UserId] = frozenset()
    if not is_known(config, destination):
        message = f"the configuration has no {destination} any more"
        raise HomeserverError(message, retry=False)
    if destination.role is not None:
        name = roster.roles[destination.role].room.name
        on_duty = room_members(config, destination.role, desk.now(), desk.situation.changes)
        people = (*on_duty, *desk.situation.called_in(destination.role))
    elif destination.room is not None:
        name = roster.rooms[destination.room].name
        people = roster.persons(roster.rooms[destination.room].members)
    else:
        name, members = rooms.operations.name, frozenset(rooms.operations.members)
    return RoomPlan(
        destination,
        name,
        (members or frozenset(roster.people[person].matrix for person in people)) - desk.situation.leavers,
        federate=rooms.federate,
        rotate_after_ms=round(encryption.rotate_after.total_seconds() * 1000),
        rotate_after_messages=encryption.rotate_after_messages,
    )
