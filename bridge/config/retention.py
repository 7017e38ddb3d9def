"""retention.yaml: how long content lives."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from bridge.config.values import Duration, Section
from bridge.model.ids import RetentionClassId

OPERATIONS = RetentionClassId("operations")


class After(StrEnum):
    """What a lifetime counts from."""

    ARRIVAL = "arrival"
    ACCEPTED = "accepted"
    CLOSED = "closed"


class RetentionClass(Section):
    """How long the content of a page is kept, here and on the homeserver.

    `at_latest` counts from the arrival, whatever became of the page: what nobody ever closes goes, too.
    """

    keep: Duration
    after: After = After.CLOSED
    at_latest: Duration = timedelta(days=90)
    description: str = ""

    @model_validator(mode="after")
    def _ends_no_sooner_than_kept(self) -> Self:
        if self.at_latest < self.keep and "at_latest" in self.model_fields_set:
            raise ValueError("has at_latest before the time to keep is over")
        return self

    @property
    def longest(self) -> timedelta:
        """From arrival until it goes whatever happened."""
        return max(self.keep, self.at_latest)


class RetentionConfig(Section):
    """retention.yaml."""

    classes: dict[RetentionClassId, RetentionClass] = Field(min_length=1)
    sweep_every: Duration = timedelta(hours=1)

    def of(self, name: RetentionClassId) -> RetentionClass:
        """A class; one that the file does not know any more lives as long as the longest that it knows."""
        if name in self.classes:
            return self.classes[name]
        if name == OPERATIONS:
            return RetentionClass(keep=timedelta(days=30), after=After.ARRIVAL)
        return max(self.classes.values(), key=lambda each: each.longest)
