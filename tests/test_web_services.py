"""Web services whose clients disconnect during the reply: Starlette and FastAPI under uvicorn.

The frameworks then cancel the reply's tasks with anyio, in every iteration of the loop until they
have ended. The service runs in a process of its own, so that the test can end it if it hangs.

`AIOPARTICIPANTS_TEST_CLIENTS=200 python -m pytest -s tests/test_web_services.py` lets that many
clients disconnect, and prints what is left afterwards, and the CPU time of an idle second.
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
#: Seconds after which a step is considered to hang.
PATIENCE = float(os.environ.get("AIOPARTICIPANTS_TEST_PATIENCE", "60"))
#: Seconds that the service gives requests to end after SIGTERM.
GRACE = 2
ROOT = Path(__file__).parents[1]


# --- The service, in a process of its own ---


async def from_a_stream(session, sid):
    async with session.participants(sid, page_size=2) as stream:
        async for each in stream:
            yield f"{each.participant_sid}\n"


async def from_an_unclosed_stream(session, sid):
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


async def from_a_complete_list(session, sid):
    yield "started\n"
    yield f"{len(await session.participants(sid, page_size=2))}\n"


async def from_its_own_session(session, sid):
    async with new_session() as own:
        async for each in own.participants(sid, page_size=2):
            yield f"{each.participant_sid}\n"


BODIES = {
    body.__name__: body
    for body in (
        from_a_stream,
        from_an_unclosed_stream,
        from_a_fan_out,
        from_merged_records,
        from_a_complete_list,
        from_its_own_session,
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
    """Return the tasks and resources of the package in this process, and the CPU time used."""
    return {
        "tasks": len(own_tasks()),
        "held": sum(held(session)),
        "all tasks": len(asyncio.all_tasks()),
        "cpu": time.process_time(),
    }


def starlette_app():
    """Return an application that streams each of `BODIES`."""

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
    """Return the application of examples/web_fastapi.py, which also streams each of `BODIES`.

    It has a middleware, as most applications have: the reply then runs in anyio's task group.
    """
    sys.path.insert(0, str(ROOT / "examples"))
    import web_fastapi  # noqa: PLC0415 - on the path of this process only

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
    """Serve an application, and print its port."""
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
    """A service in a process of its own, and the FakeInsights that it calls."""

    def __init__(self, process, port, fake, sid):
        self.process = process
        self.port = port
        self.fake = fake
        self.sid = sid

    @asynccontextmanager
    async def get(self, path):
        """Send a request on a new connection, yield its reader, and abort the connection."""
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
        """Return the state of the service: see `state_of`."""
        async with self.get("/state") as reader:
            reply = await reader.read()
        return json.loads(reply.split(b"\r\n\r\n", 1)[1])

    async def idle_state(self):
        """Wait until the package has no task and no resource in the service; return the state."""
        return await self.until(lambda state: not (state["tasks"] or state["held"]))

    async def until(self, condition):
        """Poll the state until the condition is true, and return it."""
        while not condition(state := await self.state()):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
        return state

    async def end(self):
        """Terminate the service, and wait for its end."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            await self.process.wait()
        assert self.process.returncode in {0, -signal.SIGTERM}


#: Runs this module. The repository comes last on the path, so that the installed package is used.
RUN = """
import runpy, sys
sys.path.append(sys.argv.pop(1))
runpy.run_module("tests.test_web_services", run_name="__main__", alter_sys=True)
"""


@asynccontextmanager
async def serving(name):
    """Run a service, and the FakeInsights that it calls."""
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


async def disconnect(service, path, rng):
    """Request a stream, and disconnect before its first line or after some lines."""
    async with service.get(path) as reader:
        for _ in range(rng.randrange(6)):
            async with asyncio.timeout(PATIENCE):
                await reader.readline()
        await asyncio.sleep(rng.uniform(0.0, 0.02))


@pytest.mark.parametrize("name", ["starlette", "fastapi"])
async def test_clients_that_disconnect(name):
    """When clients disconnect, no task and no resource is left, and the service continues."""
    rng = random.Random(name)
    async with serving(name) as service:
        paths = [f"/{body}/{service.sid}" for body in BODIES]
        if name == "fastapi":
            paths.append(f"/conferences/{service.sid}")
        before = await service.idle_state()
        clients = [disconnect(service, rng.choice(paths), rng) for _ in range(CLIENTS - len(paths))]
        clients += [disconnect(service, path, rng) for path in paths]
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*clients)
            # A task of the framework that hangs in our cleanup is not named as ours.
            await service.until(lambda state: state["all tasks"] <= before["all tasks"])
            after = await service.idle_state()
            async with service.get(f"/from_a_complete_list/{service.sid}") as reader:
                assert b"120\n" in await reader.read()
        if BY_HAND:
            await show(name, service, before, after)
        await service.end()


@pytest.mark.parametrize("name", ["starlette", "fastapi"])
async def test_ends_on_sigterm(name):
    """A service with streams of every kind in progress ends on SIGTERM, after the grace period."""
    async with serving(name) as service, AsyncExitStack() as requests:
        for body in BODIES:
            path = f"/{body}/{service.sid}"
            reader = await requests.enter_async_context(service.get(path))
            async with asyncio.timeout(PATIENCE):
                await reader.readline()
        service.fake.latency = 3600
        async with asyncio.timeout(PATIENCE):
            await service.until(lambda state: state["tasks"] >= len(BODIES))
        await service.end()


async def show(name, service, before, after):
    """Print what is left after the clients, and the CPU time of an idle second."""
    began = (await service.state())["cpu"]
    await asyncio.sleep(1.0)
    now = await service.state()
    sys.stdout.write(
        f"\n{name}: {CLIENTS} clients disconnected; the package has {after['tasks']} tasks and "
        f"{after['held']} slots and sockets; all tasks: {before['all tasks']} before, "
        f"{now['all tasks']} now; CPU in an idle second {now['cpu'] - began:.3f} s\n"
    )
