"""When a person's devices were last seen: by Synapse's admin API, or by presence where the bot may not ask that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from mautrix.api import Method

from bridge.matrix.homeserver import Homeserver, path
from bridge.model.errors import HomeserverError
from bridge.model.ids import UserId


async def last_active(homeserver: Homeserver, user: UserId, now: datetime) -> datetime | None:
    """When any device of a person last asked the homeserver for something. None if it does not tell.

    Synapse's admin API, 'List all devices' (`last_seen_ts`, exact to some minutes); Matrix spec, 'Presence'
    (`last_active_ago`). Raises HomeserverError only if it is away.
    """
    try:
        where = f"_synapse/admin/v2/users/{quote(user, safe='')}/devices"
        devices = (await homeserver.request(Method.GET, where))["devices"]
        seen = [device["last_seen_ts"] for device in devices if device.get("last_seen_ts")]
        return datetime.fromtimestamp(max(seen) / 1000, UTC) if seen else None
    except HomeserverError as error:
        if error.retry and error.code != "M_UNRECOGNIZED":
            raise
    try:
        presence = await homeserver.request(Method.GET, path("presence", user, "status"))
    except HomeserverError as error:
        if error.retry and error.code != "M_UNRECOGNIZED":
            raise
        return None
    ago = presence.get("last_active_ago")
    return now - timedelta(milliseconds=ago) if isinstance(ago, int) else None
