"""Which key a client shows to a daemon off this machine, and where it lies.

What comes in: a folder, or nothing. What goes out: an `Identity`. It does not make keys (`daemon.keys` does) and opens
no sockets.

A keys folder holds `client.secret` (own key, mode 0600), `client.public` (give this one to whoever runs the daemon) and
`daemon.public` (the daemon's key, from whoever runs it).
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

from void_server.wire.errors import RefusedError, SettingsError

Z85_KEY = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
"""A CURVE key as text. Source: ZeroMQ RFC 32 (Z85), 32 bytes are 40 characters."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """What the CURVE handshake needs from a client, each key as Z85 text."""

    public: str
    secret: str = dataclasses.field(repr=False)
    daemon_public: str


def default_folder() -> Path:
    """This user's keys folder, where the platform keeps settings."""
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or Path.home()) / "void"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "void"


def is_loopback(address: str) -> bool:
    """Whether a ZeroMQ address can be reached from this machine alone: `tcp://127.x`, `tcp://[::1]`, `ipc://`.

    >>> is_loopback("tcp://127.0.0.1:5790"), is_loopback("tcp://0.0.0.0:5790"), is_loopback("tcp://*:5790")
    (True, False, False)
    """
    if address.startswith(("ipc://", "inproc://")):
        return True
    host = re.sub(r"^tcp://|:[^:\]]*$", "", address).strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_address(address: str) -> None:
    """Raise SettingsError unless `address` is one that a client can connect to."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme == "ipc" or (parts.scheme == "tcp" and parts.hostname and parts.port)
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(f"'{address}' is not the address of a daemon.", "Write it as tcp://host:5790.")


def read_key(path: Path) -> str:
    """The key in a key file. Raises RefusedError where the file is missing, unreadable or holds none."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RefusedError(f"The key file {path} can't be read: {error}.", "Make one: void-server keys new.") from error
    if not Z85_KEY.fullmatch(text):
        raise RefusedError(f"{path} holds no key.", "A key file is one line of 40 characters; make a new one.")
    return text


def load(address: str, keys: Path | None) -> Identity | None:
    """The identity to use for `address`: from `keys`, else none on loopback, else from the default folder.

    Raises RefusedError that names the file which is missing.
    """
    if keys is None and is_loopback(address):
        return None
    folder = keys or default_folder()
    missing = [n for n in ("client.secret", "client.public", "daemon.public") if not (folder / n).is_file()]
    if missing:
        remedy = (
            "Make a key with 'void-server keys new' and give client.public to whoever runs the daemon."
            if "client.secret" in missing
            else "Copy daemon.public from whoever runs the daemon into that folder."
        )
        raise RefusedError(f"A daemon at {address} asks for keys, and {folder} lacks {', '.join(missing)}.", remedy)
    return Identity(
        read_key(folder / "client.public"), read_key(folder / "client.secret"), read_key(folder / "daemon.public")
    )
