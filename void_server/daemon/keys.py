"""Who may use a daemon over a network: key files, the list of allowed clients, and the answer at the door.

What comes in: a folder, names, public keys. What goes out: key files, and yes or no for a key. It does not know jobs.

A daemon's folder holds `daemon.secret`, `daemon.public` and `allowed/NAME.public`; a client's is described in
`wire.identity`. One folder may be both. Secrets are 0600 in a folder that is 0700.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import zmq

from void_server.wire.errors import RefusedError, SettingsError
from void_server.wire.identity import Z85_KEY, default_folder, is_loopback, read_key

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\-]{0,63}")


@dataclasses.dataclass(frozen=True)
class AllowedClient:
    name: str
    public: str
    """The client's public key as Z85 text; also the owner's name in the store."""


def new(folder: Path, name: str = "client") -> Path:
    """Make a key pair `name` ("client", or "daemon" for the machine that serves); returns the public key's file.

    Raises SettingsError where there is one already: a key that others trust is never overwritten.
    """
    _check_name(name)
    _private(folder)
    public, secret = zmq.curve_keypair()
    target = folder / f"{name}.secret"
    try:
        # Created with its final mode: between creating and narrowing, anybody could open it.
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise SettingsError(f"{target} is there already.", "Keep it, or move it away first.") from error
    except OSError as error:
        raise SettingsError(f"{target} can't be written: {error}.", "Choose a folder of your own.") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret + b"\n")
    path = folder / f"{name}.public"
    path.write_bytes(public + b"\n")
    return path


def allow(folder: Path, key: str, name: str | None = None) -> AllowedClient:
    """Admit a client by its public key, or a file that holds it. A running daemon heeds it with the next message."""
    public = key
    if not Z85_KEY.fullmatch(key):
        path = Path(key)
        if path.suffix == ".secret":
            raise SettingsError(f"{path} is a secret key.", "It must stay with its owner; allow the .public file.")
        public = read_key(path)
    name = name or f"client-{sum(map(ord, public)) % 10000:04d}"
    _check_name(name)
    for known in allowed(folder):
        if known.name == name and known.public != public:
            raise SettingsError(f"'{name}' is allowed already, with another key.", "Revoke it, or use another --name.")
    _private(folder)
    _private(folder / "allowed")
    (folder / "allowed" / f"{name}.public").write_text(public + "\n", encoding="ascii")
    return AllowedClient(name, public)


def revoke(folder: Path, name: str) -> None:
    """Shut a client out, by name or public key. A running daemon refuses its next message; its jobs go on."""
    for known in allowed(folder):
        if name in (known.name, known.public):
            (folder / "allowed" / f"{known.name}.public").unlink()
            return
    raise SettingsError(f"There is no allowed client '{name}' in {folder}.", "See: void-server keys list.")


def allowed(folder: Path) -> list[AllowedClient]:
    """Every admitted client, by name. A file that holds no key admits nobody."""
    found = []
    for path in sorted((folder / "allowed").glob("*.public")):
        with contextlib.suppress(RefusedError):
            found.append(AllowedClient(path.stem, read_key(path)))
    return found


def run(action: str, key: str | None, *, folder: Path | None, name: str | None) -> tuple[dict[str, Any], str]:
    """What `void-server keys ACTION` does: (fields for machines, text for people). Raises SettingsError."""
    folder = folder or default_folder()
    if action == "new":
        path = new(folder, key or name or "client")
        public = read_key(path)
        return {"public": public, "file": str(path)}, f"{path}\n{public}"
    if action == "list":
        found = allowed(folder)
        fields = {"allowed": [dataclasses.asdict(client) for client in found], "folder": str(folder)}
        return fields, "\n".join(f"{c.name}  {c.public}" for c in found) or f"No client is allowed in {folder}."
    if key is None:
        raise SettingsError(f"keys {action} needs a key or a name.", "See: void-server keys list.")
    if action == "allow":
        client = allow(folder, key, name)
        return dataclasses.asdict(client), f"{client.name} may now use the daemon with keys in {folder}."
    revoke(folder, key)
    return {"revoked": key}, f"{key} may no longer use the daemon with keys in {folder}."


class Doorkeeper:
    """Decides for one daemon which keys are admitted; rereads the list whenever its folder changes.

    Raises SettingsError on creation unless the daemon has its own key and at least one allowed client.
    """

    DOMAIN = b"void"
    """A ZAP domain that is not empty; with an empty one libzmq asks nobody. Source: measured, libzmq 4.3.5."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamp: list[tuple[str, int, int]] = []
        self._admitted: dict[str, str] = {}
        lacking = [n for n in ("daemon.secret", "daemon.public") if not (folder / n).is_file()]
        if lacking:
            raise SettingsError(
                f"The daemon has no key: {folder} lacks {' and '.join(lacking)}.",
                f"Make one: void-server keys new daemon --keys {folder}.",
            )
        self.secret = read_key(folder / "daemon.secret")
        self.public = read_key(folder / "daemon.public")
        if (folder / "daemon.secret").stat().st_mode & 0o077:
            raise SettingsError(
                f"{folder / 'daemon.secret'} can be read by others.", f"chmod 600 {folder / 'daemon.secret'}"
            )
        if not self._current():
            raise SettingsError(
                f"No client is allowed in {folder}.",
                f"Admit one: void-server keys allow client.public --name NAME --keys {folder}.",
            )

    def admits(self, public: str) -> bool:
        """Whether the client with this public key may come in, or still be in, now."""
        return public in self._current()

    def answer(self, request: list[bytes]) -> list[bytes]:
        """The reply to one ZAP request. Source: ZeroMQ RFC 27; field order as in its section "The Request"."""
        version, request_id = request[0], request[1]
        domain, mechanism = request[2], request[5]
        public = ""
        if domain == self.DOMAIN and mechanism == b"CURVE" and len(request) == 7 and len(request[6]) == 32:
            public = _z85(request[6])
        if public and self.admits(public):
            return [version, request_id, b"200", b"OK", public.encode(), b""]
        return [version, request_id, b"400", b"Unknown key", b"", b""]

    def _current(self) -> dict[str, str]:
        try:
            with os.scandir(self._folder / "allowed") as entries:
                stamp = sorted((e.name, e.stat().st_mtime_ns, e.stat().st_ino) for e in entries)
        except OSError:
            stamp = []
        if stamp != self._stamp:
            self._admitted = {client.public: client.name for client in allowed(self._folder)} if stamp else {}
            self._stamp = stamp
        return self._admitted


def check_bind(bind: str, keys: Path | None) -> None:
    """Raise SettingsError for an address that others can reach without keys to keep them out."""
    if keys is None and not is_loopback(bind):
        raise SettingsError(
            f"{bind} can be reached from other machines, and no keys keep strangers out.",
            "Give --keys DIR (void-server keys new daemon --keys DIR), or bind to tcp://127.0.0.1:5790.",
        )


def _z85(raw: bytes) -> str:
    from zmq.utils import z85

    return z85.encode(raw).decode("ascii")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise SettingsError(f"'{name}' can't name a key.", "Use letters, digits, '-', '_', '.' and '@'.")


def _private(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        raise SettingsError(f"{folder} can't be made private: {error}.", "Choose a folder of your own.") from error
