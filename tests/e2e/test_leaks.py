# SPDX-License-Identifier: Apache-2.0
"""Nothing is left behind: descriptors, threads and fibers, while it runs and when it ends."""

import os
import re
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from http_client import Connection, fetch, request
from service_case import ServiceCase, report, told
from service_process import PATIENCE

IDLE_SECONDS = 3.0
IDLE_CPU = 0.05          # seconds of it that an idle service may use in that time
GROWTH_MAX = 1.3         # of memory, from the third round of the same work to the last


def wait_until(condition):
    """Asks until it is so or patience ends: for what the kernel does a moment later."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True


class Leaks(ServiceCase):
    """Counted by /proc, and by the service's own report."""

    def work(self, service):
        """All kinds of ends that a connection can come to."""
        def one(_):
            fetch(service.app_port, "/")
            fetch(service.app_port, "/echo", "POST", b"x" * 5000)
            fetch(service.app_port, "/throw")
            with Connection(service.app_port) as half:
                half.send(request("/")[:-2])
            with Connection(service.app_port) as half:
                half.send(request("/echo", "POST", b"y" * 10)[:-5])
            with Connection(service.app_port) as leaver:
                leaver.send(request("/slow?ms=50"))
            resetter = Connection(service.app_port)
            resetter.send(request("/64k") * 20)
            resetter.reset()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, range(64)))

    def test_descriptors_and_threads_return_to_where_they_were(self):
        service = self.start()
        self.work(service)
        wait_until(lambda: len(self.sockets(service)) == 2)
        threads = len(service.threads())
        before = service.descriptors()
        self.work(service)
        self.assertTrue(wait_until(lambda: len(service.descriptors()) == len(before)),
                        f"{before}\n{service.descriptors()}")
        self.assertEqual(len(self.sockets(service)), 2, "more than the two listeners is open")
        self.assertLessEqual(len(service.threads()), threads + 2)
        self.assertEqual(service.stop(), 0, service.log())

    def sockets(self, service):
        """TCP sockets only: the runtime may have sockets of its own kind."""
        of_tcp = {row[9] for row in service.tcp_table()}
        return [target for target in service.descriptors().values()
                if (match := re.fullmatch(r"socket:\[(\d+)\]", target))
                and match.group(1) in of_tcp]

    def test_fibers_return_to_where_they_were(self):
        service = self.start()
        def fibers():
            return fetch(service.debug_port, "/debug/fibers").body.count(b".cpp:")
        unused = fibers()
        self.work(service)
        self.assertTrue(wait_until(lambda: fibers() == unused), f"{fibers()}, not {unused}")
        self.assertEqual(service.stop(), 0, service.log())

    @unittest.skipIf("ASAN_OPTIONS" in os.environ,
                     "AddressSanitizer keeps memory for each thread that there was; it finds leaks")
    def test_memory_stops_growing(self):
        service = self.start()
        sizes = []
        for _ in range(8):
            self.work(service)
            sizes.append(service.resident_bytes())
        report("memory", resident=sizes)
        self.assertLess(sizes[-1], GROWTH_MAX * sizes[2], sizes)
        self.assertEqual(service.stop(), 0, service.log())

    def test_clean_end_reports_no_leak(self):
        service = self.start()
        self.work(service)
        self.assertEqual(service.stop(), 0, service.log())
        self.assertFalse(self.has_said(service, "leak"), service.log())
        self.assert_nothing_left(service)

    def test_fiber_leaked_on_purpose_is_reported_with_its_line(self):
        service = self.start()
        self.assertLess(fetch(service.app_port, "/leak-fiber").status, 300)
        service.stop()
        leaks = [line for line in service.lines() if "leak" in line.lower()]
        self.assertRegex("\n".join(leaks) + told(service).partition("leak")[2],
                         r"\.cpp:\d+", service.log())
        self.assert_said(service, "leak")

    def test_idle_service_uses_no_cpu(self):
        service = self.start()
        self.hold(service, "/never", count=5)
        idle = [self.connect(service) for _ in range(50)]
        for connection in idle:
            connection.exchange("/")
        before = service.cpu_seconds()
        time.sleep(IDLE_SECONDS)         # the measured time itself
        self.assertLessEqual(service.cpu_seconds() - before, IDLE_CPU)


if __name__ == "__main__":
    unittest.main()
