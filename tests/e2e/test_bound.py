# SPDX-License-Identifier: Apache-2.0
"""Whatever a client or a handler does, the stop ends within its bound and says what it cut.

Only a request that was cut after its head was complete makes the status 1.
"""

import signal
import time
import unittest

from http_client import request
from service_case import DRAIN, LINGER, MARGIN, ServiceCase
from service_process import PATIENCE

BOUND = 2.0        # given as --shutdown-timeout


class StopHasABound(ServiceCase):
    """One kind of guest that does not leave, for each test."""

    def start_bounded(self):
        return self.start("--shutdown-timeout", str(int(BOUND)))

    def cut(self, service, path):
        """Ends at the bound with status 1, naming the request."""
        service.send(signal.SIGTERM)
        self.assert_ends(service, 1, within=BOUND + MARGIN)
        self.assertGreaterEqual(service.seconds_to_end(), BOUND - 0.1, "cut before its time")
        self.assert_said(service, path)

    def leaves_early(self, service):
        """Ends when the drain is over, with status 0."""
        service.send(signal.SIGTERM)
        self.assert_ends(service, 0, within=DRAIN + LINGER + MARGIN)

    def test_handler_that_never_ends(self):
        service = self.start_bounded()
        self.hold(service, "/never", count=2)
        self.cut(service, "/never")

    def test_handler_slower_than_the_bound(self):
        service = self.start_bounded()
        self.hold(service, "/slow?ms=60000")
        self.cut(service, "/slow")

    def test_handler_faster_than_the_bound(self):
        service = self.start_bounded()
        [held] = self.hold(service, "/slow?ms=1500")
        service.send(signal.SIGTERM)
        reply = held.reply()
        self.assertEqual(reply.status, 200)
        self.assertTrue(reply.says_close())
        self.assert_ends(service, 0, within=BOUND + MARGIN)

    def test_idle_connections(self):
        service = self.start_bounded()
        idle = [self.connect(service) for _ in range(5)]
        for connection in idle:
            connection.exchange("/")
        self.leaves_early(service)
        for connection in idle:
            self.assertEqual(connection.end(), b"")
        self.assert_said(service, "idle")

    def test_idle_connection_is_answered_while_draining(self):
        service = self.start_bounded()
        idle = self.connect(service)
        idle.exchange("/")
        service.send(signal.SIGTERM)
        service.wait_line("api: draining")
        reply = idle.exchange("/")
        self.assertEqual((reply.status, reply.body), (200, b"Hello, World!"))
        self.assertTrue(reply.says_close())
        self.assertEqual(idle.end(), b"")
        idle.close()
        self.assert_ends(service, 0, within=DRAIN + LINGER + MARGIN)

    def test_connection_that_never_spoke(self):
        service = self.start_bounded()
        silent = self.connect(service)
        self.assert_serves(service)
        self.leaves_early(service)
        self.assertEqual(silent.end(), b"")

    def test_half_a_head(self):
        service = self.start_bounded()
        half = self.connect(service)
        half.send(request("/")[:-2])
        self.assert_serves(service)
        self.leaves_early(service)
        reply = half.reply()
        self.assertEqual(reply.status, 408)
        self.assertTrue(reply.says_close())
        self.assert_said(service, "head")

    def test_half_a_head_completed_in_time(self):
        service = self.start_bounded()
        half = self.connect(service)
        half.send(request("/")[:-2])
        self.assert_serves(service)
        service.send(signal.SIGTERM)
        service.wait_line("api: draining")
        half.send(request("/")[-2:])
        self.assertEqual(half.reply().status, 200)
        half.close()
        self.assert_ends(service, 0, within=DRAIN + LINGER + MARGIN)

    def test_half_a_body(self):
        service = self.start_bounded()
        half = self.connect(service)
        half.send(request("/echo", "POST", b"y" * 10)[:-5])
        self.assert_serves(service)
        self.cut(service, "/echo")

    def test_half_a_body_completed_in_time(self):
        service = self.start_bounded()
        half = self.connect(service)
        half.send(request("/echo", "POST", b"y" * 10)[:-5])
        self.assert_serves(service)
        service.send(signal.SIGTERM)
        service.wait_line("api: draining")
        half.send(b"y" * 5)
        self.assertEqual(half.reply().body, b"y" * 10)
        half.close()
        self.assert_ends(service, 0, within=DRAIN + LINGER + MARGIN)

    def test_reader_that_stopped_reading(self):
        """More replies than all buffers hold are asked for, and none is taken."""
        service = self.start_bounded()
        stuck = self.connect(service, receive_buffer=4096)
        stuck.send(request("/64k") * 300)
        self.wait_stuck(service, stuck)
        self.cut(service, "/64k")

    def wait_stuck(self, service, connection):
        """Returns when the kernel takes no more of the service's bytes for the connection."""
        deadline = time.monotonic() + PATIENCE
        before = None
        while (queued := service.unsent_bytes(connection.local_port())) == 0 or queued != before:
            self.assertLess(time.monotonic(), deadline, "the service never got stuck")
            before = queued
            time.sleep(0.1)      # the kernel tells how much is queued, not that it stays so

    def test_client_that_does_not_close_after_the_last_reply(self):
        """The lingering after a last reply is bounded too."""
        service = self.start_bounded()
        [held] = self.hold(service, "/slow?ms=300")
        service.send(signal.SIGTERM)
        self.assertEqual(held.reply().status, 200)
        self.assert_ends(service, 0, within=0.3 + LINGER + MARGIN)

    def test_nobody_there(self):
        """Without a connection there is nothing to wait for."""
        service = self.start_bounded()
        self.assert_serves(service)
        service.send(signal.SIGTERM)
        self.assert_ends(service, 0, within=0.3)
        self.assert_orderly(service)


if __name__ == "__main__":
    unittest.main()
