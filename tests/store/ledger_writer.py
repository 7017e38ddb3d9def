"""A process that appends to the ledger until it is killed."""

import asyncio
import sys
from datetime import UTC, datetime

from bridge.ledger import Action, Record
from bridge.store import ledger
from bridge.store.database import Database


async def main(url: str) -> None:
    database = Database(url)
    while True:
        async with database.write() as connection:
            now = datetime.now(UTC)
            await ledger.append(connection, [Record(Action.ROUTED), Record(Action.SENT)], now)


asyncio.run(main(sys.argv[1]))
