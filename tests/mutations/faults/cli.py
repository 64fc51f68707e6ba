"""Faults in the commands and in the fake server."""

from __future__ import annotations

from engine import Fault, always, drop, insert_before, never, omit, replace

FAULTS = [
    Fault(
        "a message goes to stdout where stderr is closed",
        "test_cli.py::test_stderr_that_fails",
        {
            "_cli._output:say": [
                replace("sys.stderr", "sys.stderr or sys.stdout"),
                never("_is_closed(stream)"),
            ]
        },
    ),
    Fault(
        "a socket takes the descriptor of a closed stream",
        "test_cli.py::test_no_socket_replaces_a_closed_stream",
        {"_cli.__init__:main": drop("open_closed_descriptors()")},
    ),
    Fault(
        "a part of a write is taken for all of it",
        "test_cli.py::test_disk_that_fills_up",
        {"_cli._output:_write_all": replace("rest[count:]", "rest[len(rest):]")},
    ),
    Fault(
        "the cursor is beyond a page that is not written",
        "test_cli.py::test_disk_that_fills_up",
        {
            "_cli._list:_write_ndjson": insert_before(
                "output.write(...)", "output.cursor = stream.cursor"
            )
        },
    ),
    Fault(
        "the rest of the limit is all of it",
        "test_cli.py::test_disk_that_fills_up",
        {"_cli._output:Output.resume_hint": replace("self.limit - self.records", "self.limit")},
    ),
    Fault(
        "a signal waits for a reader that has stopped",
        "test_cli.py::test_signal_while_stdout_is_full",
        {"_cli._signals:SignalHandler._on_signal": omit("self._output.is_writing")},
    ),
    Fault(
        "a signal that the parent ignores is handled",
        "test_cli.py::test_signals_before_the_first_page",
        {"_cli._signals:SignalHandler.installed": always("signal.SIG_IGN")},
    ),
    Fault(
        "a terminal obeys a table",
        "test_cli.py::test_control_characters_in_a_table",
        {"_cli._table:": replace("printable(column.cell(item))", "column.cell(item)")},
    ),
    Fault(
        "a terminal obeys a message",
        "test_cli.py::test_control_characters_in_a_line_of_stderr",
        {"_cli._output:say": replace("printable(line)", "line")},
    ),
    Fault(
        "NO_PROXY is not read",
        "test_cli.py::test_which_proxy",
        {"_cli._proxy:proxy_for": omit("proxy_bypass(...)")},
    ),
    Fault(
        "the fake does not copy participants",
        "test_fake_insights.py::test_given_participants",
        {"testing._given:as_plain_json": replace("json.loads(...)", "value")},
    ),
    Fault(
        "the fake serves URLs of an earlier port",
        "test_fake_insights.py::test_restart",
        {"testing._store:ConferenceStore.move": drop("_move(record, old, new)")},
    ),
]
