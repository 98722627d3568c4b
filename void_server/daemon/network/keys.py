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
    """The client's public key as Z85 text."""
    admin: bool = False
    """Whether they list, watch, cancel and drop everybody's jobs."""
    first: str = ""
    """The key under which they came first, where it was another one."""

    @property
    def owner(self) -> str:
        """Whose jobs theirs are in the store: it stays the same when their key is replaced."""
        return self.first or self.public


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


def allow(folder: Path, key: str, name: str | None = None, *, admin: bool = False) -> AllowedClient:
    """Admit a client by its public key, or a file that holds it. A running daemon heeds it with the next message.

    One key has one name. Raises SettingsError where it has another, or where the name has another key.
    """
    public = _public(key)
    name = name or f"client-{sum(map(ord, public)) % 10000:04d}"
    _check_name(name)
    for known in allowed(folder):
        if known.name == name and known.public != public:
            raise SettingsError(
                f"'{name}' is allowed already, with another key.", "keys rotate replaces it; or use another --name."
            )
        if known.public == public and known.name != name:
            raise SettingsError(f"This key is allowed already, as '{known.name}'.", f"Revoke {known.name} first.")
    return _write_allowed(folder, AllowedClient(name, public, admin))


def revoke(folder: Path, name: str) -> None:
    """Shut a client out, by name or public key, under every name that its key has.

    A running daemon refuses its next message, and tells it nothing more of what it watches; its jobs go on.
    """
    found = allowed(folder)
    keys = {known.public for known in found if name in (known.name, known.public)}
    if not keys:
        raise SettingsError(f"There is no allowed client '{name}' in {folder}.", "See: void-server keys list.")
    for known in found:
        if known.public in keys:
            (folder / "allowed" / f"{known.name}.public").unlink()


def rotate(folder: Path, name: str, key: str | None) -> tuple[str, Path]:
    """Replace a client's key by another, keeping its jobs; or, for "daemon", the daemon's own by one made now.

    Returns (the new public key, its file). A running daemon heeds it within a second: a client's old key is refused
    from then on. Where the daemon's own key is replaced, connections end; whoever comes again must know the new one.
    """
    if name == "daemon":
        _private(folder)
        for kind in ("secret", "public"):
            with contextlib.suppress(FileNotFoundError):
                (folder / f"daemon.{kind}").replace(folder / f"daemon.{kind}.old")
        path = new(folder, "daemon")
        return read_key(path), path
    if key is None:
        raise SettingsError(f"keys rotate {name} needs the new key.", f"void-server keys rotate {name} client.public")
    public = _public(key)
    known = next((known for known in allowed(folder) if known.name == name), None)
    if known is None:
        raise SettingsError(f"There is no allowed client '{name}' in {folder}.", "See: void-server keys list.")
    _write_allowed(folder, dataclasses.replace(known, public=public, first=known.owner))
    return public, folder / "allowed" / f"{name}.public"


def allowed(folder: Path) -> list[AllowedClient]:
    """Every admitted client, by name. A file that holds no key admits nobody."""
    found = []
    for path in sorted((folder / "allowed").glob("*.public")):
        with contextlib.suppress(RefusedError, UnicodeDecodeError):
            found.append(_read_allowed(path))
    return found


def _public(key: str) -> str:
    if Z85_KEY.fullmatch(key):
        return key
    path = Path(key)
    if path.suffix == ".secret":
        raise SettingsError(f"{path} is a secret key.", "It must stay with its owner; allow the .public file.")
    return read_key(path)


def _read_allowed(path: Path) -> AllowedClient:
    """One file of `allowed/`: the key, then a line `admin`, then a line `first KEY`. Raises OSError, RefusedError."""
    lines = path.read_text(encoding="ascii").split("\n")
    if not Z85_KEY.fullmatch(lines[0].strip()):
        raise RefusedError(f"{path} holds no key.", "A key file is one line of 40 characters; make a new one.")
    first = next((line[6:].strip() for line in lines[1:] if line.startswith("first ")), "")
    return AllowedClient(path.stem, lines[0].strip(), "admin" in lines[1:], first)


def _write_allowed(folder: Path, client: AllowedClient) -> AllowedClient:
    _private(folder)
    _private(folder / "allowed")
    lines = [client.public, *(["admin"] if client.admin else []), *([f"first {client.first}"] if client.first else [])]
    path = folder / "allowed" / f"{client.name}.public"
    fresh = path.with_name(f".{client.name}.tmp")
    fresh.write_text("\n".join(lines) + "\n", encoding="ascii")
    fresh.replace(path)
    return client


def run(
    action: str, key: str | None, *, folder: Path | None, name: str | None, admin: bool = False, by: str | None = None
) -> tuple[dict[str, Any], str]:
    """What `void-server keys ACTION` does: (fields for machines, text for people). Raises SettingsError."""
    folder = folder or default_folder()
    if action == "new":
        path = new(folder, key or name or "client")
        public = read_key(path)
        return {"public": public, "file": str(path)}, f"{path}\n{public}"
    if action == "list":
        found = allowed(folder)
        fields = {"allowed": [dataclasses.asdict(client) for client in found], "folder": str(folder)}
        lines = [f"{c.name}  {c.public}{'  admin' if c.admin else ''}" for c in found]
        return fields, "\n".join(lines) or f"No client is allowed in {folder}."
    if key is None:
        raise SettingsError(f"keys {action} needs a key or a name.", "See: void-server keys list.")
    if action == "allow":
        client = allow(folder, key, name, admin=admin)
        return dataclasses.asdict(client), f"{client.name} may now use the daemon with keys in {folder}."
    if action == "rotate":
        public, path = rotate(folder, key, by)
        return {"public": public, "file": str(path)}, f"{key} has another key now: {path}\n{public}"
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
        self._admitted: dict[str, AllowedClient] = {}
        self._owners: set[str] = set()
        self._refused: list[str] = []
        lacking = [n for n in ("daemon.secret", "daemon.public") if not (folder / n).is_file()]
        if lacking:
            raise SettingsError(
                f"The daemon has no key: {folder} lacks {' and '.join(lacking)}.",
                f"Make one: void-server keys new daemon --keys {folder}.",
            )
        self._key_stamp = _stamp_of(folder / "daemon.secret")
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

    def client(self, public: str) -> AllowedClient | None:
        """Who has this public key, if they may come in, or still be in, now."""
        return self._current().get(public)

    def admits_owner(self, owner: str) -> bool:
        """Whether anybody who may be in owns what `owner` owns."""
        self._current()
        return owner in self._owners

    def take_refused(self) -> list[str]:
        """Public keys that were refused since this was asked last; some of them where there were many."""
        refused, self._refused = self._refused, []
        return refused

    def has_new_key(self) -> bool:
        """Whether the daemon's own key was replaced; it is read anew."""
        stamp = _stamp_of(self._folder / "daemon.secret")
        if stamp in (None, self._key_stamp):
            return False
        with contextlib.suppress(RefusedError):
            secret, public = read_key(self._folder / "daemon.secret"), read_key(self._folder / "daemon.public")
            self.secret, self.public, self._key_stamp = secret, public, stamp
            return True
        return False

    def answer(self, request: list[bytes]) -> list[bytes]:
        """The reply to one ZAP request. Source: ZeroMQ RFC 27; field order as in its section "The Request"."""
        version, request_id = request[0], request[1]
        domain, mechanism = request[2], request[5]
        public = ""
        if domain == self.DOMAIN and mechanism == b"CURVE" and len(request) == 7 and len(request[6]) == 32:
            public = _z85(request[6])
        if public and self.client(public):
            return [version, request_id, b"200", b"OK", public.encode(), b""]
        if len(self._refused) < 100:
            self._refused.append(public)
        return [version, request_id, b"400", b"Unknown key", b"", b""]

    def _current(self) -> dict[str, AllowedClient]:
        try:
            with os.scandir(self._folder / "allowed") as entries:
                stamp = sorted((e.name, e.stat().st_mtime_ns, e.stat().st_ino) for e in entries)
            if stamp != self._stamp:
                found = [_read_allowed(self._folder / "allowed" / name) for name, _, _ in stamp if _is_allowed(name)]
                self._admitted = {client.public: client for client in found}
                self._owners = {client.owner for client in found}
                self._stamp = stamp
        except FileNotFoundError:
            if not (self._folder / "allowed").exists():
                self._admitted, self._owners, self._stamp = {}, set(), []
        except (OSError, RefusedError, UnicodeDecodeError):
            # A list that can't be read now, for want of a descriptor say, is still the last one that could.
            pass
        return self._admitted


def _is_allowed(name: str) -> bool:
    return name.endswith(".public") and not name.startswith(".")


def _stamp_of(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino


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
