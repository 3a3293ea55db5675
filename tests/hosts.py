"""Hosts of their own on one machine: network, name and processes apart, joined by a bridge.

Needs root, iproute2 and util-linux. The machine itself is a further host, `SERVER`, where servers
listen that all the others reach.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psutil

SERVER = "10.213.7.1"
"""The machine's address on the bridge."""
_BRIDGE = "dqnkit-br"


def why_not() -> str | None:
    """Why hosts cannot be made here; None if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "no iproute2 or util-linux"
    made = subprocess.run(["ip", "netns", "add", "dqnkit-try"], capture_output=True, check=False)
    if made.returncode:
        return f"no network namespaces: {made.stderr.decode().strip()}"
    _ip("netns", "del", "dqnkit-try")
    return None


class Host:
    """A host that can be cut off, mended and lost."""

    def __init__(self, name: str, number: int, folder: Path) -> None:
        self.name = name
        self.folder = folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[str] | None = None
        self._link = f"dqk{number}"
        _ip("netns", "add", name)
        _ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", self._link, "master", _BRIDGE, "up")
        _ip("-n", name, "addr", "add", f"10.213.7.{10 + number}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")

    def start(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """Starts a command in a folder of its own; what it says goes to `said`."""
        apart = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        named = ["sh", "-c", f'hostname {self.name} && exec "$@"', "sh"]
        with self.said_path.open("a", encoding="utf-8") as said:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *apart, *named, *command],
                cwd=self.folder,
                env={**os.environ, "HOME": str(self.folder), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
            )

    @property
    def said_path(self) -> Path:
        """What commands wrote here."""
        return self.folder / "said.txt"

    @property
    def said(self) -> str:
        """Until now."""
        return self.said_path.read_text(encoding="utf-8", errors="replace")

    def wait(self, timeout: float) -> int:
        """The command's exit code."""
        assert self.process is not None
        return self.process.wait(timeout)

    def signal(self, number: int) -> None:
        """To the command itself."""
        assert self.process is not None
        psutil.Process(self.process.pid).children()[0].send_signal(number)

    def cut_off(self) -> None:
        """No packet comes or goes any more; nobody is told."""
        _ip("link", "set", self._link, "down")

    def mend(self) -> None:
        """The opposite."""
        _ip("link", "set", self._link, "up")

    def lose(self) -> None:
        """All its processes are gone at once."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)  # and `unshare` takes the rest with it
            self.process.wait(30)

    def remove(self) -> None:
        """Leaves nothing of it."""
        self.lose()
        _ip("link", "del", self._link)  # which goes some time after its other end
        _ip("netns", "del", self.name)


class Network:
    """The bridge and the hosts on it. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.hosts: dict[str, Host] = {}

    def __enter__(self) -> Self:
        _remove_bridge()
        _ip("link", "add", _BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{SERVER}/24", "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts.values():
            host.remove()
        _remove_bridge()

    def add(self, name: str) -> Host:
        """Another host."""
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        self.hosts[name] = Host(name, len(self.hosts), self._folder)
        return self.hosts[name]


def _remove_bridge() -> None:
    subprocess.run(["ip", "link", "del", _BRIDGE], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
