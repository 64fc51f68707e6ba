"""Faults in the commands and in the fake server."""

from __future__ import annotations

from engine import Fault, always, drop, insert_before, never, omit, replace

FAULTS = [
    Fault(
        "a message goes to stdout where stderr is closed",
        "test_cli.py",
        {
            "_cli._streams:say": [
                replace("sys.stderr", "sys.stderr or sys.stdout"),
                never("_is_missing(stream)"),
            ]
        },
    ),
    Fault(
        "a socket takes the descriptor of a closed stream",
        "test_cli.py",
        {"_cli.__init__:main": drop("fill_descriptors()")},
    ),
    Fault(
        "a part of a write is taken for all of it",
        "test_cli.py",
        {"_cli._streams:_write_all": replace("rest[count:]", "rest[len(rest):]")},
    ),
    Fault(
        "the cursor is beyond a page that is not written",
        "test_cli.py",
        {"_cli._list:_lines": insert_before("output.write(...)", "output.cursor = stream.cursor")},
    ),
    Fault(
        "the rest of the limit is all of it",
        "test_cli.py",
        {"_cli._streams:Output.way_on": replace("self.limit - self.records", "self.limit")},
    ),
    Fault(
        "a signal waits for a reader that has stopped",
        "test_cli.py",
        {"_cli._signals:Interruption._on_signal": omit("self._output.is_writing")},
    ),
    Fault(
        "a signal that the parent ignores is handled",
        "test_cli.py",
        {"_cli._signals:Interruption.installed": always("signal.SIG_IGN")},
    ),
    Fault(
        "a terminal obeys a table",
        "test_cli.py",
        {"_cli._table:": replace("printable(column.cell(item))", "column.cell(item)")},
    ),
    Fault(
        "a terminal obeys a message",
        "test_cli.py",
        {"_cli._streams:say": replace("printable(line)", "line")},
    ),
    Fault(
        "NO_PROXY is not read",
        "test_cli.py",
        {"_cli._proxies:": omit("proxy_bypass(...)")},
    ),
    Fault(
        "the fake does not copy participants",
        "test_fake_insights.py",
        {"testing._records:_copied": replace("json.loads(...)", "dict(given)")},
    ),
    Fault(
        "the fake serves cached pages of an earlier port",
        "test_fake_insights.py",
        {"testing._fake:FakeInsights._lead_here": drop("self._pages.clear()")},
    ),
]
