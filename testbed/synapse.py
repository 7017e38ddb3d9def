"""A real Synapse on loopback: its own environment, SQLite or PostgreSQL, no federation, everything in one directory."""

import hashlib
import hmac
import json
import secrets
from asyncio.subprocess import Process
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from testbed.process import Progress, end, free_port, launch, quiet, until_ready

PYTHON = Path(__file__).resolve().parent.parent / ".venv-synapse/bin/python"
TIMEOUT = aiohttp.ClientTimeout(total=30)
UNLIMITED = {"per_second": 100_000, "burst_count": 100_000}


class Synapse:
    """A homeserver that can be stopped, killed and started again on the same data."""

    # How it asks for its database on PostgreSQL to be made.
    DATABASE_OPTIONS = "ENCODING UTF8 LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"

    def __init__(
        self,
        directory: Path,
        *,
        registrations: Sequence[Path] = (),
        server_name: str = "nightbell.test",
        port: int | None = None,
        database_url: str | None = None,
        progress: Progress = quiet,
    ) -> None:
        self.directory = directory
        self.server_name = server_name
        self._database_url = database_url
        self.port = port or free_port()
        self._registrations = registrations
        self._progress = progress
        self._process: Process | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database_path(self) -> Path:
        """The SQLite file, if there is one; its ``-wal`` and ``-shm`` lie beside it."""
        return self.directory / "homeserver.db"

    @property
    def database_url(self) -> str:
        """Where somebody with read access finds its rows."""
        return self._database_url or f"sqlite:///{self.database_path}"

    @property
    def media_path(self) -> Path:
        return self.directory / "media"

    @property
    def log_path(self) -> Path:
        return self.directory / "homeserver.log"

    @property
    def pid(self) -> int | None:
        """The process to measure; None while the server is down."""
        return self._process.pid if self._process else None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        config = self._write_config()
        self._process = await launch(
            (PYTHON, "-m", "synapse.app.homeserver", "--config-path", config), self.directory / "output.log"
        )
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session:

            async def answers() -> bool:
                try:
                    async with session.get(f"{self.base_url}/health") as response:
                        return response.ok
                except aiohttp.ClientError:
                    return False

            await until_ready(
                "Synapse", self._process, answers, log=self.directory / "output.log", progress=self._progress
            )

    async def stop(self) -> None:
        if self._process:
            await end(self._process)
            self._process = None

    async def kill(self) -> None:
        """As a power cut would."""
        if self._process:
            self._process.kill()
            await self._process.wait()
            self._process = None

    async def register_user(self, localpart: str, password: str, *, admin: bool = False) -> str:
        """Make an account, or keep the one that is there; gives its user id."""
        url = f"{self.base_url}/_synapse/admin/v1/register"
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
            async with session.get(url) as response:
                nonce = (await response.json())["nonce"]
            parts = (nonce, localpart, password, "admin" if admin else "notadmin")
            secret = (self.directory / "registration_secret").read_bytes().strip()
            mac = hmac.new(secret, "\0".join(parts).encode(), hashlib.sha1).hexdigest()
            account = {
                "nonce": nonce,
                "username": localpart,
                "password": password,
                "admin": admin,
                "mac": mac,
            }
            async with session.post(url, json=account) as response:
                answer = await response.json()
                if answer.get("errcode") != "M_USER_IN_USE":
                    response.raise_for_status()
        return f"@{localpart}:{self.server_name}"

    async def make_admin(self, user: str) -> None:
        """Let a user use the admin API, as an operator does for the bot."""
        await self.administrate("PUT", f"/_synapse/admin/v1/users/{user}/admin", {"admin": True})

    async def administrate(self, method: str, path: str, document: dict[str, Any]) -> None:
        """A request to the admin API by an administrator of the homeserver."""
        root = await self.register_user("root", "root-password", admin=True)
        login = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": root},
            "password": "root-password",
        }
        async with aiohttp.ClientSession(self.base_url, timeout=TIMEOUT) as session:
            async with session.post("/_matrix/client/v3/login", json=login) as response:
                token = (await response.json())["access_token"]
            admin = {"Authorization": f"Bearer {token}"}
            async with session.request(method, path, json=document, headers=admin) as response:
                response.raise_for_status()

    def _write_config(self) -> Path:
        """Written at each start, JSON being YAML; the secrets stay what they were."""
        self.directory.mkdir(parents=True, exist_ok=True)
        _keep(
            self.directory / "signing.key",
            f"ed25519 a_test {b64encode(secrets.token_bytes(32)).decode()[:43]}",
        )
        _keep(self.directory / "registration_secret", secrets.token_urlsafe(32))
        log_config = self.directory / "log.yaml"
        log_config.write_text(json.dumps(_log_config(self.log_path)))
        config = self.directory / "homeserver.yaml"
        config.write_text(json.dumps(self._config(), indent=1))
        return config

    def _database(self) -> dict[str, Any]:
        if self._database_url is None:
            return {"name": "sqlite3", "args": {"database": str(self.database_path)}}
        url = urlsplit(self._database_url)
        where = {"host": url.hostname, "port": url.port, "user": url.username, "dbname": url.path[1:]}
        return {"name": "psycopg2", "args": {**where, "cp_min": 2, "cp_max": 5}}

    def _config(self) -> dict[str, Any]:
        here = self.directory
        return {
            "server_name": self.server_name,
            "public_baseurl": f"{self.base_url}/",
            "pid_file": str(here / "homeserver.pid"),
            "listeners": [
                {
                    "port": self.port,
                    "type": "http",
                    "bind_addresses": ["127.0.0.1"],
                    "resources": [{"names": ["client"]}],
                }
            ],
            "database": self._database(),
            "log_config": str(here / "log.yaml"),
            "media_store_path": str(self.media_path),
            "signing_key_path": str(here / "signing.key"),
            "registration_shared_secret_path": str(here / "registration_secret"),
            "report_stats": False,
            "app_service_config_files": [str(path) for path in self._registrations],
            # What the bridge asks of a homeserver; docs/operator says why.
            "redaction_retention_period": "1h",
            "retention": {"enabled": True, "purge_jobs": [{"interval": "1h"}]},
            "push": {"include_content": False},
            "auto_accept_invites": {"enabled": True, "only_from_local_users": True},
            # Alone on this machine, and quick.
            "federation_domain_whitelist": [],
            "trusted_key_servers": [],
            "presence": {"enabled": False},
            "bcrypt_rounds": 4,
            "caches": {"global_factor": 0.5},
            # Test users do in seconds what people do in days.
            "rc_message": UNLIMITED,
            "rc_registration": UNLIMITED,
            "rc_login": {"address": UNLIMITED, "account": UNLIMITED, "failed_attempts": UNLIMITED},
            "rc_joins": {"local": UNLIMITED, "remote": UNLIMITED},
            "rc_joins_per_room": UNLIMITED,
            "rc_invites": {"per_room": UNLIMITED, "per_user": UNLIMITED, "per_issuer": UNLIMITED},
            "rc_room_creation": UNLIMITED,
            "rc_key_requests": UNLIMITED,
            "rc_admin_redaction": UNLIMITED,
        }


def _keep(path: Path, fresh: str) -> None:
    if not path.exists():
        path.write_text(fresh)


def _log_config(path: Path) -> dict[str, Any]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"precise": {"format": "%(asctime)s %(name)s %(levelname)s %(request)s %(message)s"}},
        "handlers": {"file": {"class": "logging.FileHandler", "filename": str(path), "formatter": "precise"}},
        "root": {"level": "INFO", "handlers": ["file"]},
    }
