"""How far a page has come, as its source may ask."""

from enum import StrEnum


class Progress(StrEnum):
    """The last that is certain; each includes those before it."""

    QUEUED = "queued"  # durable, and on its way
    DELIVERED = "delivered"  # a trusted device of somebody on call could decrypt it
    READ = "read"  # somebody has read or accepted it
