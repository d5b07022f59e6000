# SPDX-License-Identifier: Apache-2.0
"""The tools themselves: each passes a server that behaves, and finds what is wrong with others."""

import os
import signal
import subprocess
import sys
import unittest

import drain_load
import http_cases
import sample_server
import slow_clients
from http_client import Connection, is_refused
from http_reply import MalformedReply, ReplyReader
from service_process import NotInTime, ReservedPort, ServiceProcess, count_after

SAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sample_server.py")


class Replies(unittest.TestCase):
    """The reader of replies, at every way of cutting the bytes."""

    def read(self, data, methods=("GET",), step=None):
        """(replies, reader) after feeding the bytes in pieces of the given size."""
        reader = ReplyReader()
        for method in methods:
            reader.expect(method)
        replies = []
        step = step or len(data)
        for at in range(0, len(data), step):
            reader.feed(data[at:at + step])
            while reply := reader.next_reply():
                replies.append(reply)
        return replies, reader

    def test_lengths_and_chunks_in_pieces_of_any_size(self):
        data = (b"HTTP/1.1 100 Continue\r\n\r\n"
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
                b"HTTP/1.1 204 No\r\nConnection: keep-alive, Close\r\n\r\n")
        for step in range(1, len(data) + 1):
            replies, reader = self.read(data, step=step)
            self.assertEqual([r.status for r in replies], [200, 200, 204])
            self.assertEqual([r.body for r in replies], [b"hello", b"abcde", b""])
            self.assertEqual(replies[0].interim, [100])
            self.assertEqual([r.says_close() for r in replies], [False, False, True])
            self.assertFalse(reader.started())

    def test_trailer(self):
        data = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n"
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        replies, _ = self.read(data)
        self.assertEqual([r.body for r in replies], [b"a", b""])

    def test_body_until_the_end(self):
        replies, reader = self.read(b"HTTP/1.0 200 OK\r\n\r\nabc")
        self.assertEqual(replies, [])
        self.assertEqual(reader.end_of_stream().body, b"abc")

    def test_head_has_no_body(self):
        data = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" * 2
        self.assertEqual(len(self.read(data, ("HEAD", "HEAD"))[0]), 2)

    def test_cut_reply_is_seen(self):
        _, reader = self.read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
        self.assertTrue(reader.started())
        self.assertIsNone(reader.end_of_stream())
        self.assertEqual(reader.cut_reply().body, b"hel")

    def test_nonsense_is_refused(self):
        for data in (b"hello\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n",
                     b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
                     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
                     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n"):
            with self.assertRaises(MalformedReply, msg=data):
                self.read(data)


class DrainLoad(unittest.TestCase):
    """Each bad manner is found, under its name."""

    def outcome(self, manner, **settings):
        self.assertIn(manner, sample_server.MANNERS)
        port = ReservedPort()
        self.addCleanup(port.close)
        command = f"{sys.executable} {SAMPLE} {port.number} {manner}"
        settings = {"conns": 16, "before": 0.3, "after": 3, "max_exit": 2, **settings}
        return drain_load.run(drain_load.Options(cmd=command, port=port.number, **settings))

    def assert_found(self, outcome, words):
        self.assertTrue(any(words in reason for reason in outcome.reasons), outcome.as_dict())

    def test_gentle(self):
        outcome = self.outcome("gentle", new_conns=8, idle=2)
        self.assertEqual(outcome.reasons, [], outcome.as_dict())
        self.assertGreater(outcome.ledger.answered, 100)
        self.assertEqual(outcome.ledger.sent, outcome.ledger.answered)

    def test_gentle_with_pauses(self):
        outcome = self.outcome("gentle", think_ms=5)
        self.assertEqual(outcome.reasons, [], outcome.as_dict())

    def test_abrupt(self):
        self.assert_found(self.outcome("abrupt", conns=64), "requests lost")

    def test_door_slammer(self):
        outcome = self.outcome("door_slammer", conns=64)
        self.assert_found(outcome, "requests lost")
        self.assertTrue(any("reused" in kind for kind in outcome.ledger.lost), outcome.as_dict())

    def test_truncating(self):
        outcome = self.outcome("truncating")
        self.assertTrue(any("truncated" in kind for kind in outcome.ledger.lost),
                        outcome.as_dict())

    def test_mumbling(self):
        self.assert_found(self.outcome("mumbling"), "garbled")

    def test_stubborn(self):
        outcome = self.outcome("stubborn", after=0.5)
        self.assert_found(outcome, "no end by itself")
        self.assertIsNone(outcome.exit_status)

    def test_failing(self):
        self.assert_found(self.outcome("failing"), "statuses outside 2xx")

    def test_ashamed(self):
        self.assert_found(self.outcome("ashamed"), "exit status 3, expected 0")

    def test_expected_status(self):
        self.assertEqual(self.outcome("ashamed", expect_exit=3).reasons, [])

    def test_silent(self):
        outcome = self.outcome("silent", after=2)
        self.assert_found(outcome, "no request answered")
        self.assert_found(outcome, "requests lost")

    def test_too_late(self):
        self.assert_found(self.outcome("gentle", idle=1, max_exit=0.1), "allowed are 0.1 s")

    def test_half_request_without_answer(self):
        self.assert_found(self.outcome("door_slammer", half_head=2, half_complete=0.2),
                          "half_head")

    def test_ends_before_the_signal(self):
        port = ReservedPort()
        self.addCleanup(port.close)
        with self.assertRaises(drain_load.ServerNotReady):
            drain_load.run(drain_load.Options(cmd="false", port=port.number))

    def test_command_line(self):
        port = ReservedPort()
        self.addCleanup(port.close)
        for manner, status in (("gentle", 0), ("ashamed", 1)):
            done = subprocess.run(
                [sys.executable, drain_load.__file__, "--cmd",
                 f"{sys.executable} {SAMPLE} {port.number} {manner}", "--port", str(port.number),
                 "--conns", "4", "--before", "0.2", "--max-exit", "3"],
                capture_output=True, text=True, check=False, timeout=60)
            self.assertEqual(done.returncode, status, done.stdout + done.stderr)
            self.assertIn("verdict", done.stdout)


class CasesAndSlowClients(unittest.TestCase):
    """Judging byte-level cases and slow clients."""

    def serve(self, manner):
        port = ReservedPort()
        self.addCleanup(port.close)
        process = subprocess.Popen([sys.executable, SAMPLE, str(port.number), manner])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        while is_refused(port.number):
            self.assertIsNone(process.poll(), "the sample server ended")
        return port.number

    def verdicts(self, port, *names):
        cases = [case for case in http_cases.load_cases() if case["name"] in names]
        self.assertEqual(len(cases), len(names))
        verdicts = http_cases.run_cases("127.0.0.1", port, cases)
        return {verdict.case["name"]: verdict.rank for verdict in verdicts}

    def test_cases_are_told_apart(self):
        ranks = self.verdicts(self.serve("gentle"), "get", "obs-text", "version-1.2",
                              "host-twice", "colon-missing", "length-negative", "two-blanks")
        self.assertEqual(ranks, {"get": "best", "obs-text": "best", "version-1.2": "best",
                                 "host-twice": "wrong", "colon-missing": "wrong",
                                 "length-negative": "wrong", "two-blanks": "allowed"})

    def test_no_answer_and_nonsense_are_wrong(self):
        self.assertEqual(self.verdicts(self.serve("silent"), "get"), {"get": "wrong"})
        self.assertEqual(self.verdicts(self.serve("mumbling"), "get"), {"get": "wrong"})

    def test_every_case_is_well_formed(self):
        cases = http_cases.load_cases()
        self.assertEqual(len({case["name"] for case in cases}), len(cases))
        for case in cases:
            self.assertTrue(b"".join(step for step in http_cases.expand(case["send"])
                                     if isinstance(step, bytes)) or "half_close" in case["send"][0])
            self.assertLessEqual({"name", "group", "about", "rfc", "send", "accept"}, set(case))
            for accepted in case["accept"]:
                self.assertLessEqual(set(accepted), {"status", "bodies", "then", "interim",
                                                     "without"})

    def test_slow_clients(self):
        port = self.serve("gentle")
        outcome = slow_clients.watch_kinds("127.0.0.1", port, 0.5)
        self.assertEqual({kind["how"] for kind in outcome.values()}, {"open"})
        self.assertEqual(outcome["idle after a reply"]["status"], 200)
        crowd = slow_clients.crowd("127.0.0.1", port, 50, probes=2)
        self.assertEqual((crowd["size"], crowd["still open"], crowd["unanswered"]), (50, 50, 0))


class Processes(unittest.TestCase):
    """Starting, hearing and ending a program."""

    def run_shell(self, script):
        """A program that gets the service's options and does what the script says."""
        service = ServiceProcess(binary="/bin/sh")
        service.command = ["/bin/sh", "-c", script]
        self.addCleanup(service.__exit__)
        return service.start()

    def test_lines_and_status(self):
        service = self.run_shell("echo starting; echo all is ready >&2; exit 7")
        service.wait_ready()
        self.assertEqual(service.wait(), 7)
        self.assertEqual(sorted(service.lines()), ["all is ready", "starting"])

    def test_a_line_that_never_comes(self):
        service = self.run_shell("echo already readying")
        with self.assertRaises(NotInTime):
            service.wait_ready()

    def test_an_end_that_never_comes(self):
        service = self.run_shell("trap '' TERM; echo ready; while :; do read x; done <&1")
        service.wait_ready()
        with self.assertRaises(NotInTime):
            service.stop(limit=0.2)

    def test_killed_by_a_signal(self):
        service = self.run_shell("echo ready; exec sleep 60")
        service.wait_ready()
        self.assertGreaterEqual(len(service.descriptors()), 3)
        self.assertEqual(len(service.threads()), 1)
        self.assertEqual(service.stop(signal.SIGTERM), -signal.SIGTERM)
        self.assertLess(service.seconds_to_end(), 10)

    def test_reserved_port(self):
        port = ReservedPort()
        self.addCleanup(port.close)
        self.assertTrue(is_refused(port.number))
        with self.assertRaises(ConnectionRefusedError):
            Connection(port.number)

    def test_counts_in_logs(self):
        for log in ("processed 12, dropped 3", "processed=12 dropped=3", "12 processed, 3 dropped",
                    "12 events processed, 3 events dropped", "processed: 12; dropped: 3"):
            self.assertEqual((count_after(log, "processed"), count_after(log, "dropped")), (12, 3),
                             log)
        self.assertIsNone(count_after("nothing", "dropped"))


if __name__ == "__main__":
    unittest.main()
