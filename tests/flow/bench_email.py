"""Mails a second of the worker email, and of bare libcurl with as many connections and equal mails (on
one multi handle, and a thread each), into the same smtp-sink, by turns. SPDX-License-Identifier: MIT

usage: bench_email.py BINARIES [--rounds 5] [--mails 20000] [--connections 10] [--bytes 200] [--plain]"""
import argparse
import os
import statistics
import subprocess
import sys
import time

from support import Broker, Publisher, free_ports, wait_for

SINK = "/usr/sbin/smtp-sink"


class Sink:
    """Debian's smtp-sink: takes everything and keeps nothing."""

    def __init__(self, *words):
        [self.port] = free_ports(1)
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self.process = subprocess.Popen([SINK, *user, *words, f"127.0.0.1:{self.port}", "1000"],
                                        stderr=subprocess.DEVNULL)
        import socket

        def answers():
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", self.port)) == 0
        wait_for("smtp-sink answers", answers)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def loop_rate(how, binaries, sink, connections, mails, size):
    program = os.path.join(os.path.abspath(binaries), "..", "tests", "smtp_loop")
    done = subprocess.run([program, how, f"smtp://127.0.0.1:{sink.port}", str(connections), str(mails), str(size)],
                          capture_output=True, text=True, timeout=600, check=True)
    return float(done.stdout)


def worker_rate(binaries, sink, connections, mails, size, before=None, after=None):
    """From the first answers on: how fast a backlog goes."""
    with Broker(binaries, "email", "retention_bytes = 1GiB").start() as broker:
        publisher = Publisher(broker)
        payload = {"to_email": "ann@example.org", "message": "\n".join(["x" * 70] * (size // 70) + ["x" * (size % 70)])}
        for first in range(0, mails, 5000):
            publisher.publish([["email", None, payload] for _ in range(min(5000, mails - first))])
            publisher.confirm(60)
        worker = subprocess.Popen(
            [os.path.join(broker.binaries, "eventflow-worker"), "email", "--server", f"smtp://127.0.0.1:{sink.port}",
             "--from", "shop@example.org", "--connections", str(connections), "--concurrency", str(2 * connections)],
            env=dict(broker.environment, EVENTFLOW_BACK=broker.endpoints["back"]))
        try:
            def done():
                return broker.topic("email")["done"]
            started = wait_for("it begins", lambda: done() or None, 60)
            at = time.monotonic()
            if before:
                before(worker.pid)
            wait_for("all are done", lambda: done() >= mails, 600)
            rate = (mails - started) / (time.monotonic() - at)
            if after:
                after(worker.pid)
            return rate
        finally:
            worker.terminate()
            worker.wait(30)


def compare(binaries, rounds, mails, connections, size, sink_words=()):
    """[(of the worker, of a loop on one multi handle, of one easy handle a thread)], by turns."""
    rates = []
    with Sink(*sink_words) as sink:
        for _ in range(rounds):
            loop, threads = (loop_rate(how, binaries, sink, connections, mails, size) for how in ("multi", "threads"))
            worker = worker_rate(binaries, sink, connections, mails, size)
            rates.append((worker, loop, threads))
    return rates


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binaries")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mails", type=int, default=20000)
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--bytes", type=int, default=200)
    parser.add_argument("--plain", action="store_true", help="the server doesn't say that it takes commands in one go")
    options = parser.parse_args()
    rates = compare(options.binaries, options.rounds, options.mails, options.connections, options.bytes,
                    ["-p"] if options.plain else [])
    for worker, loop, threads in rates:
        print(f"worker {worker:6.0f}/s   libcurl multi {loop:6.0f}/s   threads {threads:6.0f}/s   "
              f"ratio {worker / loop:.2f}, {worker / threads:.2f}")
    print(f"median ratio {statistics.median(worker / loop for worker, loop, _ in rates):.2f}, "
          f"{statistics.median(worker / threads for worker, _, threads in rates):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
