# SPDX-License-Identifier: Apache-2.0
"""Starts the service under test, hears what it says, signals it, and waits for its end.

Nothing here sleeps: readiness is the log line that says so, the end is what wait() returns.
"""

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.environ.get("EXEUNT_SERVICE") or os.path.join(
    REPOSITORY, "build", "release", "examples", "service")

# Bounds that the service promises are for a plain build; sanitizers are slower by a factor.
TIME_SCALE = float(os.environ.get("EXEUNT_E2E_TIME_SCALE", "1"))

# How long a test waits for what must come before it says that it did not.
PATIENCE = 20 * TIME_SCALE


class NotInTime(AssertionError):
    """What had to happen did not happen within the limit."""


class ReservedPort:
    """A free port that stays ours until close(): bound, never listening.

    The kernel gives it to nobody by chance, and still lets a server that sets SO_REUSEADDR bind
    and listen on it.
    """

    def __init__(self, host="127.0.0.1"):
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind((host, 0))
        self.number = self._holder.getsockname()[1]

    def close(self):
        self._holder.close()


class ServiceProcess:
    """One run of the service. Use it in a with-statement: leaving kills what is still alive."""

    def __init__(self, *options, app_port=None, debug_port=None, binary=BINARY,
                 descriptor_limit=None, environment=None):
        self._reserved = []
        self.app_port = app_port or self._reserve()
        self.debug_port = debug_port or self._reserve()
        self.command = [binary, "--app", f"127.0.0.1:{self.app_port}",
                        "--debug", f"127.0.0.1:{self.debug_port}", *options]
        self._descriptor_limit = descriptor_limit
        self._environment = environment
        self._news = threading.Condition()
        self._output = []          # of (time, line), as the lines came
        self._streams_open = 0
        self.process = None
        self.started_at = None
        self.signalled_at = None
        self.ended_at = None

    # ---- start and end

    def __enter__(self):
        return self.start().wait_ready()

    def __exit__(self, *_):
        self.kill()
        for port in self._reserved:
            port.close()

    def start(self):
        """Starts the program and returns at once."""
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True, env=self._environment,
            preexec_fn=self._prepare)
        self._streams_open = 2
        self._readers = [threading.Thread(target=self._collect, args=(stream,), daemon=True)
                         for stream in (self.process.stdout, self.process.stderr)]
        self._readers.append(threading.Thread(target=self._await_end, daemon=True))
        for reader in self._readers:
            reader.start()
        return self

    def wait_ready(self):
        """Returns when the log says that the service is ready."""
        self._wait_for_line(says_ready, "that says ready")
        return self

    def send(self, number):
        """Sends the signal and remembers when, for wait()."""
        self.signalled_at = time.monotonic()
        os.kill(self.process.pid, number)

    def send_to_thread(self, thread, number):
        """Sends the signal to one thread of the process."""
        import ctypes
        self.signalled_at = time.monotonic()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.tgkill(self.process.pid, thread, number) != 0:
            raise OSError(ctypes.get_errno(), "tgkill")

    def wait(self, limit=None):
        """Waits for the end. Returns the exit status, negative if a signal killed it."""
        limit = PATIENCE if limit is None else limit
        with self._news:
            if not self._news.wait_for(self._has_ended, limit):
                raise NotInTime(f"the service did not end within {limit} s\n{self.log()}")
        return self.process.returncode

    def stop(self, number=signal.SIGTERM, limit=None):
        """Signals, waits, returns the exit status."""
        self.send(number)
        return self.wait(limit)

    def kill(self):
        """Ends what is still alive, at once."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for reader in self._readers:
            reader.join(PATIENCE)
        self.process.stdout.close()
        self.process.stderr.close()

    def seconds_to_end(self):
        """From the last signal, or from the start if there was none, to the end."""
        return self.ended_at - (self.signalled_at or self.started_at)

    # ---- what it said

    def lines(self):
        with self._news:
            return [line for _, line in self._output]

    def log(self):
        return "\n".join(self.lines())

    def find_line(self, *parts):
        """The first line that holds all the parts, whatever their case; or None."""
        return next((line for line in self.lines() if _holds(line, parts)), None)

    def wait_line(self, *parts, limit=None):
        """Returns the first line that holds all the parts, waiting for it if need be."""
        return self._wait_for_line(lambda line: _holds(line, parts), f"with {parts}", limit)

    def _wait_for_line(self, wanted, described, limit=None):
        deadline = time.monotonic() + (PATIENCE if limit is None else limit)
        checked = 0
        with self._news:
            while True:
                for _, line in self._output[checked:]:
                    if wanted(line):
                        return line
                checked = len(self._output)
                left = deadline - time.monotonic()
                if self._has_ended() or left <= 0:
                    break
                self._news.wait(left)
        raise NotInTime(f"no line {described} in the log:\n{self.log()}")

    # ---- what it holds

    def descriptors(self):
        """The open descriptors of the process, number to target."""
        directory = f"/proc/{self.process.pid}/fd"
        targets = {}
        for name in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):
                targets[int(name)] = os.readlink(os.path.join(directory, name))
        return targets

    def threads(self):
        """The ids of the threads of the process."""
        return sorted(int(name) for name in os.listdir(f"/proc/{self.process.pid}/task"))

    def threads_open_to(self, number):
        """Those of threads() that do not block the signal: the kernel gives it to one of them."""
        found = []
        for thread in self.threads():
            path = f"/proc/{self.process.pid}/task/{thread}/status"
            with open(path, encoding="ascii") as status:
                blocked = int(re.search(r"SigBlk:\s*(\w+)", status.read()).group(1), 16)
            if not blocked >> (number - 1) & 1:
                found.append(thread)
        return found

    def tcp_table(self):
        """The rows of the kernel's table of TCP sockets, split into columns."""
        with open(f"/proc/{self.process.pid}/net/tcp", encoding="ascii") as table:
            return [line.split() for line in table.readlines()[1:]]

    def unsent_bytes(self, peer_port):
        """What the kernel holds for the client on this port and could not deliver yet."""
        ends = (f"0100007F:{self.app_port:04X}", f"0100007F:{peer_port:04X}")
        return next((int(row[4].split(":")[0], 16) for row in self.tcp_table()
                     if (row[1], row[2]) == ends), 0)

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            after_name = stat.read().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    # ---- inside

    def _reserve(self):
        port = ReservedPort()
        self._reserved.append(port)
        return port.number

    def _prepare(self):
        """In the child: what nohup or a background shell lets us ignore, it does not inherit."""
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        if self._descriptor_limit:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._descriptor_limit)

    def _collect(self, stream):
        for raw in stream:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            with self._news:
                self._output.append((time.monotonic(), line))
                self._news.notify_all()
        with self._news:
            self._streams_open -= 1
            self._news.notify_all()

    def _await_end(self):
        self.process.wait()
        ended_at = time.monotonic()
        with self._news:
            self.ended_at = ended_at
            self._news.notify_all()

    def _has_ended(self):
        """Ended, with everything it said read."""
        return self.ended_at is not None and self._streams_open == 0


def says_ready(line):
    """Whether the line has the word, and not only within another one."""
    return re.search(r"\bready\b", line, re.IGNORECASE) is not None


def _holds(line, parts):
    lower = line.lower()
    return all(part.lower() in lower for part in parts)


def count_after(log, word):
    """The number that a log gives for a word: `7 dropped`, `dropped 7`, `dropped=7`; or None."""
    for pattern in (rf"{word}\s*[:=]\s*(\d+)",
                    rf"(\d+)\s+(?:events?\s+|requests?\s+)?(?:were\s+)?{word}",
                    rf"{word}\s+(\d+)"):
        found = re.search(pattern, log, re.IGNORECASE)
        if found:
            return int(found.group(1))
    return None
