"""Errors that say what to do.

NightbellError
├── ConfigError            bridge.config: a file, a line, a column, and what would be right
├── VaultError             bridge.vault: a key is missing or wrong, or a sealed value was tampered with
├── LedgerChangedError     bridge.ledger: a record or a signature is not as it was written
├── IdentityError          bridge.matrix: the bot's cross-signing identity is missing or has not signed its device
├── SchemaTooNewError      bridge.store: the database was written by a later version
├── StoreUnavailableError  the database did not make something durable
├── HomeserverError        bridge.matrix: the homeserver is away or refuses
├── HomeserverDatabaseError      bridge.matrix: the homeserver's database can't be read
├── EncryptionUnavailableError   bridge.matrix: a message cannot be encrypted to anybody who should read it
├── PlaintextRefusedError  bridge.matrix: what the homeserver could have read was not sent
├── UnreadableError        bridge.matrix: what a person wrote could not be decrypted (yet)
├── SourceError            bridge.channels: a source could not be asked what has happened
└── MediaError             a recording, picture or file could not be fetched or converted
"""


class NightbellError(Exception):
    """Base of every error that Nightbell raises on purpose. Its message says what to do and holds no PHI."""


class StoreUnavailableError(NightbellError):
    """The database did not take a write; the source must try again."""


class HomeserverError(NightbellError):
    """The homeserver is away or refused a request.

    `retry` says whether trying again can help; `code` is the Matrix error code, where there was one.
    """

    def __init__(self, message: str, *, retry: bool, code: str = "") -> None:
        super().__init__(message)
        self.retry = retry
        self.code = code


class HomeserverDatabaseError(NightbellError):
    """The homeserver's own database can't be read, though nightbell.yaml says where it is."""


class EncryptionUnavailableError(NightbellError):
    """A message can't be encrypted to anybody who should read it, so it is not sent."""


class PlaintextRefusedError(NightbellError):
    """Something was about to be sent that the homeserver could read. It was not sent; this is a bug of ours."""


class UnreadableError(NightbellError):
    """A message from a room could not be decrypted: its key has not come, or never will."""


class MediaError(NightbellError):
    """A recording, picture or file could not be fetched or converted. `retry` says whether trying again can help."""

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry


class AnchorError(NightbellError):
    """A signature of the ledger could not be kept elsewhere, or what was kept is not what it should be."""


class ReportError(NightbellError):
    """A source could not be told what became of its event. `retry` says whether trying again can help."""

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry


class SourceError(NightbellError):
    """A source could not be asked what has happened. It is asked again, from where it was last heard out."""


class NothingThereError(SourceError):
    """What a source was asked for, it does not have."""
