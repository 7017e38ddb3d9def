"""One parser under atheris, which follows what the code does: python -m tests.channels.fuzz NAME RUNS FOLDER."""

import logging
import sys

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]
import structlog

with atheris.instrument_imports(include=["bridge.channels", "bridge.model", "defusedxml", "xml"]):
    from tests.channels.parsers import PARSERS

INPUT_SECONDS = 5
MEMORY_MB = 1024
MAX_LENGTH = 16 * 1024


def main() -> None:
    name, runs, folder = sys.argv[1:]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    parse, _ = PARSERS[name]
    limits = [f"-timeout={INPUT_SECONDS}", f"-rss_limit_mb={MEMORY_MB}", f"-max_len={MAX_LENGTH}"]
    atheris.Setup([sys.argv[0], f"-runs={runs}", *limits, f"-artifact_prefix={folder}/", folder], parse)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
