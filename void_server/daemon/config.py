"""What a daemon is told when it starts: where it listens and keeps things, on what it computes, how much it takes.

What comes in: flags. What goes out: one frozen `DaemonConfig`, checked. It does not open anything.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path

from void_server.wire.errors import SettingsError
from void_server.wire.messages import DEFAULT_ADDRESS

GIB = 1 << 30


def default_data() -> Path:
    """The data folder of this user: XDG's place for state that must outlive a restart."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "void"


def found_devices() -> tuple[str, ...]:
    """Every NVIDIA device node of this machine, else the CPU. Loads no GPU library: the server never computes."""
    nodes = [p for p in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", p.name)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = len(nodes) if visible is None else len([v for v in visible.split(",") if v.strip()])
    return tuple(f"cuda:{index}" for index in range(min(count, len(nodes)))) or ("cpu",)


@dataclasses.dataclass(frozen=True)
class DaemonConfig:
    """Everything a daemon is told; nothing comes from anywhere else."""

    bind: str = DEFAULT_ADDRESS
    """Address to listen at; port `*` takes a free one."""
    data: Path = dataclasses.field(default_factory=default_data)
    devices: tuple[str, ...] = ("cpu",)
    """One worker process each: "cpu", "cuda:0"."""
    keys: Path | None = None
    """Folder of the daemon's key and its allowed clients; needed off loopback, obeyed on loopback where given."""
    trust: tuple[Path, ...] = ()
    """Folders under which a client's path is read in place of its bytes."""
    quota_bytes: int = 500 * GIB
    """What is kept of one owner: frames, received and expected, and results."""
    reserve_bytes: int = 1 * GIB
    """Disk space that uploads leave free for results and the database."""
    keep_s: float = 744 * 3600.0
    """Age, in time that daemons were up, at which finished jobs and unused frames are dropped; results that nobody
    fetched only a week after a warning. Source: Flamenco's Shaman keeps 744 h."""
    receiving_s: float = 24 * 3600.0
    """Silence after which a job that was never sent whole fails."""
    silence_s: float = 300.0
    """How long a worker process may show no sign of life before it is ended."""
    stalled_s: float = 2 * 3600.0
    """How long a job may make no progress before it fails."""
    worker_bytes: int = dataclasses.field(default_factory=lambda: 9 * _memory_bytes() // 10)
    """Memory that one worker with all it forks may take before its job fails, rather than the machine."""
    idle_release_s: float = 120.0
    """How long a worker without a job keeps models loaded: the next shot starts sooner, others lack the memory."""
    pipeline: str = "void_server.pipeline:deliver"
    """The callable that a worker runs, as module:function."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"(tcp://(\[[0-9A-Fa-f:]+\]|[^\s/:]+):(\d+|\*)|ipc://.+)", self.bind):
            raise SettingsError(f"'{self.bind}' is not an address to listen at.", "Write it as tcp://127.0.0.1:5790.")
        for device in self.devices:
            if not re.fullmatch(r"cpu|cuda:\d+", device):
                raise SettingsError(f"There is no device '{device}'.", "Use cpu, or cuda:0, cuda:1, ...")
        if not self.devices or len(set(self.devices)) != len(self.devices):
            raise SettingsError("Each device can be named once, and one is needed.", "Use --device cuda:0.")
        most = {"quota-gb": self.quota_bytes, "keep-days": self.keep_s, "worker-gb": self.worker_bytes}
        for flag, value in most.items():
            if not value > 0:
                raise SettingsError(f"--{flag} must be more than 0.", "Leave it out for the default.")
        if not self.idle_release_s >= 0:
            raise SettingsError(f"--idle-release-s {self.idle_release_s} is no time span.", "Give seconds, or inf.")
        for root in self.trust:
            if not root.is_dir():
                raise SettingsError(f"Trusted folder {root} does not exist.", "Name an existing folder.")

    @classmethod
    def from_flags(
        cls,
        *,
        bind: str | None = None,
        data: Path | None = None,
        devices: Sequence[str] | None = None,
        keys: Path | None = None,
        trust: Sequence[Path | str] | None = None,
        quota_gb: float | None = None,
        keep_days: float | None = None,
        worker_gb: float | None = None,
        idle_release_s: float | None = None,
    ) -> DaemonConfig:
        """The configuration for flags as given; None takes the default. Raises SettingsError."""
        return cls(
            bind=bind or cls.bind,
            data=Path(data) if data else default_data(),
            devices=tuple(devices) if devices else found_devices(),
            keys=Path(keys) if keys else None,
            trust=tuple(Path(root).resolve() for root in trust or ()),
            quota_bytes=cls.quota_bytes if quota_gb is None else int(quota_gb * 1e9),
            keep_s=cls.keep_s if keep_days is None else keep_days * 86400.0,
            worker_bytes=9 * _memory_bytes() // 10 if worker_gb is None else int(worker_gb * 1e9),
            idle_release_s=cls.idle_release_s if idle_release_s is None else idle_release_s,
        )

    def limits(self) -> dict[str, int]:
        """What this daemon holds its clients to beyond the protocol's own limits."""
        return {
            "quota_bytes": self.quota_bytes,
            "reserve_bytes": self.reserve_bytes,
            "keep_hours": int(self.keep_s // 3600),
            "receiving_hours": int(self.receiving_s // 3600),
            "worker_bytes": self.worker_bytes,
            "stalled_s": int(self.stalled_s),
        }


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
