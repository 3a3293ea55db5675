"""One search on several hosts, with servers that are real, and what becomes of each failure."""

from __future__ import annotations

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


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Site]:
    why = hosts.why_not()
    if why is not None:
        pytest.skip(why)
    if postgres.binaries() is None:
        pytest.skip("no PostgreSQL server: install the system's package postgresql")
    with site(tmp_path) as made:
        yield made


def test_hosts_that_come_are_cut_off_and_die_end_n_trials(
    at: Site, tally: Callable[..., None]
) -> None:
    one, two, three = (at.network.add(name) for name in ("host1", "host2", "host3"))
    # Together, on databases that are empty: neither may break the other's tables.
    at.start(one, TRIALS)
    at.start(two, TRIALS)
    wait_until(lambda: at.ended() >= 4, "four trials")
    _nobody_reads_the_password()
    _cut_off_in_a_trial(at, two)
    at.start(three, TRIALS)
    wait_until(lambda: "goes on after" in three.said, "the third host")
    two.lose()
    assert one.wait(600) == 0, one.said
    assert three.wait(120) == 0, three.said
    check(at, TRIALS)
    said = one.said + three.said
    assert re.search(r"trial \d+ is tried again: its process has died on host2", said), said
    assert "Traceback" not in said
    assert PASSWORD not in said
    tally("hosts lost")


def test_a_host_that_comes_back_has_lost_its_trial_and_goes_on(
    at: Site, tally: Callable[..., None]
) -> None:
    one, two = at.network.add("host1"), at.network.add("host2")
    at.start(one, TRIALS)
    at.start(two, TRIALS)
    wait_until(lambda: at.ended() >= 2, "two trials")
    _cut_off_in_a_trial(at, two)
    wait_until(lambda: "has died on host2" in one.said, "that it is missed")
    two.mend()
    assert one.wait(600) == 0, one.said
    assert two.wait(300) == 0, two.said
    assert "is another process's now, which took this one for dead" in two.said
    assert "Traceback" not in two.said
    check(at, TRIALS)
    tally("hosts cut off and mended")


def test_servers_that_restart_cost_no_trial(at: Site, tally: Callable[..., None]) -> None:
    one = at.network.add("host1")
    at.start(one, TRIALS)
    wait_until(lambda: at.ended() >= 2, "two trials")
    at.database.pause(8.0)
    wait_until(lambda: at.ended() >= 5, "that it goes on")
    at.tracking.stop()
    time.sleep(8.0)
    at.tracking.start()
    assert one.wait(600) == 0, one.said
    assert check(at, TRIALS)["failed"] == 0
    assert "Traceback" not in one.said
    tally("servers stopped and started", 2)


def test_a_database_that_stays_away_ends_the_search_and_a_later_start_goes_on(at: Site) -> None:
    one = at.network.add("host1")
    at.start(one, 6)
    wait_until(lambda: at.ended() >= 2, "two trials")
    at.database.stop()
    time.sleep(3.0)
    one.signal(signal.SIGINT)  # whoever does not want to wait out its patience
    assert one.wait(60) in {1, 130}, one.said
    assert "does not answer" in one.said or "interrupted" in one.said
    assert "Traceback" not in one.said
    assert PASSWORD not in one.said
    at.database.start()
    at.start(one, 6)
    assert one.wait(300) == 0, one.said
    check(at, 6)


def _holds(at: Site, host: str) -> bool:
    return any(
        trial.state.name == "RUNNING" and trial.user_attrs.get("process", "").startswith(f"{host}/")
        for trial in at.trials()
    )


def _cut_off_in_a_trial(at: Site, host: Host) -> None:
    """Not between two of them, of which nothing would be seen."""
    for _ in range(100):
        host.cut_off()
        if _holds(at, host.name):
            return
        host.mend()
        time.sleep(0.5)
    pytest.fail(f"{host.name} runs no trial: {host.said}")


def _nobody_reads_the_password() -> None:
    """Not by `ps`, of any process here."""
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert any(b"--storage" in line for line in lines)
    assert not any(PASSWORD.encode() in line for line in lines if b"--storage" in line)
