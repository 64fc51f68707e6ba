"""Replies that were damaged in transit, and judges of what a session makes of them.

    python tests/fuzz/wire.py [--seconds N] [--seed S]

A server sends a list of two pages, exactly the bytes that it is given; one or both replies are
mutated. A finding is one of these: an error that is not an `InsightsError`, records that are not in
the bytes, a hang, or a task, file or exception that is left behind.

Plain HTTP has no checksum: where a flipped byte turns `"agent"` into `"agemt"`, nobody can tell. So
a second reader, made of the standard library only (`http.client`, `zlib`, `json`), reads the same
bytes: the records must be the original ones or those that it finds. Records that are lost, repeated
or mixed up are found this way, and so is a list that ends where no reader sees an end.

New findings go to corpus.json, which is part of the suite: see tests/test_fuzz.py.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import gc
import gzip
import http.client
import io
import json
import os
import random
import re
import time
import zlib
from collections import Counter
from pathlib import Path

import attrs

from aioparticipants import InsightsError, InsightsSession, RetryPolicy
from aioparticipants._structuring import participant

CORPUS = Path(__file__).with_name("corpus.json")

SID = "CF" + "a" * 32
LISTING = f"https://insights.twilio.com/v1/Conferences/{SID}/Participants"
#: Seconds for an attempt; a reply that stalls takes two attempts.
TIMEOUT = 0.25
#: Seconds after which a case hangs; much more than the attempts for two pages.
HANG = 20.0

#: The records of the two pages. The second one's text needs UTF-8 and escapes.
PAGES = [
    [
        {"participant_sid": "CP" + f"{number:032x}", "label": f"agent {number}"}
        for number in range(4)
    ],
    [{"participant_sid": "CP" + "b" * 32, "label": 'é "1" \\ \u2028', "duration_seconds": 65}],
]


# --- Cases ---


@attrs.frozen
class Case:
    """What the server sends."""

    name: str
    replies: tuple[bytes, bytes]
    """The replies to the requests for the first and the second page."""
    once: bool = False
    """Whether it sends them only once, and the good replies after that."""
    close: bool = False
    """Whether it closes the connection after each."""

    def to_json(self):
        return {
            **attrs.asdict(self),
            # One character a byte, so that a case and its diffs are readable.
            "replies": [reply.decode("latin-1") for reply in self.replies],
        }

    @classmethod
    def from_json(cls, members):
        replies = tuple(reply.encode("latin-1") for reply in members["replies"])
        return cls(**{**members, "replies": replies})


def corpus():
    return [Case.from_json(each) for each in json.loads(CORPUS.read_text(encoding="utf-8"))]


def keep(cases):
    """Add cases to the corpus."""
    members = [case.to_json() for case in (*corpus(), *cases)]
    CORPUS.write_text(json.dumps(members, indent=1) + "\n", encoding="utf-8")


def body(number):
    link = f"{LISTING}?PageSize=4&Page=1&PageToken=PT1" if number == 0 else None
    page = {"participants": PAGES[number], "meta": {"page": number, "next_page_url": link}}
    return json.dumps(page).encode()


def reply(number, framing="length"):
    """Return a good reply, in one of four forms."""
    content, headers = body(number), []
    if framing.startswith("gzip"):
        content = gzip.compress(content, mtime=0)
        headers.append("Content-Encoding: gzip")
    if framing.endswith("chunks"):
        headers.append("Transfer-Encoding: chunked")
        parts = [content[at : at + 100] for at in range(0, len(content), 100)]
        content = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])
    else:
        headers.append(f"Content-Length: {len(content)}")
    lines = [
        "HTTP/1.1 200 OK",
        "Content-Type: application/json",
        f"Twilio-Request-Id: RQ{number:032x}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


FRAMINGS = ["length", "chunks", "gzip", "gzip chunks"]

HEADERS = [
    b"Content-Length: 0",
    b"Content-Length: 10",
    b"Content-Length: -1",
    b"Content-Length: +5",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: 5, 5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding : chunked",
    b"Content-Encoding: gzip",
    b"Content-Encoding: deflate",
    b"Content-Encoding: br",
    b"Content-Encoding: zstd",
    b"Content-Encoding: nonsense",
    b"Connection: close",
    b"Connection: upgrade\r\nUpgrade: h2c",
    b"Location: https://evil.example/",
    b"Retry-After: 0",
    b"Retry-After: nan",
    b"Set-Cookie: a=b; Domain=evil.example",
    b"Content-Type: text/html; charset=utf-16",
    b"Twilio-Request-Id: \xff\xfe",
    b"X: " + b"y" * 9000,
    b" folded",
    b"no colon",
    b": no name",
    b"X\x00: y",
    b"",
]
STARTS = [
    b"HTTP/1.1 200",
    b"HTTP/1.0 200 OK",
    b"HTTP/0.9 200 OK",
    b"HTTP/2 200 OK",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK",
    b"HTTP/1.1 101 Switching Protocols",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 206 Partial Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 302 Found",
    b"HTTP/1.1 429 Too Many",
    b"HTTP/1.1 503 Busy",
    b"HTTP/1.1 999 ?",
    b"HTTP/1.1 20 OK",
    b"HTTP/1.1 +200 OK",
    b"ICY 200 OK",
    b"\x16\x03\x01\x02\x00",
    b"",
]
SCRAPS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"-1\r\n",
    b"}",
    b"]",
]


def mutated(rng, whole):  # noqa: C901, PLR0911 - a table of mutations
    """Return a reply with one thing wrong."""
    at = rng.randrange(len(whole) + 1)
    until = min(len(whole), at + rng.choice([1, 2, 10, 100, 1000]))
    head, blank, content = whole.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    match rng.randrange(11):
        case 0:  # a byte is replaced
            return whole[:at] + bytes([rng.randrange(256)]) + whole[at + 1 :]
        case 1:  # a bit is flipped
            at = min(at, len(whole) - 1)
            return whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :]
        case 2:  # cut off
            return whole[:at]
        case 3:  # a part is missing
            return whole[:at] + whole[until:]
        case 4:  # a part is repeated
            return whole[:until] + whole[at:]
        case 5:  # a part is inserted
            scrap = rng.choice([*SCRAPS, rng.randbytes(rng.randrange(1, 40))])
            return whole[:at] + scrap + whole[at:]
        case 6:  # an additional header
            lines.insert(rng.randrange(1, len(lines) + 1), rng.choice(HEADERS))
        case 7:  # a header is missing or repeated
            line = rng.randrange(len(lines))
            lines[line : line + 1] = [lines[line]] * rng.choice([0, 2])
        case 8:  # another first line
            lines[0] = rng.choice(STARTS)
        case 9:  # another size of a chunk
            sizes = [*re.finditer(rb"(?:\A|\r\n)([0-9a-f]+)\r\n", content)] or [None]
            size = rng.choice(sizes)
            new = rng.choice([b"0", b"1", b"fff", b"64;x=y", b"0x64", b"-64", b" 64", b"64 ", b"g"])
            if size is not None:
                content = content[: size.start(1)] + new + content[size.end(1) :]
        case _:  # a second reply behind the first
            content += reply(rng.randrange(2), rng.choice(FRAMINGS))
    return b"\r\n".join(lines) + blank + content


def case(seed, number):
    """Return the case with this number, the same one each time."""
    rng = random.Random(f"{seed} {number}")
    replies = [reply(page, rng.choice(FRAMINGS)) for page in range(2)]
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        page = rng.randrange(2)
        replies[page] = mutated(rng, replies[page]) or b"\n"
    return Case(
        name=f"seed {seed}, number {number}",
        replies=tuple(replies),
        once=rng.random() < 0.3,
        close=rng.random() < 0.7,
    )


# --- The second reader ---


class _Bytes:
    """The part of a socket that `http.client` needs."""

    def __init__(self, content):
        self._content = content

    def makefile(self, _mode):
        return io.BytesIO(self._content)


#: Interim replies before the final one; `http.client` skips 100 only.
_INTERIM = re.compile(rb"\A(HTTP/1\.[01] 1(?!01)\d\d[^\n]*\n([^\r\n]+\r\n)*\r\n)+")
_UNREADABLE = (
    *(http.client.HTTPException, OSError, ValueError, zlib.error),
    *(KeyError, TypeError, OverflowError, RecursionError),
)


@attrs.frozen
class Reading:
    """A page that a reader finds in a reply."""

    records: list
    link: object = None
    whole: bool = True
    """Whether it is the whole page; if not, invalid JSON follows these records."""


def readings(content):
    """Return the pages that the two readers find in a reply."""
    content = _INTERIM.sub(b"", content)
    found = []
    for read in (_by_the_book, _by_a_lenient_reader):
        with contextlib.suppress(*_UNREADABLE):
            text, encoding = read(content)
            if encoding in {"gzip", "deflate"}:
                text = zlib.decompressobj(47 if encoding == "gzip" else 15).decompress(text)
            found.append(Reading(_leading_records(text), whole=False))
            page = json.loads(text)
            found.append(Reading(page["participants"], page["meta"]["next_page_url"]))
    return found


def _leading_records(text):
    """Return the records of a page, up to invalid JSON."""
    try:
        text = text.decode()
    except UnicodeDecodeError as error:
        text = text[: error.start].decode()
    records, at = [], text.find("[") + 1
    with contextlib.suppress(ValueError, RecursionError):
        while at:
            record, end = json.JSONDecoder().raw_decode(text, at)
            mark = re.compile(r"\s*[],]\s*").match(text, end)
            if mark is None:
                break
            records.append(record)
            at = mark.end()
    return records


def _by_the_book(content):
    reply = http.client.HTTPResponse(_Bytes(content), method="GET")
    reply.begin()
    # Of several, the last known one counts, as for aiohttp.
    named = [each.lower() for each in reply.headers.get_all("Content-Encoding", ())]
    return reply.read(), next((each for each in named[::-1] if each in {"gzip", "deflate"}), "")


def _by_a_lenient_reader(content):
    """Read chunks as aiohttp does by default: whatever the head says, and without CR."""
    head, _, rest = content.partition(b"\r\n\r\n")
    text = b""
    while size := re.match(rb"[ \t]*([0-9a-fA-F]+)[ \t]*(;[^\n]*)?\r?\n", rest):
        length = int(size[1], 16)
        text += rest[size.end() :][:length]
        rest = rest[size.end() + length :].removeprefix(b"\r").removeprefix(b"\n")
    return text, "gzip" if re.search(rb"(?i)\ncontent-encoding:[^\n]*gzip", head) else ""


def possible(case):
    """Return the lists that a case may give: for each page, what either reader finds."""
    firsts, seconds = ([_original(page), *readings(case.replies[page])] for page in range(2))
    lists = []
    for first in firsts:
        lists += [Reading(first.records, whole=first.whole and first.link is None)]
        if first.whole and first.link is not None:
            lists += [
                Reading(first.records + second.records, whole=second.whole) for second in seconds
            ]
    return lists


def _original(number):
    page = json.loads(body(number))
    return Reading(page["participants"], page["meta"]["next_page_url"])


# --- The server ---


class Server:
    """Serves any number of cases; the password of a request is the number of its case."""

    def __init__(self):
        self._cases = []
        self._seen = []
        self._running = {}
        self.base_url = ""

    def add(self, case):
        self._cases.append(case)
        self._seen.append(Counter())
        return str(len(self._cases) - 1)

    @contextlib.asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            # Not cancelled, as asyncio's streams log that up to 3.11.
            for writer in self._running.values():
                writer.close()
            await asyncio.gather(*self._running)
            await server.wait_closed()

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._running[task] = writer
        task.add_done_callback(self._running.pop)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                query = head.split(b" ")[1].partition(b"?")[2]
                basic = re.search(rb"(?i)authorization: basic (\S+)", head)[1]
                password = base64.b64decode(basic).partition(b":")[2]
                content, close = self._reply(int(password), query)
                writer.write(content)
                await writer.drain()
                if close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _reply(self, which, query):
        case, seen = self._cases[which], self._seen[which]
        seen[query] += 1
        page = [*seen].index(query)
        if page > 1:  # a mutated link, to a page that does not exist
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", True
        # aiohttp itself sends a request again if the connection broke: that is the same attempt.
        if case.once and seen[query] > 2:
            return reply(page), False
        return case.replies[page], case.close


# --- A run ---


async def judge(server, case, *, whole=False):
    """Return what is wrong with the result of a case, None if nothing is.

    The list must be the `whole` one where nothing was mutated.
    """
    password = server.add(case)
    records, ended = [], False
    try:
        async with (
            asyncio.timeout(HANG),
            InsightsSession(
                ("AC" + "a" * 32, password),
                base_url=server.base_url,
                timeout=TIMEOUT,
                retry=RetryPolicy(max_attempts=3, base_delay=0.0),
            ) as session,
        ):
            try:
                async for record in session.participants(SID, page_size=4):
                    records.append(record)
                ended = True
            except InsightsError as error:
                if error.cursor is None or error.conference_sid != SID:
                    return f"{type(error).__name__} does not say where the list stopped"
    except TimeoutError:
        return "it hangs"
    except Exception as error:  # noqa: BLE001 - that is what we look for
        return f"{type(error).__name__} is not an InsightsError: {error}"
    if whole and not ended:
        return "an error, though nothing is wrong"
    return _wrong_records(records, case, ended=ended)


def _wrong_records(records, case, *, ended):
    for each in possible(case):
        if ended and not each.whole:
            continue
        with contextlib.suppress(InsightsError):
            found = each.records if ended else each.records[: len(records)]
            expected = [participant(raw, "") for raw in found]
            if expected == records:
                return None
    return f"{len(records)} records that are not in the bytes, {'' if ended else 'not '}ended"


def _open_files():
    with contextlib.suppress(OSError):
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count, not paths
    return 0


async def examine(cases, *, at_once=32):
    """Run all cases, and return the findings: a case, and what is wrong."""
    findings = []
    lost = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: lost.append(context))
    tasks, files = len(asyncio.all_tasks()), _open_files()
    waiting = [*cases]
    try:
        server = Server()
        async with server.running():

            async def work():
                while waiting:
                    case = waiting.pop()
                    wrong = await judge(server, case)
                    if wrong is not None:
                        findings.append((case, wrong))

            await asyncio.gather(*(work() for _ in range(at_once)))
    finally:
        loop.set_exception_handler(before)
    for _ in range(4):
        await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    left = (len(asyncio.all_tasks()) - tasks, _open_files() - files, len(lost))
    if any(left):
        wrong = "{} tasks, {} files and {} exceptions were left behind".format(*left)
        findings.append((Case("all of them", (b"", b"")), wrong))
    return findings


def main():
    parser = argparse.ArgumentParser(description="Damage replies, and judge the results.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    number, findings = 0, []
    while time.monotonic() < end:
        cases = [case(options.seed, number + each) for each in range(500)]
        found = asyncio.run(examine(cases))
        number += len(cases)
        for each, wrong in found:
            print(f"{each.name}: {wrong}", flush=True)
        findings += found
    keep([each for each, _ in findings if each.replies[0]])
    print(f"{number} cases of seed {options.seed}: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
