"""Web services whose clients leave in the middle: Starlette and FastAPI under uvicorn.

They cancel whatever made the reply, by anyio, on every turn of the loop until it has ended. The
service runs in a process of its own, so that one that spins or does not end can be ended.

`AIOPARTICIPANTS_TEST_CLIENTS=200 python -m pytest -s tests/test_web_services.py` lets that many
clients leave, and shows what is left then, with the CPU time of a quiet second.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse as FastAPIStreamingResponse
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from aioparticipants import InsightsSession, RetryPolicy
from aioparticipants.testing import FakeInsights

from .sweeps import held, own_tasks

CLIENTS = int(os.environ.get("AIOPARTICIPANTS_TEST_CLIENTS", "30"))
BY_HAND = "AIOPARTICIPANTS_TEST_CLIENTS" in os.environ
#: Seconds until something counts as hanging.
PATIENCE = float(os.environ.get("AIOPARTICIPANTS_TEST_PATIENCE", "60"))
#: Seconds that the service gives requests to end, once it is told to.
GRACE = 2
ROOT = Path(__file__).parents[1]


# --- The service, in a process of its own ---


async def from_a_stream(session, sid):
    async with session.participants(sid, page_size=2) as stream:
        async for each in stream:
            yield f"{each.participant_sid}\n"


async def from_a_bare_stream(session, sid):
    async for each in session.participants(sid, page_size=2):
        yield f"{each.participant_sid}\n"


async def from_a_fan_out(session, sid):
    async with session.fan_out([sid] * 3, page_size=2) as fan_out:
        async for result in fan_out:
            yield f"{result.conference_sid}\n"


async def from_merged_records(session, sid):
    async with session.fan_out([sid] * 3, page_size=2).participants() as records:
        async for each in records:
            yield f"{each.participant_sid}\n"


async def from_a_whole_list(session, sid):
    yield "begun\n"
    yield f"{len(await session.participants(sid, page_size=2))}\n"


async def from_a_session_of_its_own(session, sid):
    async with new_session() as own:
        async for each in own.participants(sid, page_size=2):
            yield f"{each.participant_sid}\n"


BODIES = {
    body.__name__: body
    for body in (
        from_a_stream,
        from_a_bare_stream,
        from_a_fan_out,
        from_merged_records,
        from_a_whole_list,
        from_a_session_of_its_own,
    )
}


def new_session():
    """Return a session on the server that the test runs."""
    about = json.loads(os.environ["ABOUT"])
    return InsightsSession(
        tuple(about["credentials"]),
        base_url=about["base_url"],
        retry=RetryPolicy(base_delay=0.001),
    )


def state_of(session):
    """Return what there is of the package in this process, and the CPU time that it has used."""
    return {
        "tasks": len(own_tasks()),
        "held": sum(held(session)),
        "all tasks": len(asyncio.all_tasks()),
        "cpu": time.process_time(),
    }


def starlette_app():
    """Return an application that streams records by each of `BODIES`."""

    @asynccontextmanager
    async def lifespan(_app):
        async with new_session() as session:
            yield {"session": session}

    async def stream(request):
        body = BODIES[request.path_params["body"]]
        return StreamingResponse(body(request.state.session, request.path_params["sid"]))

    async def state(request):
        return JSONResponse(state_of(request.state.session))

    routes = [Route("/state", state), Route("/{body}/{sid}", stream)]
    return Starlette(routes=routes, lifespan=lifespan)


def fastapi_app():
    """Return examples/web_fastapi.py's application, and besides what streams by each of `BODIES`.

    It has a middleware, as most have: that makes the reply in a task group of anyio's.
    """
    sys.path.insert(0, str(ROOT / "examples"))
    import web_fastapi  # noqa: PLC0415 - only this process has it on its path

    web_fastapi.DEADLINE = 1.0
    app: FastAPI = web_fastapi.make_app(new_session)

    @app.middleware("http")
    async def with_a_header(request, call_next):
        reply = await call_next(request)
        reply.headers["X-Served-By"] = "a test"
        return reply

    async def stream(request):
        body = BODIES[request.path_params["body"]](request.state.twilio, request.path_params["sid"])
        return FastAPIStreamingResponse(body)

    async def state(request):
        return JSONResponse(state_of(request.state.twilio))

    app.add_route("/state", state)
    app.add_route("/{body}/{sid}", stream)
    return app


def serve(name):
    """Serve an application, and tell its port."""
    app = {"starlette": starlette_app, "fastapi": fastapi_app}[name]()
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(app, log_level="critical", ws="none", timeout_graceful_shutdown=GRACE)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    serve(sys.argv[1])


# --- The tests ---


class Service:
    """A service in a process of its own, and the server that it asks."""

    def __init__(self, process, port, fake, sid):
        self.process = process
        self.port = port
        self.fake = fake
        self.sid = sid

    @asynccontextmanager
    async def asking(self, path):
        """Ask for something on a connection of its own, which is cut in the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            yield reader
        finally:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def state(self):
        """Return what the service holds: see `state_of`."""
        async with self.asking("/state") as reader:
            reply = await reader.read()
        return json.loads(reply.split(b"\r\n\r\n", 1)[1])

    async def is_quiet(self):
        """Wait until nothing of the package is left in the service; return what it said last."""
        return await self.until(lambda state: not (state["tasks"] or state["held"]))

    async def until(self, condition):
        """Ask for its state until that is as it should be, and return it."""
        while not condition(state := await self.state()):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
        return state

    async def end(self):
        """Tell it to end, and wait until it has."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            await self.process.wait()
        assert self.process.returncode in {0, -signal.SIGTERM}


#: Runs this module on the package that is installed: its folder comes last, for `tests` alone.
RUN = """
import runpy, sys
sys.path.append(sys.argv.pop(1))
runpy.run_module("tests.test_web_services", run_name="__main__", alter_sys=True)
"""


@asynccontextmanager
async def serving(name):
    """Run a service, and the server that it asks."""
    async with FakeInsights(latency=0.01) as fake:
        sid = fake.add_conference(120)
        about = {"base_url": fake.base_url, "credentials": fake.credentials}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", RUN, str(ROOT), name),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "ABOUT": json.dumps(about)},
            cwd=ROOT,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                port = int(await process.stdout.readline())
            yield Service(process, port, fake, sid)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            process._transport.close()


async def leave(service, path, rng):
    """Ask for a stream, and leave in the middle of it: before its first byte, or after some."""
    async with service.asking(path) as reader:
        for _ in range(rng.randrange(6)):
            async with asyncio.timeout(PATIENCE):
                await reader.readline()
        await asyncio.sleep(rng.uniform(0.0, 0.02))


@pytest.mark.parametrize("name", ["starlette", "fastapi"])
async def test_clients_that_leave(name):
    """Clients that leave in mid-stream leave nothing of a session in the service, which goes on."""
    rng = random.Random(name)
    async with serving(name) as service:
        paths = [f"/{body}/{service.sid}" for body in BODIES]
        if name == "fastapi":
            paths.append(f"/conferences/{service.sid}")
        before = await service.is_quiet()
        leaving = [leave(service, rng.choice(paths), rng) for _ in range(CLIENTS - len(paths))]
        leaving += [leave(service, path, rng) for path in paths]
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*leaving)
            # A task of the framework that spins in our clean-up is none of ours by its name.
            await service.until(lambda state: state["all tasks"] <= before["all tasks"])
            after = await service.is_quiet()
            async with service.asking(f"/from_a_whole_list/{service.sid}") as reader:
                assert b"120\n" in await reader.read()
        if BY_HAND:
            await show(name, service, before, after)
        await service.end()


@pytest.mark.parametrize("name", ["starlette", "fastapi"])
async def test_ends_on_sigterm(name):
    """A service in the middle of streams of each kind ends on SIGTERM, as its grace is over."""
    async with serving(name) as service, AsyncExitStack() as asking:
        for body in BODIES:
            path = f"/{body}/{service.sid}"
            reader = await asking.enter_async_context(service.asking(path))
            async with asyncio.timeout(PATIENCE):
                await reader.readline()
        service.fake.latency = 3600
        async with asyncio.timeout(PATIENCE):
            await service.until(lambda state: state["tasks"] >= len(BODIES))
        await service.end()


async def show(name, service, before, after):
    """Show what clients that left have left behind, and what the service does in a quiet second."""
    began = (await service.state())["cpu"]
    await asyncio.sleep(1.0)
    now = await service.state()
    sys.stdout.write(
        f"\n{name}: {CLIENTS} clients left; of the package {after['tasks']} tasks, and "
        f"{after['held']} slots and sockets; tasks in all {before['all tasks']} before, "
        f"{now['all tasks']} now; CPU in a quiet second {now['cpu'] - began:.3f} s\n"
    )
