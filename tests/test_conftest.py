"""The fixture that finds leaks does find each kind of leak."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent

LEAKING = """
import asyncio, os, socket

KEPT = []

async def test_task():
    KEPT.append(asyncio.create_task(asyncio.sleep(3600)))

async def test_descriptor():
    KEPT.append(os.open(os.devnull, os.O_RDONLY))

async def test_socket():
    KEPT.append(socket.create_server(("127.0.0.1", 0)))

async def test_connection(fake, session, held):
    sid = fake.add_conference(participants=1)
    await session.participants(sid)
    http = session._transport._http
    reply = await http.get(fake.base_url)
    KEPT.append(reply)
    http.connector._acquired.add("never released")

async def test_slot(session, held):
    await session._limiter.acquire()

async def test_lost_exception():
    async def fails():
        raise ZeroDivisionError
    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await asyncio.sleep(0)

async def test_resource_warning():
    file = open(os.devnull)
    del file

def test_of_no_loop():
    KEPT.append(os.open(os.devnull, os.O_RDONLY))

async def test_innocent(fake, session):
    sid = fake.add_conference(participants=1)
    assert len(await session.participants(sid)) == 1
"""


def test_every_leak_is_noticed(tmp_path):
    """A test that leaves a task, descriptor, connection, slot, exception or warning fails."""
    shutil.copy(TESTS / "conftest.py", tmp_path)
    (tmp_path / "test_leaking.py").write_text(LEAKING, encoding="utf-8")

    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "--tb=no"),
            *("-c", str(TESTS.parent / "pyproject.toml"), "--rootdir", str(tmp_path)),
            str(tmp_path / "test_leaking.py"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    failed = {
        line.split()[1].partition("::")[2]
        for line in ran.stdout.splitlines()
        if line.startswith(("FAILED ", "ERROR "))
    }

    assert failed == {
        "test_task",
        "test_descriptor",
        "test_socket",
        "test_connection",
        "test_slot",
        "test_lost_exception",
        "test_resource_warning",
        "test_of_no_loop",
    }, ran.stdout
