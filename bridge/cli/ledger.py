"""`nightbell ledger`: what happened, shown, handed over, and verified by somebody who has only the public key."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TextIO

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge import ledger as chain
from bridge.anchors import read_certificates, stamped_at
from bridge.cli.administrators import By, DryRun, Duty, require
from bridge.cli.check import CONFIG, ConfigDirectory, load_or_exit
from bridge.cli.disclosures import DISCLOSURE_COLUMNS, disclosed
from bridge.cli.endings import told
from bridge.cli.numbers import NO_SUCH_NUMBER, given_number
from bridge.house import Archive, open_archive
from bridge.ledger import Action, LedgerChangedError, Link, Record
from bridge.model.errors import AnchorError
from bridge.model.ids import PageId
from bridge.store import holds
from bridge.store import ledger as rows
from bridge.store.inbox import CALLER

COLUMNS = ("seq", "at", "actor", "action", "page", "patient", "objects", "outcome", "hash")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="The record of what happened.",
)


class Format(StrEnum):
    """How records are written."""

    JSONL = "jsonl"
    CSV = "csv"


PublicKey = Annotated[
    str, typer.Option(help="64 hexadecimal digits, or a file with them; from: nightbell ledger public-key")
]


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="An export in JSONL; - reads it from the input.")],
    public_key: PublicKey,
    anchor: Annotated[
        Path | None, typer.Option(help="Signatures that were kept elsewhere, or an earlier export.")
    ] = None,
    timestamp_certificates: Annotated[
        Path | None, typer.Option(help="The certificates of the authority that stamped it (PEM).")
    ] = None,
) -> None:
    """Follow the chain of an export, without the database; exit with 1 at the first record that does not fit."""
    key = given_key(public_key)
    stamped = _stamps(timestamp_certificates) if timestamp_certificates else None
    # What is not text is a line that is no record, and is named as such.
    with told(), nullcontext(sys.stdin) if str(file) == "-" else file.open(errors="replace") as lines:
        anchors = anchor.read_text(errors="replace").splitlines() if anchor else []
        verdict = chain.verify(lines, key, anchors=anchors, stamped=stamped)
    begin = f"after the checkpoint of record {verdict.after}" if verdict.after else "from the beginning"
    typer.echo(
        f"{verdict.records} records {begin}, up to record {verdict.last}; signed up to {verdict.vouched}"
    )
    if verdict.stamped_at is not None:
        typer.echo(
            f"record {verdict.stamped} and all before it stood at {verdict.stamped_at:%Y-%m-%d %H:%M:%S}Z"
        )
    if verdict.problem:
        typer.echo(f"NOT INTACT: {verdict.problem}", err=True)
        raise typer.Exit(1)
    if verdict.vouched < verdict.last:
        typer.echo(f"No signature vouches for what came after record {verdict.vouched}.", err=True)
        raise typer.Exit(1)


@app.command()
def export(
    output: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
    form: Annotated[
        Format, typer.Option("--format", help="jsonl can be verified, csv only read.")
    ] = Format.JSONL,
    config: ConfigDirectory = CONFIG,
) -> None:
    """Write the whole ledger, signed where it ends."""
    with told(), output.open("w", encoding="utf-8", newline="") if output else nullcontext(sys.stdout) as out:
        asyncio.run(_export(config, form, out))


@app.command()
def prune(
    by: By = "",
    *,
    dry_run: DryRun = False,
    config: ConfigDirectory = CONFIG,
) -> None:
    """Let records go that are older than `ledger.keep`; what remains still verifies. The bridge does it by itself."""
    if not (by or dry_run):
        raise typer.BadParameter("--by is needed: pruning is recorded; or look first with --dry-run")
    with told():
        asyncio.run(_prune(config, by, dry_run=dry_run))


@app.command("public-key")
def public_key(config: ConfigDirectory = CONFIG) -> None:
    """Print the key with which others verify the ledger and the certificates of destruction."""
    with told():
        asyncio.run(_show_key(config))


@app.command()
def show(
    page: Annotated[str, typer.Option(help="The page's id, from the log or the ledger.")],
    config: ConfigDirectory = CONFIG,
) -> None:
    """Show what happened to a page."""
    with told():
        asyncio.run(_show(config, PageId(page)))


@app.command()
def disclosures(
    number: Annotated[str, typer.Option(help="The patient's number.")],
    by: By,
    form: Annotated[
        Format, typer.Option("--format", help="csv has a line for each disclosure, jsonl every record.")
    ] = Format.CSV,
    config: ConfigDirectory = CONFIG,
) -> None:
    """Account for what was disclosed of a patient: when, what, to whom and why. Asking is itself recorded.

    It names more than 45 CFR 164.528 asks for, which leaves out what was disclosed for treatment.
    """
    with told():
        asyncio.run(_disclosures(config, number, by, form))


def given_key(text: str) -> Ed25519PublicKey:
    """The public key of an option, or of the file that it names."""
    with told():
        file = Path(text)
        try:
            return chain.read_public_key(file.read_text() if file.is_file() else text)
        except ValueError:
            raise typer.BadParameter(
                "--public-key should be 64 hexadecimal digits, or a file with them"
            ) from None


def _stamps(certificates: Path) -> chain.Stamped:
    with told():
        known = read_certificates(certificates)

    def stamped(receipt: bytes, message: bytes) -> datetime:
        try:
            return stamped_at(receipt, message, known)
        except AnchorError as error:
            raise ValueError(str(error)) from None

    return stamped


async def _export(directory: Path, form: Format, out: TextIO) -> None:
    """Sign where the chain ends, and write it. Raises LedgerChangedError after it, if it was changed and not signed."""
    async with open_archive(load_or_exit(directory)) as archive:
        changed = await _sign(archive)
        async with archive.database.read() as connection:
            signed = await rows.last_checkpoint(connection)
            end = await rows.head(connection)
            if signed is not None and changed is None:
                end = signed.head  # beyond it, the bridge may have written meanwhile
            await _write_out(connection, form, out, until=end.seq)
    if changed is not None:
        raise changed


async def _sign(archive: Archive) -> LedgerChangedError | None:
    signer = archive.keys.signer()
    try:
        async with archive.database.read() as connection:
            place = await rows.intact(connection, signer.public_key())
    except LedgerChangedError as error:
        return error
    async with archive.database.write() as connection:
        await rows.checkpoint(connection, signer, datetime.now(UTC), place)
    return None


async def _write_out(connection: AsyncConnection, form: Format, out: TextIO, *, until: int) -> None:
    signed = iter(await rows.checkpoints(connection))
    writer = csv.writer(out)
    if form is Format.CSV:
        writer.writerow(COLUMNS)
    receipts = await rows.receipts(connection)
    following = next(signed, None)

    def sign_until(seq: int) -> None:
        nonlocal following
        while form is Format.JSONL and following is not None and following.head.seq <= seq:
            out.write(chain.checkpoint_line(following) + "\n")
            if following.head.seq in receipts:
                out.write(chain.receipt_line(following, receipts[following.head.seq]) + "\n")
            following = next(signed, None)

    async for link in rows.links(connection, until=until):
        sign_until(link.seq - 1)  # what it begins with, once older records were pruned
        if form is Format.CSV:
            writer.writerow(_cells(link))
            continue
        out.write(chain.link_line(link) + "\n")
        sign_until(link.seq)


async def _prune(directory: Path, by: str, *, dry_run: bool) -> None:
    async with open_archive(load_or_exit(directory)) as archive:
        before = datetime.now(UTC) - archive.config.nightbell.ledger.keep
        async with archive.database.read() as connection:
            held = await holds.in_force(connection)
            due = await rows.prunable(connection, before)
        if not dry_run:
            await require(archive, by, Duty.COMPLIANCE, "ledger prune")
        if held:
            typer.echo(f"nothing goes while a legal hold is in force ({len(held)}); see: nightbell hold list")
            return
        if due is None:
            typer.echo(f"no signature is from before {before:%Y-%m-%d}: nothing goes")
            return
        said = f"{due.records} records, up to record {due.until.head.seq}, signed {due.until.at:%Y-%m-%d}"
        if dry_run:
            typer.echo(f"would go: {said}")
            return
        while True:
            async with archive.database.write() as connection:
                if await rows.prune(connection, before, datetime.now(UTC), actor=by) is None:
                    break
        typer.echo(f"gone: {said}")


async def _show_key(directory: Path) -> None:
    async with open_archive(load_or_exit(directory)) as archive:
        typer.echo(chain.public_key_text(archive.keys.signer()))


async def _show(directory: Path, page: PageId) -> None:
    async with open_archive(load_or_exit(directory)) as archive, archive.database.read() as connection:
        found = await rows.of_pages(connection, [page])
    if not found:
        typer.echo(f"nothing is recorded of page {page}", err=True)
        raise typer.Exit(1)
    for link in found:
        record = link.record
        objects = "  ".join(f"{name}={_cell(value)}" for name, value in record.objects.items())
        typer.echo(
            f"{link.seq:>8}  {link.at:%Y-%m-%d %H:%M:%S}Z  {record.action.value:<12} {record.actor}  "
            f"{record.outcome}  {objects}"
        )


async def _disclosures(directory: Path, number: str, by: str, form: Format) -> None:
    patient = given_number(number)
    async with open_archive(load_or_exit(directory)) as archive:
        await require(archive, by, Duty.COMPLIANCE, "ledger disclosures")
        token = archive.keys.lookup(CALLER, patient)
        async with archive.database.read() as connection:
            found = await rows.of_patient(connection, token)
        asked = Record(Action.EXPORTED, by, objects={"what": "disclosures"}, patient=token)
        async with archive.database.write() as connection:
            await rows.append(connection, [asked], datetime.now(UTC))
    if not found:
        typer.echo(NO_SUCH_NUMBER, err=True)
    if form is Format.JSONL:
        for link in found:
            typer.echo(chain.link_line(link))
        return
    writer = csv.writer(sys.stdout)
    writer.writerow(DISCLOSURE_COLUMNS)
    writer.writerows(disclosed(found))


def _cells(link: Link) -> list[object]:
    record = link.record
    patient = record.patient.hex() if record.patient else ""
    objects = json.dumps(record.objects, ensure_ascii=False)
    at = link.at.isoformat()
    return [
        link.seq,
        at,
        record.actor,
        record.action.value,
        record.page or "",
        patient,
        objects,
        record.outcome,
        link.hash,
    ]


def _cell(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
