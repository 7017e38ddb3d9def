"""retention.yaml: how long content lives."""

from __future__ import annotations

from bridge.config.values import Duration, Section
from bridge.model.ids import RetentionClassId


class RetentionClass(Section):
    """How long the content of a page is kept after it was closed, here and on the homeserver."""

    keep: Duration
    description: str = ""


class RetentionConfig(Section):
    """retention.yaml."""

    classes: dict[RetentionClassId, RetentionClass]
