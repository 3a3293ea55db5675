"""Identities of processes, by which a run or trial whose process has died is recognised."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path


def identity() -> str:
    """Return the identity of this process, `host/boot/namespace/pid/start`.

    No other process on any host has the same identity.
    """
    return "/".join([*_location(), str(os.getpid()), _start_time(os.getpid())])


def user() -> str:
    """Return the name of the user, or its number where no name belongs to it, as in containers."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # which one depends on the version of Python
        return str(os.getuid())


def host(process: str) -> str:
    """Return the host of a process, by its `identity`."""
    return process.partition("/")[0]


def is_here(process: str) -> bool:
    """Return whether a process, dead or alive, belongs to the current boot of this host."""
    return process.split("/")[:2] == list(_location()[:2])


def is_dead(process: str) -> bool:
    """Return True only if the process has certainly ended.

    The processes of other hosts and of other PID namespaces cannot be examined: the result is
    False for them.
    """
    parts = process.split("/")
    if len(parts) != 5 or not parts[3].isdigit():
        return False
    host, boot, namespace = _location()
    if parts[0] != host:
        return False
    if parts[1] != boot:
        return True
    if parts[2] != namespace:
        return False
    return _start_time(int(parts[3])) != parts[4]


def _location() -> tuple[str, str, str]:
    """Return host name, id of the current boot and PID namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:  # systems other than Linux
        boot, namespace = "unknown", "unknown"
    return socket.gethostname().replace("/", "-"), boot, namespace


def _start_time(pid: int) -> str:
    """Return the clock ticks from boot to the start of a process; "" if it does not run.

    The result is "unknown" for a running process on systems other than Linux.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "" if Path("/proc/self").exists() or not _exists(pid) else "unknown"
    # The second field is the command in parentheses, which may itself contain ")" and spaces.
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
