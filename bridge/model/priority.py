"""How urgent a page is."""

from enum import StrEnum


class Priority(StrEnum):
    """The three urgencies of clinical paging, most urgent first."""

    STAT = "stat"
    URGENT = "urgent"
    ROUTINE = "routine"

    @property
    def rank(self) -> int:
        """0 for STAT: lower goes first."""
        return list(Priority).index(self)
