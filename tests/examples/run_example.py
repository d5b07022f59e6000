#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs an example that needs more than to be started, and checks what it does.

Usage:  run_example.py serve HOST:PORT/PATH... PROGRAM   asks for each path, then sends SIGTERM: 0
        run_example.py race PROGRAM                      ThreadSanitizer names both fibers' lines
        run_example.py report PROGRAM                    goes on after an exception, and reports it
        run_example.py plain PROGRAM                     ends by itself with 0
"""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

PATIENCE = 40


def fail(message, output=""):
    sys.exit(f"{message}\n{output}")


def port_is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def serve(addresses, program):
    """The ports are the example's own. If somebody else has one, the example has to say so."""
    ports = [int(re.search(r":(\d+)/", address).group(1)) for address in addresses]
    free = all(port_is_free(port) for port in ports)
    with subprocess.Popen([program], stderr=subprocess.PIPE, text=True) as process:
        try:
            heard = ""
            while heard.count("listening on") < len(ports):
                line = process.stderr.readline()
                heard += line
                if line:
                    continue
                status = process.wait(PATIENCE)
                if not free and status == 1 and "address already in use" in heard:
                    return
                fail(f"ended with {status} before it listened", heard)
            for address in addresses:
                with urllib.request.urlopen(f"http://{address}", timeout=PATIENCE) as reply:
                    if reply.status != 200 or not reply.read():
                        fail(f"{address} answered {reply.status}", heard)
            process.send_signal(signal.SIGTERM)
            _, rest = process.communicate(timeout=PATIENCE)
            if process.returncode != 0:
                fail(f"ended with {process.returncode}", heard + rest)
            if "leaked" in rest:
                fail("a fiber is left", rest)
        finally:
            process.kill()


def race(program):
    """Status 66 is ThreadSanitizer's; a report has a stack for either fiber and its name."""
    done = subprocess.run([program], capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode != 66:
        fail(f"ended with {done.returncode}, not with 66", done.stderr)
    if done.stderr.count("WARNING: ThreadSanitizer: data race") < 2:
        fail("not both races are reported", done.stderr)
    source = open(os.path.join(os.path.dirname(__file__), "../../examples/race_counter.cpp"),
                  encoding="utf-8").read().split("\n")
    starts = [number for number, line in enumerate(source, 1) if "group.go(" in line]
    for wanted in ("data race", "adder one", "adder two",
                   *(f"race_counter.cpp:{start}" for start in starts)):
        if wanted not in done.stderr:
            fail(f"the report does not have {wanted!r}", done.stderr)


def report(program):
    """The report names message, type, and the line that started the fiber; the status is 0."""
    done = subprocess.run([program], capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode != 0 or "succeeded is 4" not in done.stdout:
        fail(f"ended with {done.returncode}", done.stdout + done.stderr)
    wanted = (r"panic: job 2 has a bug \(std::runtime_error\)\n"
              r".*\"job\", started at \S*safe_go\.cpp:\d+")
    if len(re.findall(wanted, done.stderr)) != 1:
        fail("not exactly one report", done.stderr)


def plain(program):
    done = subprocess.run([program], capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode != 0 or not done.stdout.strip().isdigit():
        fail(f"ended with {done.returncode}", done.stdout + done.stderr)


def main():
    kind, *arguments = sys.argv[1:]
    if kind == "serve":
        serve(arguments[:-1], arguments[-1])
    else:
        {"race": race, "report": report, "plain": plain}[kind](*arguments)


if __name__ == "__main__":
    main()
