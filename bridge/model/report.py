"""What the source of an event is told of it: how far its page has come, and what a clinician answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bridge.model.event import IntakeEvent
from bridge.model.ids import IntakeId
from bridge.model.phi import Phi
from bridge.model.progress import Progress


class ReportKind(StrEnum):
    """What a report tells."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    READ = "read"
    ANSWER = "answer"
    DROPPED = "dropped"  # the source wants to hear no more


@dataclass(frozen=True, slots=True)
class Answered:
    """A clinician's answer. `choice` says which of the choices that the event offered, counted from 0."""

    text: Phi[str]
    choice: int | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """How far an event has come, and what was answered to it, the oldest answer first.

    `event` is the event itself, None once its content is destroyed.
    """

    progress: Progress
    at: datetime
    answers: tuple[Answered, ...] = ()
    event: IntakeEvent | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One thing to tell a source. Told again, it has the same `id`; `answer` is there for an answer alone."""

    id: str
    kind: ReportKind
    event: IntakeEvent
    intake: IntakeId
    at: datetime
    answer: Answered | None = None


@dataclass(frozen=True, slots=True)
class Fetches:
    """The source is not told, but fetches what there is to tell, under this name of its own."""

    poller: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A report that waits to be fetched. It has the same `number` each time, until the source has taken it."""

    number: int
    report: Report


# Tells a source; False if it does not want to know. Raises `ReportError`.
Reporter = Callable[[Report], Awaitable[bool | Fetches]]

# An event that names these attributes has a source to which a clinician can answer.
ANSWERABLE = "answers"  # "choice": one of the choices; "text": whatever they write
CHOICES = "choices"  # what is offered, a line for each
REPLIES = "choice_replies"  # likewise, what the source is told in the place of each


def choices_of(event: IntakeEvent) -> list[str]:
    """What an event offers as answers."""
    offered = event.attributes.get(CHOICES)
    return offered.reveal().split("\n") if offered is not None else []
