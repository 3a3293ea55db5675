"""Which process writes a run, so that a run whose process died is not RUNNING for ever."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def identity() -> str:
    """This process, told apart from any other on any host: host/boot/namespace/pid/start."""
    return "/".join([*_place(), str(os.getpid()), _start_time(os.getpid())])


def host(process: str) -> str:
    """The host of a process, by its `identity`."""
    return process.partition("/")[0]


def is_here(process: str) -> bool:
    """Whether a process, dead or alive, is of this host since it was started."""
    return process.split("/")[:2] == list(_place()[:2])


def is_dead(process: str) -> bool:
    """True only if the process surely has ended; another host's is beyond our sight."""
    parts = process.split("/")
    if len(parts) != 5 or not parts[3].isdigit():
        return False
    host, boot, namespace = _place()
    if parts[0] != host:
        return False
    if parts[1] != boot:
        return True
    if parts[2] != namespace:
        return False
    return _start_time(int(parts[3])) != parts[4]


def _place() -> tuple[str, str, str]:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:  # not Linux: host and process number must do
        boot, namespace = "unknown", "unknown"
    return socket.gethostname().replace("/", "-"), boot, namespace


def _start_time(pid: int) -> str:
    """Clock ticks from boot to the start of a process; "" if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "" if Path("/proc/self").exists() or not _exists(pid) else "unknown"
    # The command's name, in brackets, may hold anything; a zombie has ended.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
