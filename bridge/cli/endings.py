"""How a command ends that could not do what it was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from bridge.model.errors import NightbellError


@contextmanager
def told() -> Iterator[None]:
    """Say what went wrong, in the error's own words, and exit with 1."""
    try:
        yield
    except NightbellError as error:
        typer.echo(f"nightbell: {error}", err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        if error.filename is None:
            raise
        typer.echo(f"nightbell: {error.filename}: {error.strerror}", err=True)
        raise typer.Exit(1) from None
