"""A server that says exactly the bytes a test wants, for what no well-behaved server does."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager


def http(body=b"", status="200 OK", *headers, length=None):
    """Return a whole reply, with the right length unless another is given."""
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {size}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def last_page(*records):
    """Return the body of a page that is the last."""
    return json.dumps({"participants": records, "meta": {"next_page_url": None}}).encode()


class Raw:
    """Answers the n-th request with the n-th of its replies, and the last of them from then on.

    A reply is bytes; None closes the connection; ... leaves it open and says nothing.
    """

    def __init__(self, *replies, keep_alive=True):
        self.replies = list(replies)
        self.keep_alive = keep_alive
        self.heads: list[str] = []
        self.connections = 0
        self.base_url = ""

    async def __call__(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                reply = self.replies[min(len(self.heads), len(self.replies) - 1)]
                self.heads.append(head.decode())
                if reply is None:
                    break
                if reply is ...:
                    await reader.read()
                    break
                writer.write(reply)
                await writer.drain()
                if not self.keep_alive:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def raw(*replies, keep_alive=True):
    """Run a `Raw` server on a free port of 127.0.0.1."""
    handler = Raw(*replies, keep_alive=keep_alive)
    running: set[asyncio.Task] = set()

    async def serve(reader, writer):
        running.add(asyncio.current_task())
        await handler(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    handler.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield handler
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()
