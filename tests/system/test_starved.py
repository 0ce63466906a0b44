"""A machine without room or memory: nothing half done counts, the run waits and says why, and goes on by itself."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from hub.database import lacks_space
from hub.runs import RunState
from tests.hub.runs.site import Site
from tests.system.drill import Make, assert_master_property, lone_worker, settled, until, workers

PEOPLE = 100
PATIENCE = 120.0
LIMIT = 20.0
"""Seconds after which a worker that does nothing is cut."""
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 32 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "small"
    folder.mkdir()
    told = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if told.returncode:
        pytest.skip("this machine does not let its root mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Not a byte is left on the disk while open."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue
        yield
    filler.unlink()


@contextmanager
def freezing() -> Iterator[None]:
    """Workers started while open freeze before their fourth write."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HUB_FAULT", "stop:before write*4")
        yield


def fed(site: Site, disk: Path, starves: Callable[[Site, str], bool], make_site: Make) -> None:
    """A run in the middle of which the disk is full until `starves`, and which comes out right by itself."""
    run = site.order()
    with freezing(), workers(site) as supervisor:
        [worker] = supervisor.pids
        until(lambda: psutil.Process(worker).status() == psutil.STATUS_STOPPED, PATIENCE)
        with full(disk):
            os.kill(worker, signal.SIGCONT)
            until(lambda: starves(site, run), PATIENCE)
            assert site.look(run).state is RunState.RUNNING
        until(settled(site, run), PATIENCE)
        assert supervisor.replaced == 0
    ended = site.look(run)
    assert (ended.state, ended.reason) == (RunState.DONE, None)
    assert dict(ended.counts.by) == {"applied": PEOPLE}
    assert (site.writes(), site.decisions()) == (PEOPLE, PEOPLE)
    assert_master_property(site, make_site)


def ended_by_itself(child: subprocess.Popen[bytes]) -> None:
    """Waits for a worker without memory to end; one that hangs is cut, as its supervisor would.

    A thread that finds no memory to begin with leaves whoever started it waiting: Python tells nobody.
    """
    try:
        assert child.wait(LIMIT) != 0
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def says(text: str) -> Callable[[Site, str], bool]:
    """Whether the run itself says this."""
    return lambda site, run: text in (site.look(run).reason or "")


GIVEN = {"page_rows": 5, "poll_seconds": 0.2, "lease_seconds": 60}


def test_a_full_disk_under_the_hubs_database_stops_the_work_until_there_is_room(
    small_disk: Path, make_site: Make, model_home: Path
) -> None:
    home = shutil.copytree(model_home, small_disk / "hub")
    site = make_site(PEOPLE, home=home, segments=small_disk.parent / "segments", **GIVEN)
    stood: list[int] = []

    def starves(_site: Site, _run: str) -> bool:
        """Nothing more was written for two seconds, and nothing more can be."""
        stood.append(site.writes())
        if len(stood) < 40 or stood[-1] != stood[-40]:
            return False
        with pytest.raises(OperationalError) as told, site.hub.database.begin() as session:
            session.execute(text("create table crowd as select randomblob(1000000)"))
        return lacks_space(told.value)

    fed(site, small_disk, starves, make_site)


def test_a_full_folder_of_segments_makes_the_run_wait_and_say_so(small_disk: Path, make_site: Make) -> None:
    site = make_site(PEOPLE, segments=small_disk / "segments", **GIVEN)
    fed(site, small_disk, says("out of disk space"), make_site)
    drafts = [each for each in (small_disk / "segments").rglob("*") if each.name.endswith(".draft")]
    assert drafts == []


def test_a_full_disk_at_the_far_side_makes_the_run_wait_and_say_so(
    small_disk: Path, tmp_path: Path, make_site: Make
) -> None:
    (tmp_path / "far0.db").symlink_to(small_disk / "far.db")
    site = make_site(PEOPLE, **GIVEN)
    fed(site, small_disk, says("the disk of the database is full"), make_site)


def test_a_worker_without_memory_is_replaced_and_its_page_tried_in_parts_with_nobody_parked(make_site: Make) -> None:
    site = make_site(400, page_rows=200, poll_seconds=0.2, lease_seconds=60)
    run = site.order()
    with lone_worker(site, HUB_FAULT="stop:before score*2") as child:
        until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
        size = psutil.Process(child.pid).memory_info().vms
        resource.prlimit(child.pid, resource.RLIMIT_AS, (size, size))  # not a page more than it has
        child.send_signal(signal.SIGCONT)
        ended_by_itself(child)
    with workers(site) as supervisor:
        until(settled(site, run), PATIENCE)
        assert supervisor.replaced == 0
    ended = site.look(run)
    assert (ended.state, dict(ended.counts.by)) == (RunState.DONE, {"applied": 400})
    with site.hub.database.read() as session:
        assert max(each.rows for each in site.hub.log.segments(session, run=run)[1:5]) <= 25
    assert_master_property(site, make_site)
