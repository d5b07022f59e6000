# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: a service for each test, and the sentences they assert."""

import json
import os
import re
import unittest

from http_client import Connection, is_refused
from service_process import TIME_SCALE, ServiceProcess, count_after

REPEATS = int(os.environ.get("EXEUNT_E2E_REPEATS", "1"))
REPORT = os.environ.get("EXEUNT_REPORT")

DRAIN = 1.0              # the service's default: how long idle connections stay readable
LINGER = 0.5             # the most that a last reply lingers
MARGIN = 0.5             # what a busy machine may add

# What the log says on an orderly way from start to end, in this order.
LIFE = ("starting", "listening", "ready", "stop requested", "draining", "components stopped",
        "exit")


def report(name, **figures):
    """Adds a line with figures to the report, if one is wanted. Nothing is judged by it."""
    if REPORT:
        with open(REPORT, "a", encoding="utf-8") as file:
            file.write(json.dumps({"test": name, **figures}) + "\n")


class ServiceCase(unittest.TestCase):
    """A test that runs the service."""

    def start(self, *options, **settings):
        """A service that is ready; killed, if it still lives, when the test is over."""
        return self.enterContext(ServiceProcess(*options, **settings))

    def start_only(self, *options, **settings):
        """A service that was started, and may not even have got to main()."""
        service = ServiceProcess(*options, **settings)
        self.addCleanup(service.__exit__)
        return service.start()

    def connect(self, service, **settings):
        return self.enterContext(Connection(service.app_port, **settings))

    def hold(self, service, path, count=1, **settings):
        """Connections whose requests for the path are in flight. They are answered late or never.

        The replies to two whole requests that were sent after them tell that the service has been
        round its connections since.
        """
        held = []
        for _ in range(count):
            held.append(self.connect(service))
            held[-1].ask(path, **settings)
        for _ in range(2):
            self.assert_serves(service)
        return held

    def assert_serves(self, service):
        with Connection(service.app_port) as connection:
            reply = connection.exchange("/")
            self.assertEqual((reply.status, reply.body), (200, b"Hello, World!"))

    def assert_ends(self, service, status, within):
        """The service ends by itself with the status, so many seconds after the last signal."""
        self.assertEqual(service.wait(within * TIME_SCALE + 20), status, service.log())
        self.assertLessEqual(service.seconds_to_end(), within * TIME_SCALE, service.log())
        self.assert_nothing_left(service)

    def assert_nothing_left(self, service):
        self.assertTrue(is_refused(service.app_port), "something listens on the application port")
        self.assertTrue(is_refused(service.debug_port), "something listens on the debug port")

    def assert_orderly(self, service, steps=LIFE):
        """The log names the steps in this order."""
        lines = [line.lower() for line in service.lines()]
        place = 0
        for step in steps:
            found = next((at for at in range(place, len(lines))
                          if re.search(rf"\b{step}\b", lines[at])), None)
            self.assertIsNotNone(found, f"no '{step}' in its place:\n{service.log()}")
            place = found

    def assert_said(self, service, *parts):
        """Some line, access log aside, holds all the parts."""
        self.assertTrue(self.has_said(service, *parts),
                        f"no line with {parts}:\n{service.log()}")

    def has_said(self, service, *parts):
        return any(all(part.lower() in line.lower() for part in parts)
                   for line in service.lines() if not is_access_line(line))

    def assert_count(self, service, word, number):
        self.assertEqual(count_after(told(service), word), number, service.log())


def is_access_line(line):
    """Whether the line records a finished request: it begins with method, target and status."""
    return re.match(r"[A-Z]+ \S+ [1-5]\d\d ", line) is not None


def told(service):
    """The log without its access lines."""
    return "\n".join(line for line in service.lines() if not is_access_line(line))
