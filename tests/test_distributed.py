"""A search on several hosts with real servers, and the consequences of each failure."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import hosts, postgres
from tests.distributed import Site, check, site, wait_until
from tests.hosts import Host
from tests.postgres import PASSWORD

pytestmark = pytest.mark.slow

TRIALS = 16
END_SECONDS = 900.0
"""Maximum time that a search may take."""


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Site]:
    reason = hosts.why_not()
    if reason is not None:
        pytest.skip(reason)
    if postgres.binaries() is None:
        pytest.skip("no PostgreSQL server: install the system's package postgresql")
    with site(tmp_path) as made:
        yield made


def test_hosts_that_join_lose_their_network_and_die_end_n_trials(
    at: Site, tally: Callable[..., None]
) -> None:
    one, two, three = (at.network.add(name) for name in ("host1", "host2", "host3"))
    # They start together on empty databases, and must not break each other's tables.
    at.start(one, TRIALS)
    at.start(two, TRIALS)
    wait_until(lambda: at.ended() >= 4, "four trials")
    _check_command_lines_have_no_password()
    _disconnect_in_a_trial(at, two)
    at.start(three, TRIALS)
    wait_until(lambda: "continues after" in three.output, "the third host")
    two.kill()
    assert one.wait(END_SECONDS) == 0, one.output
    assert three.wait(END_SECONDS) == 0, three.output
    check(at, TRIALS)
    output = one.output + three.output
    assert re.search(r"trial \d+ is repeated: its process has died on host2", output), output
    assert "Traceback" not in output
    assert PASSWORD not in output
    tally("hosts lost")


def test_a_host_that_comes_back_has_lost_its_trial_and_goes_on(
    at: Site, tally: Callable[..., None]
) -> None:
    one, two = at.network.add("host1"), at.network.add("host2")
    at.start(one, TRIALS)
    # A host gives up after `PATIENCE_SECONDS`. On a busy machine, the first host may need longer
    # to finish a trial and to notice that the second one is gone.
    at.start(two, TRIALS, patience=END_SECONDS)
    wait_until(lambda: at.ended() >= 2, "two trials")
    _disconnect_in_a_trial(at, two)
    wait_until(lambda: "has died on host2" in one.output, "the first host misses the second")
    two.reconnect()
    assert one.wait(END_SECONDS) == 0, one.output
    assert two.wait(END_SECONDS) == 0, two.output
    taken_over = r"trial \d+ was taken over by another process, which considered this one dead"
    assert re.search(taken_over, two.output), two.output
    assert "Traceback" not in two.output
    check(at, TRIALS)
    tally("hosts disconnected and reconnected")


def test_servers_that_restart_cost_no_trial(at: Site, tally: Callable[..., None]) -> None:
    one = at.network.add("host1")
    at.start(one, TRIALS)
    wait_until(lambda: at.ended() >= 2, "two trials")
    at.database.pause(8.0)
    wait_until(lambda: at.ended() >= 5, "three more trials")
    at.tracking.stop()
    time.sleep(8.0)
    at.tracking.start()
    assert one.wait(END_SECONDS) == 0, one.output
    assert check(at, TRIALS)["failed"] == 0
    assert "Traceback" not in one.output
    tally("servers stopped and started", 2)


def test_a_search_without_its_database_ends_and_a_later_start_continues(at: Site) -> None:
    one = at.network.add("host1")
    at.start(one, 6)
    wait_until(lambda: at.ended() >= 2, "two trials")
    at.database.stop()
    time.sleep(3.0)
    one.signal(signal.SIGINT)  # ends the wait for the database
    assert one.wait(60) in {1, 130}, one.output
    assert "does not answer" in one.output or "interrupted" in one.output
    assert "Traceback" not in one.output
    assert PASSWORD not in one.output
    at.database.start()
    at.start(one, 6)
    assert one.wait(END_SECONDS) == 0, one.output
    check(at, 6)


def _disconnect_in_a_trial(at: Site, host: Host) -> None:
    """Disconnect a host while it runs a trial, and not between two trials."""
    for _ in range(100):
        host.disconnect()
        time.sleep(2.0)  # the server finishes the statements that it has received
        if _runs_a_trial(at, host.name):
            return
        host.reconnect()
        time.sleep(0.5)
    pytest.fail(f"{host.name} runs no trial: {host.output}")


def _runs_a_trial(at: Site, host: str) -> bool:
    return any(
        trial.state.name == "RUNNING" and trial.user_attrs.get("process", "").startswith(f"{host}/")
        for trial in at.trials()
    )


def _check_command_lines_have_no_password() -> None:
    """Check the command lines of all processes, which every user can read."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # the process has ended
            lines.append(path.read_bytes())
    searches = [line for line in lines if b"--storage" in line]
    assert searches
    assert not any(PASSWORD.encode() in line for line in searches)
