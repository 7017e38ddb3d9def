"""A picture of who holds what, as SVG: a row for each role, a column for each day, gaps in red."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape
from importlib.resources import files

import resvg_py

from bridge.config import Config
from bridge.model.ids import RoleId
from bridge.policy.schedule import Change, Shift, shifts

# Light enough for black letters, and told apart by people who see red and green alike.
COLOURS = (
    "#8ecae6",
    "#ffd166",
    "#cdb4db",
    "#b5c99a",
    "#f4a261",
    "#e0c3a5",
    "#a8dadc",
    "#d4a5a5",
    "#c9cba3",
    "#bde0fe",
)
GAP = "#d00000"

_ZOOM = 2.0  # sharp on paper, and on screens with fine dots
_LABEL, _DAY, _ROW, _HEAD, _LETTER = 220, 90, 34, 30, 7


def draw(config: Config, edges: Sequence[datetime], changes: tuple[Change, ...] = ()) -> str:
    """The picture of all roles from the first of the days' beginnings until the last."""
    roles = list(config.roster.roles)
    width, height = _LABEL + _DAY * (len(edges) - 1), _HEAD + _ROW * len(roles) + 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"',
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *_days([edge.astimezone(config.roster.time_zone) for edge in edges], height),
    ]
    for number, role in enumerate(roles):
        parts += _row(config, role, edges, changes, y=_HEAD + _ROW * number)
    return "".join([*parts, "</svg>\n"])


def as_png(svg: str) -> bytes:
    """The same picture as PNG, its letters those of Noto Sans, which comes along; other scripts are the machine's."""
    fonts = [
        str(file) for file in (files("fontpkg_noto_sans") / "files").iterdir() if file.name.endswith(".ttf")
    ]
    return bytes(
        resvg_py.svg_to_bytes(svg_string=svg, zoom=_ZOOM, font_files=fonts, sans_serif_family="Noto Sans")
    )


def _days(edges: Sequence[datetime], height: int) -> Iterator[str]:
    for number, edge in enumerate(edges[:-1]):
        x = _LABEL + _DAY * number
        yield f'<line x1="{x}" y1="0" x2="{x}" y2="{height}" stroke="#ddd"/>'
        yield f'<text x="{x + 6}" y="20">{edge:%a %d %b}</text>'


def _row(
    config: Config, role: RoleId, edges: Sequence[datetime], changes: tuple[Change, ...], *, y: int
) -> Iterator[str]:
    yield f'<text x="8" y="{y + 22}">{escape(config.roster.roles[role].name)}</text>'
    for shift in shifts(config, role, edges[0], edges[-1], changes):
        start, until = (_place(edges, moment) for moment in (shift.start, shift.until))
        yield _block(config, shift, start, until - start, y)


def _block(config: Config, shift: Shift, x: float, width: float, y: int) -> str:
    people = list(config.roster.people)
    holder = shift.holders[0] if shift.holders else None
    name = config.roster.people[holder].name if holder else "nobody"
    fill = COLOURS[people.index(holder) % len(COLOURS)] if holder else GAP
    ink = "black" if holder else "white"
    shown = name[: max(0, int(width - 8) // _LETTER)]
    zone = config.roster.zone(shift.role)
    times = " - ".join(f"{edge.astimezone(zone):%a %d %b %H:%M}" for edge in (shift.start, shift.until))
    return (
        f"<g><title>{escape(f'{name}, {times}')}</title>"
        # A gap of a minute must still be seen.
        f'<rect x="{x:.1f}" y="{y + 3}" width="{max(width, 2):.1f}" height="{_ROW - 6}" rx="4" fill="{fill}"/>'
        f'<text x="{x + 6:.1f}" y="{y + 22}" fill="{ink}">{escape(shown)}</text></g>'
    )


def _place(edges: Sequence[datetime], moment: datetime) -> float:
    """Where a moment stands; each day is as wide as the next, however long it is."""
    number = next((n for n, edge in enumerate(edges[1:]) if moment < edge), len(edges) - 2)
    day, following = edges[number], edges[number + 1]
    return _LABEL + _DAY * (number + (moment - day) / (following - day))
