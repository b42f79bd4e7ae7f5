"""How many mails a second the handler `email` sends, and bare libcurl with as many connections and equal
mails (on one multi handle, and a thread each), into the same smtp-sink, by turns. The worker's rate is
that of a backlog, from its first answers on. SPDX-License-Identifier: MIT

usage: mail.py BINARIES [--rounds 5] [--mails 20000] [--connections 10] [--bytes 200] [--plain]
               [--least 0.6] [--json]"""
import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "flow")]

from support import Broker, Publisher, free_ports, wait_for  # noqa: E402

SINK = "/usr/sbin/smtp-sink"


class Sink:
    """Debian's smtp-sink: takes everything and keeps nothing."""

    def __init__(self, *words):
        [self.port] = free_ports(1)
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self.process = subprocess.Popen([SINK, *user, *words, f"127.0.0.1:{self.port}", "1000"],
                                        stderr=subprocess.DEVNULL)

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
    with Broker(binaries, "email", "retention_bytes = 1GiB").start() as broker:
        publisher = Publisher(broker)
        payload = {"to_email": "ann@example.org", "message": "\n".join(["x" * 70] * (size // 70) + ["x" * (size % 70)])}
        step = max(1, min(5000, 2_000_000 // (size + 100)))  # of what a message may hold
        for first in range(0, mails, step):
            publisher.publish([["email", None, payload] for _ in range(min(step, mails - first))])
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binaries")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mails", type=int, default=20000)
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--bytes", type=int, default=200)
    parser.add_argument("--plain", action="store_true", help="the server takes commands one by one only")
    parser.add_argument("--least", type=float, default=0.6, help="share of the loop's rate, median")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rates = compare(options.binaries, options.rounds, options.mails, options.connections, options.bytes,
                    ["-p"] if options.plain else [])
    ratio = statistics.median(worker / loop for worker, loop, _ in rates)
    to_threads = statistics.median(worker / threads for worker, _, threads in rates)
    if options.json:
        print(json.dumps({"rounds": [{"worker_per_s": round(worker), "multi_per_s": round(loop),
                                      "threads_per_s": round(threads)} for worker, loop, threads in rates],
                          "ratio": round(ratio, 2), "ratio_to_threads": round(to_threads, 2)}))
    else:
        for worker, loop, threads in rates:
            print(f"worker {worker:6.0f}/s   libcurl on a multi handle {loop:6.0f}/s, in threads {threads:6.0f}/s")
        print(f"ratio, median: {ratio:.2f}; to that in threads: {to_threads:.2f}")
    if ratio < options.least:
        print("the ratio is below what is expected", file=sys.stderr)
    return 1 if ratio < options.least else 0


if __name__ == "__main__":
    sys.exit(main())
