"""What goes wrong is logged by its kind and place: no message of a library's, and no value."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SECRET = "Quixana Zobrist"
# Each a way in which a value comes near the log.
MISHAPS = {
    "a crash in a loop": """
        def step(): int(SECRET)
        try: step()
        except ValueError: structlog.get_logger().exception("loop_step_crashed", error="ValueError")
    """,
    "a crash because of another": """
        try:
            try: int(SECRET)
            except ValueError as error: raise KeyError(SECRET) from error
        except KeyError: structlog.get_logger().exception("crashed")
    """,
    "a crash of several": """
        try: raise ExceptionGroup("several", [ValueError(SECRET), KeyError(SECRET)])
        except ExceptionGroup: structlog.get_logger().exception("crashed")
    """,
    "a crash with a note": """
        error = ValueError("x"); error.add_note(SECRET)
        try: raise error
        except ValueError: structlog.get_logger().exception("crashed")
    """,
    "a protected value": """
        structlog.get_logger().warning("odd", value=Phi(SECRET), more=[Phi(SECRET)])
    """,
    "a library's crash": """
        try: int(SECRET)
        except ValueError: logging.getLogger("library").exception("it failed")
    """,
    "a library's talk": """
        for name in ("mau.crypto", "mau.client", "aiosqlite", "sqlalchemy.engine", "aiohttp.access", "asyncio"):
            logging.getLogger(name).info("talk: %s", SECRET)
            logging.getLogger(name).debug("talk: %s", SECRET)
        logging.getLogger("library").debug("talk: %s", SECRET)
        logging.getLogger("library").info("talk: %s", SECRET)
    """,
    "a library's complaint": """
        logging.getLogger("library").warning("it found %s", SECRET)
        logging.getLogger("library").error(f"it found {SECRET}")
        logging.getLogger("library").error(ValueError(SECRET))
        logging.getLogger("library").warning("it is %d", SECRET)
        warnings.warn(SECRET)
    """,
    "a refusal of the database": """
        engine = sqlalchemy.create_engine("sqlite://")
        table = sqlalchemy.Table("t", sqlalchemy.MetaData(), sqlalchemy.Column("a", sqlalchemy.Text, unique=True))
        with engine.connect() as connection:
            table.create(connection)
            try: connection.execute(table.insert(), [{"a": SECRET}, {"a": SECRET}])
            except sqlalchemy.exc.IntegrityError: structlog.get_logger().exception("crashed")
    """,
    "a refusal of PostgreSQL": """
        detail = {"S": "ERROR", "C": "23505", "M": "duplicate key", "D": f"Key (a)=({SECRET}) already exists."}
        try: raise asyncpg.PostgresError.new(detail)
        except asyncpg.UniqueViolationError: structlog.get_logger().exception("crashed")
    """,
    "a refusal of the homeserver": """
        try: raise mautrix.errors.make_request_error(403, SECRET, "M_FORBIDDEN", SECRET)
        except mautrix.errors.MForbidden: structlog.get_logger().exception("crashed")
    """,
    "a value that does not validate": """
        class Model(pydantic.BaseModel): number: int
        try: Model(number=SECRET)
        except pydantic.ValidationError: structlog.get_logger().exception("crashed")
    """,
    "an address that is none": """
        async def main():
            async with aiohttp.ClientSession() as session:
                try: await session.get(f"{SECRET}://x")
                except aiohttp.InvalidURL: structlog.get_logger().exception("crashed")
                try: await session.get(f"http://127.0.0.1:1/{SECRET}")
                except aiohttp.ClientConnectorError: structlog.get_logger().exception("crashed")
        run(main)
    """,
    "bytes that are no JSON, and no text": """
        for read in (json.loads, lambda text: text.encode().decode("utf-16")):
            try: read(SECRET)
            except ValueError: structlog.get_logger().exception("crashed")
    """,
    "a file that is not there": """
        async def main(): open(SECRET)
        run(main)
    """,
    "a failure as something is thrown away": """
        class Thing:
            def __del__(self): raise ValueError(SECRET)
        Thing(); gc.collect()
    """,
    "a failure of a thread": """
        def fail(): raise ValueError(SECRET)
        thread = threading.Thread(target=fail); thread.start(); thread.join()
    """,
    "a task that nobody awaits": """
        async def main():
            async def fail(): raise ValueError(SECRET)
            asyncio.create_task(fail())
            await asyncio.sleep(0.05)
            gc.collect()
        run(main)
    """,
    "a callback that fails": """
        async def main():
            def fail(value): raise ValueError(value)
            asyncio.get_running_loop().call_soon(fail, SECRET)
            await asyncio.sleep(0.05)
        run(main)
    """,
    "the end of the bridge": """
        async def main(): raise ValueError(SECRET)
        run(main)
    """,
    "the end of the bridge by several": """
        async def main():
            async def fail(): raise KeyError(SECRET)
            async with asyncio.TaskGroup() as group: group.create_task(fail())
        run(main)
    """,
}
# The errors that each trace names.
TOLD: dict[str, list[str]] = {
    "a crash in a loop": ["ValueError"],
    "a crash because of another": ["KeyError", "ValueError"],
    "a crash of several": ["ValueError", "KeyError"],
    "a crash with a note": ["ValueError"],
    "a protected value": [],
    "a library's crash": ["ValueError"],
    "a library's talk": [],
    "a library's complaint": [],
    "a refusal of the database": ["IntegrityError", "IntegrityError"],
    "a refusal of PostgreSQL": ["UniqueViolationError"],
    "a refusal of the homeserver": [],
    "a value that does not validate": ["ValidationError"],
    "an address that is none": ["InvalidUrlClientError", "ClientConnectorError", "ConnectionRefusedError"],
    "bytes that are no JSON, and no text": ["JSONDecodeError", "UnicodeDecodeError"],
    "a file that is not there": [],
    "a failure as something is thrown away": ["ValueError"],
    "a failure of a thread": ["ValueError"],
    "a task that nobody awaits": ["ValueError"],
    "a callback that fails": ["ValueError"],
    "the end of the bridge": ["ValueError"],
    "the end of the bridge by several": ["KeyError"],
}
PROGRAM = """
import asyncio, gc, json, logging, sys, threading, warnings
from textwrap import dedent
import aiohttp, asyncpg, mautrix.errors, pydantic, sqlalchemy, structlog, typer
from bridge.cli import run as command
from bridge.cli.logs import configure_logging, watch_the_process
from bridge.model.phi import Phi

SECRET, mishaps, form = sys.argv[1:]
configure_logging("debug", form)
watch_the_process()

def run(main):
    app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)
    app.command()(lambda: command.until_it_ends(main))
    try: app(args=[])
    except SystemExit as end: print("exit code", end.code, file=sys.stderr)

for mishap in json.loads(mishaps):
    print("NEXT", file=sys.stderr)
    exec(dedent(mishap))
"""


@pytest.fixture(scope="module", params=["console", "json"])
def said(request: pytest.FixtureRequest) -> dict[str, str]:
    """What a process writes at each mishap."""
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-c", PROGRAM, SECRET, json.dumps(list(MISHAPS.values())), request.param],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    return dict(zip(MISHAPS, done.stdout.split("NEXT\n")[1:], strict=True))


@pytest.mark.parametrize("mishap", MISHAPS)
def test_the_log_tells_of_a_mishap_without_its_values(said: dict[str, str], mishap: str) -> None:
    assert "Quixana" not in said[mishap]
    assert re.findall(r"\b[A-Z]\w+Error\b", said[mishap].partition("trace")[2]) == TOLD[mishap]


@pytest.mark.parametrize("mishap", ["the end of the bridge", "the end of the bridge by several"])
def test_an_end_that_nobody_asked_for_is_a_failure(said: dict[str, str], mishap: str) -> None:
    assert "exit code 1" in said[mishap]
