"""Simulated hosts on one machine, with separate networks, host names and processes.

They need root, iproute2 and util-linux. A bridge connects them with the machine itself, whose
address on the bridge is `SERVER`.
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
    """Return the reason why hosts cannot be made here; None if they can."""
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
    """A host that can be disconnected, connected again and killed."""

    def __init__(self, name: str, number: int, folder: Path) -> None:
        """Make a host on the bridge.

        Args:
          name: Host name, and name of its network namespace.
          number: Number from 0, which decides its address.
          folder: Folder in which the host gets its working directory.
        """
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
        """Start a command in the host's working directory."""
        isolation = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        set_name = ["sh", "-c", f'hostname {self.name} && exec "$@"', "sh"]
        with self._output_path.open("a", encoding="utf-8") as output:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *isolation, *set_name, *command],
                cwd=self.folder,
                env={**os.environ, "HOME": str(self.folder), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )

    @property
    def output(self) -> str:
        """Output of all commands of the host so far."""
        return self._output_path.read_text(encoding="utf-8", errors="replace")

    def wait(self, timeout: float) -> int:
        """Wait for the end of the command; return its exit code."""
        assert self.process is not None
        return self.process.wait(timeout)

    def signal(self, number: int) -> None:
        """Send a signal to the command."""
        assert self.process is not None
        psutil.Process(self.process.pid).children()[0].send_signal(number)

    def disconnect(self) -> None:
        """Drop all packets from and to the host, without closing its connections."""
        _ip("link", "set", self._link, "down")

    def reconnect(self) -> None:
        """Let packets pass again."""
        _ip("link", "set", self._link, "up")

    def kill(self) -> None:
        """Kill all processes of the host at once."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)  # `unshare --kill-child` kills the rest
            self.process.wait(30)

    def remove(self) -> None:
        """Kill the host and remove its network."""
        self.kill()
        _ip("link", "del", self._link)  # otherwise it outlives its namespace for a while
        _ip("netns", "del", self.name)

    @property
    def _output_path(self) -> Path:
        return self.folder / "output.txt"


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
        """Add a host."""
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        self.hosts[name] = Host(name, len(self.hosts), self._folder)
        return self.hosts[name]


def _remove_bridge() -> None:
    subprocess.run(["ip", "link", "del", _BRIDGE], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
