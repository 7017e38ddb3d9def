"""What strangers may send, in numbers, for each parser that reads before it knows who speaks."""

from __future__ import annotations

import asyncio
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.channels.parsers import BY_ATHERIS, GUIDED, LONG, PARSERS, QUICK

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("inputs", [QUICK, pytest.param(LONG, marks=pytest.mark.slow)])
def test_no_input_breaks_a_parser(name: str, inputs: int) -> None:
    parse, known = PARSERS[name]
    cut = st.integers(0, 4000)

    @settings(max_examples=inputs, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(known), cut, cut, st.binary(max_size=20))
    def run(seed: bytes, begin: int, end: int, noise: bytes) -> None:
        parse(seed[:begin] + noise + seed[end:])

    run()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has no wheel for this Python")
@pytest.mark.parametrize("name", GUIDED)
async def test_no_input_that_follows_the_code_breaks_a_parser_or_takes_its_time_or_memory(
    name: str, tmp_path: Path
) -> None:
    for number, seed in enumerate(PARSERS[name][1]):
        (tmp_path / str(number)).write_bytes(seed)
    command = (sys.executable, "-m", "tests.channels.fuzz", name, str(BY_ATHERIS), str(tmp_path))
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode(errors="replace")[-3000:]
    assert f"Done {BY_ATHERIS} runs" in said.decode(errors="replace")


def test_the_numbers_stand_in_the_documentation() -> None:
    page = (ROOT / "docs" / "doors.md").read_text()
    for number in (QUICK, LONG, BY_ATHERIS):
        assert f"**{number:,}**" in page
