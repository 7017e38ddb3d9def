"""`nightbell keygen`: a fresh operator key."""

from __future__ import annotations

import typer

from bridge.vault import generate_operator_key


def keygen() -> None:
    """Print a fresh operator key: 32 random bytes as base64. Keep it apart from the database."""
    typer.echo(generate_operator_key())
