"""Errors that say what to do.

NightbellError
├── ConfigError            bridge.config: a file, a line, a column, and what would be right
├── VaultError             bridge.vault: a key is missing or wrong, or a sealed value was tampered with
├── StoreUnavailableError  the database did not make something durable
├── HomeserverError        bridge.matrix: the homeserver is away or refuses
└── EncryptionUnavailableError   bridge.matrix: a message cannot be encrypted to anybody who should read it
"""


class NightbellError(Exception):
    """Base of every error that Nightbell raises on purpose. Its message says what to do and holds no PHI."""


class StoreUnavailableError(NightbellError):
    """The database did not take a write; the source must try again."""


class HomeserverError(NightbellError):
    """The homeserver is away or refused a request. `retry` says whether trying again can help."""

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry


class EncryptionUnavailableError(NightbellError):
    """A message can't be encrypted to anybody who should read it, so it is not sent."""
