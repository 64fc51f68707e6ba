"""Servers that send exactly the bytes of a test, as no well-behaved server would."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import ssl
import struct
import threading
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from urllib.parse import urlsplit


def http(body=b"", status="200 OK", *headers, length=None):
    """Return a whole reply; `length` is its Content-Length, by default the right one."""
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {size}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def last_page(*records):
    """Return the body of a last page."""
    return json.dumps({"participants": records, "meta": {"next_page_url": None}}).encode()


def closing(data=b""):
    """Return a reply that closes the connection after `data`."""

    async def reply(_reader, writer):
        writer.write(data)
        await writer.drain()

    return reply


def following(data, event, more):
    """Return a reply that sends `data`, and `more` once the event is set, and then nothing."""

    async def reply(reader, writer):
        writer.write(data)
        await event.wait()
        writer.write(more)
        await reader.read()

    return reply


def stalling(data=b""):
    """Return a reply that sends nothing after `data`, until the client disconnects."""

    async def reply(reader, writer):
        writer.write(data)
        await reader.read()

    return reply


def dripping(data, more):
    """Return a reply that repeats `more` after `data`, byte by byte and without end."""

    async def reply(reader, writer):
        writer.write(data)
        while not reader.at_eof():
            for byte in more:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.01)

    return reply


def endless(data, more):
    """Return a reply that repeats `more` after `data`, as fast as the client reads."""

    async def reply(reader, writer):
        writer.write(data)
        while not reader.at_eof():
            writer.write(more)
            await writer.drain()
            await asyncio.sleep(0)

    return reply


def resetting(data=b""):
    """Return a reply that resets the connection (RST) after `data`."""

    async def reply(_reader, writer):
        writer.write(data)
        await writer.drain()
        # With a linger time of 0, close() discards what was not sent, and resets.
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        writer.transport.abort()

    return reply


class Raw:
    """Answers the n-th request with the n-th of its replies, and all later ones with the last.

    A reply is bytes; None closes the connection; ... leaves it open and sends nothing; a function
    of reader and writer sends what it likes, and then the connection is closed. `greeting` is such
    a function, too: it is called as soon as a client has connected, and no request is read.
    """

    def __init__(self, *replies, keep_alive=True, greeting=None):
        self.replies = list(replies)
        self.keep_alive = keep_alive
        self.greeting = greeting
        self.heads: list[str] = []
        self.connections = 0
        self.base_url = ""

    async def __call__(self, reader, writer):
        self.connections += 1
        try:
            if self.greeting:
                await self.greeting(reader, writer)
            while not self.greeting:
                head = await reader.readuntil(b"\r\n\r\n")
                reply = self.replies[min(len(self.heads), len(self.replies) - 1)]
                self.heads.append(head.decode())
                if reply is None:
                    break
                if reply is ...:
                    await reader.read()
                    break
                if callable(reply):
                    await reply(reader, writer)
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
async def raw(*replies, keep_alive=True, greeting=None, ssl=None):
    """Run a `Raw` server on a free port of 127.0.0.1."""
    handler = Raw(*replies, keep_alive=keep_alive, greeting=greeting)
    async with serving(handler, ssl=ssl) as handler.base_url:
        yield handler


@asynccontextmanager
async def serving(handler, *, ssl=None):
    """Call `handler` with each connection to a free port of 127.0.0.1; yield the URL of that."""
    running: set[asyncio.Task] = set()

    async def serve(reader, writer):
        running.add(asyncio.current_task())
        # asyncio before 3.12 makes an error of a handler that ends as cancelled.
        with suppress(asyncio.CancelledError):
            await handler(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=ssl)
    scheme = "http" if ssl is None else "https"
    try:
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()


class ForwardProxy:
    """A forward proxy: opens tunnels (CONNECT), and forwards requests in absolute form.

    It demands `password`, such as `"user:secret"`, if there is one (RFC 9110, 11.7). It records the
    heads of the requests that it received, and the bytes that went through its tunnels.
    """

    def __init__(self, password=None):
        self.password = password
        self.heads: list[str] = []
        self.through = b""
        self.url = ""

    async def __call__(self, reader, writer):
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                self.heads.append(head)
                method, target, _ = head.split("\r\n")[0].split(" ")
                if not self._is_authorized(head):
                    writer.write(http(b"", "407 Refused", "Proxy-Authenticate: Basic realm=here"))
                elif method == "CONNECT":
                    await self._tunnel(target, reader, writer)
                    break
                else:
                    writer.write(await self._forwarded(head, target))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _is_authorized(self, head):
        if self.password is None:
            return True
        encoded = base64.b64encode(self.password.encode()).decode()
        return f"\r\nProxy-Authorization: Basic {encoded}\r\n" in head

    async def _tunnel(self, authority, reader, writer):
        host, _, port = authority.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def copied(source, target):
            with suppress(ConnectionError):
                while data := await source.read(65536):
                    self.through += data
                    target.write(data)
            target.close()

        try:
            await asyncio.gather(copied(reader, far_writer), copied(far_reader, writer))
        finally:
            far_writer.close()

    async def _forwarded(self, head, target):
        """Return the reply to a GET whose target is an absolute URL."""
        url = urlsplit(target)
        lines = [each for each in head.split("\r\n") if not each.lower().startswith("proxy-")]
        lines[0] = f"GET {url.path}?{url.query} HTTP/1.1"
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        try:
            writer.write("\r\n".join(lines).encode())
            reply = await reader.readuntil(b"\r\n\r\n")
            [length] = re.findall(rb"Content-Length: (\d+)", reply)
            return reply + await reader.readexactly(int(length))
        finally:
            writer.close()


@asynccontextmanager
async def forward_proxy(password=None, *, ssl=None):
    """Run a `ForwardProxy` on a free port of 127.0.0.1."""
    proxy = ForwardProxy(password)
    async with serving(proxy, ssl=ssl) as proxy.url:
        yield proxy


@contextmanager
def handshaking(context):
    """Yield the port of a host that only does a TLS handshake by `context`, and sends its alerts.

    In a thread, as asyncio closes the connection of a failed handshake before it sends the alert.
    """

    def serve(listener):
        with suppress(OSError):  # the listener is closed
            while True:
                plain, _ = listener.accept()
                with plain, suppress(OSError):
                    with context.wrap_socket(
                        plain, server_side=True, do_handshake_on_connect=False
                    ) as secure:
                        with suppress(ssl.SSLError):
                            secure.do_handshake()
                        # Closing with unread data would reset the connection.
                        while socket.socket.recv(secure, 65536):
                            pass

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join()


@contextmanager
def never_accepting():
    """Yield the port of a host that accepts no connection: connecting to it hangs."""
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # more than the queue holds on any system
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
