"""roles.yaml: people, roles, who holds a role when, and holidays."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

import holidays as holiday_library
from dateutil.rrule import rrulestr
from pydantic import BeforeValidator, Field, model_validator

from bridge.config.ladders import LadderChoice
from bridge.config.times import Times
from bridge.config.values import (
    Day,
    Duration,
    LocalPath,
    LocalTime,
    Section,
    Zone,
    one_or_more,
    parse_date,
)
from bridge.model.ids import PersonId, RoleId, UserId

Names = Annotated[tuple[str, ...], one_or_more]


def _user_id(value: Any) -> str:
    if not re.fullmatch(r"@[a-z0-9._=/+-]+:[A-Za-z0-9.:\[\]-]+", str(value)):
        raise ValueError("should be a Matrix user such as @okafor:example.org")
    return str(value)


MatrixUser = Annotated[UserId, BeforeValidator(_user_id)]


class Period(Section):
    """From a local time until just before another."""

    start: LocalTime = Field(alias="from")
    until: LocalTime

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.until <= self.start:
            raise ValueError("ends before it begins")
        return self


class Leave(Period):
    """A time in which a person holds nothing, in the hospital's zone."""

    reason: str = ""


class Person(Section):
    """Somebody who can be on call."""

    name: str
    matrix: MatrixUser
    leave: tuple[Leave, ...] = ()


_EVERY = re.compile(r"(?:(\d+)\s+)?(hour|day|week)s?")


def interval_of(text: str) -> timedelta:
    """The length of `day`, `2 weeks`, `12 hours`. Raises `ValueError`."""
    match = _EVERY.fullmatch(text)
    count = int(match[1] or 1) if match else 0
    if match is None or count == 0:
        raise ValueError("should be a day, week, 2 weeks, 12 hours, or an RRULE:... of RFC 5545")
    return count * timedelta(**{f"{match[2]}s": 1})


class HandOff(Section):
    """When a rotation moves on to its next person, by the clock on the wall of the role's zone.

    The first person of the list begins at `from`; before it, the rotation has nobody.
    """

    every: str
    start: LocalTime = Field(alias="from")

    @model_validator(mode="after")
    def _recurs(self) -> Self:
        if not self.every.startswith("RRULE:"):
            interval_of(self.every)
        elif re.search("FREQ=(MINUTE|SECOND)LY", self.every):
            raise ValueError("hands off more often than every hour")
        else:
            try:
                rrulestr(self.every, dtstart=self.start)
            except (ValueError, TypeError) as error:
                raise ValueError(f"has a recurrence that RFC 5545 does not know: {error}") from None
        return self


class Layer(Section):
    """A part of a schedule: people in rotation, or an imported calendar, at all times or at some."""

    id: str | None = None
    people: Names = ()
    hand_off: HandOff | None = None
    calendar: str | None = None
    only: Times | None = None
    except_: Times | None = Field(None, alias="except")
    start: LocalTime | None = Field(None, alias="from")
    until: LocalTime | None = None

    @model_validator(mode="after")
    def _has_one_source_of_people(self) -> Self:
        if bool(self.people) == bool(self.calendar):
            raise ValueError("needs either people or a calendar")
        if self.calendar and self.hand_off:
            raise ValueError("takes its hand-offs from its calendar: leave hand_off away")
        return self


class Override(Period):
    """Somebody holds a role for a time, whatever the layers say. The times are in the role's zone."""

    holder: str
    reason: str = ""


class Swap(Period):
    """Two people hold each other's shifts of a role for a time. The times are in the role's zone."""

    people: tuple[str, str]

    @model_validator(mode="after")
    def _has_two_people(self) -> Self:
        if self.people[0] == self.people[1]:
            raise ValueError("needs two people: each holds what the other would")
        return self


class Schedule(Section):
    """Who holds a role when: the first layer that has somebody. Overrides go before all layers."""

    layers: tuple[Layer, ...] = Field(min_length=1)
    overrides: tuple[Override, ...] = ()
    swaps: tuple[Swap, ...] = ()


class RoomConfig(Section):
    """A role's room. Its name can be read by the homeserver, so that it says the duty and nothing else."""

    name: str
    members: Literal["roster", "on_duty"] = "roster"


class NamedRoom(Section):
    """A room that rules may name instead of a role's own, such as one that rings louder."""

    name: str
    members: Names = Field(min_length=1)


class Role(Section):
    """An on-call duty. `members` are who may be paged for it, in the order in which a ladder climbs."""

    name: str
    room: RoomConfig
    stat_room: str | None = None
    members: Names = Field(min_length=1)
    schedule: Schedule
    time_zone: Zone | None = None
    backup: PersonId | None = None
    ladder: LadderChoice | None = None


class CalendarConfig(Section):
    """An iCalendar file, or an address to fetch it from. `people` says who a title or an attendee is."""

    file: LocalPath | None = None
    url: str | None = None
    refresh: Duration = timedelta(minutes=15)
    people: dict[str, PersonId] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_one_origin(self) -> Self:
        if bool(self.file) == bool(self.url):
            raise ValueError("needs either a file or a url")
        return self


class HolidayCalendar(Section):
    """The public holidays of a country and state, and the hospital's own days.

    A day of its own is written `2026-12-24`, or `12-24` for every year.
    """

    country: str | None = None
    state: str | None = None
    days: dict[str, str] = Field(default_factory=dict)
    except_: Annotated[tuple[Day, ...], one_or_more] = Field((), alias="except")

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        supported = holiday_library.list_supported_countries()
        if self.country is not None and self.country not in supported:
            raise ValueError(f"has an unknown country {self.country}: give its two letters, such as US or DE")
        if self.state is not None and self.state not in supported.get(self.country or "", ()):
            known = ", ".join(supported.get(self.country or "", ()))
            raise ValueError(f"has an unknown state {self.state}; {self.country or 'no country'} has {known}")
        for day in self.days:
            parse_date(day if len(day) > 5 else f"2024-{day}")  # noqa: PLR2004 - MM-DD; 2024 has a 29 February
        return self


class Roster(Section):
    """roles.yaml."""

    time_zone: Zone
    people: dict[PersonId, Person]
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    roles: dict[RoleId, Role]
    rooms: dict[str, NamedRoom] = Field(default_factory=dict)
    holidays: dict[str, HolidayCalendar] = Field(default_factory=dict)
    calendars: dict[str, CalendarConfig] = Field(default_factory=dict)
    seen_within: Duration = timedelta(hours=24)

    def zone(self, role: RoleId) -> Zone:
        """The time zone in which a role's schedule is written."""
        return self.roles[role].time_zone or self.time_zone

    def persons(self, names: Iterable[str]) -> tuple[PersonId, ...]:
        """People and groups of people, as people: in order, each once."""
        flat = (person for name in names for person in self.groups.get(name, (name,)))
        return tuple(dict.fromkeys(PersonId(person) for person in flat))

    def person_of(self, user: UserId) -> PersonId | None:
        """The person whose Matrix account this is."""
        return next((id_ for id_, person in self.people.items() if person.matrix == user), None)
