"""A configuration of any number of roles, each with its own line and one clinician."""

import shutil
from pathlib import Path

from testbed.bridge import ROOT

ROLES = """\
time_zone: America/New_York
people:
  okafor: {{name: Dr. Ada Okafor, matrix: "@okafor:nightbell.test"}}
roles:
  switchboard:
    name: Switchboard
    room: {{name: Switchboard}}
    members: [okafor]
    schedule: {{layers: [{{people: okafor}}]}}
{roles}
"""
ROLE = """\
  role{number}:
    name: Role {number}
    room: {{name: Role {number}}}
    members: [okafor]
    schedule: {{layers: [{{people: okafor}}]}}
"""
ROUTING = """\
defaults: {{priority: urgent, ladder: patient, template: standard, retention: standard}}
rules:
{rules}
fallback: {{role: switchboard}}
ladders:
  patient:
    steps:
      - {{after: 1 h, notify: again}}
      - {{after: 1 h, notify: operations}}
templates:
  standard:
    lines: ["{{priority}} · {{kind}} · {{time}}", "From {{caller_name}} {{caller}}", "To {{called}}", "{{body}}"]
"""
RULE = """\
  - {{id: line{number}, when: {{called: "{line}"}}, then: {{role: role{number}}}}}
"""


def line(number: int) -> str:
    """The number that patients text to reach a role."""
    return f"+1555010{number:04d}"


def write_ward(directory: Path, roles: int) -> Path:
    """The example configuration with other roles and rules."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("nightbell.yaml", "retention.yaml"):
        shutil.copy(ROOT / "config" / name, directory)
    numbers = range(roles)
    written = "".join(ROLE.format(number=number) for number in numbers)
    (directory / "roles.yaml").write_text(ROLES.format(roles=written))
    rules = "".join(RULE.format(number=number, line=line(number)) for number in numbers)
    (directory / "routing.yaml").write_text(ROUTING.format(rules=rules))
    return directory
