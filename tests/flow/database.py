"""A worker db, and what it has written. SPDX-License-Identifier: MIT"""
import atexit
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(1, os.path.join(HERE, "..", "support"))

from postgres import Postgres  # noqa: E402
from delivery import ask  # noqa: E402
from support import free_ports, wait_for  # noqa: E402

TOPICS = "defaults\n    retry_base = 50ms\n    retry_cap = 300ms\n    attempts = 5\n    retry_jitter = 0\ndb"


class Db:
    """A worker db of a broker."""

    def __init__(self, broker, url, *words, topic="db", extra=None):
        self.broker = broker
        self.log = os.path.join(broker.directory, f"db-{time.monotonic_ns()}")
        [self.port] = free_ports(1)
        environment = dict(broker.environment, EVENTFLOW_BACK=broker.endpoints["back"], **(extra or {}))
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [os.path.join(broker.binaries, "eventflow-worker"), "db", "--topic", topic, "--url", url,
                 "--health", f"127.0.0.1:{self.port}", *words], env=environment, stderr=log)

    def logged(self):
        with open(self.log) as file:
            return file.read()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=60):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=seconds) == 0, self.logged()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            if kind:
                print(self.logged())
                self.kill()
            else:
                self.stop()

    def seen(self):
        """How the broker sees it, or None."""
        for item in self.broker.admin(["WORKERS"])[1]["items"]:
            if item["pid"] == self.process.pid:
                return item
        return None

    def in_hand(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=20) as answer:
            return json.load(answer)["in_flight"]

    def wait_in_hand(self, count):
        """Until it has heard of so many, which the broker gave it before."""
        wait_for(f"{count} are in hand", lambda: self.in_hand() == count)

    def wait_unwell(self, word, seconds=90):
        """Until the broker hears that it isn't well, and why."""
        wait_for(f"unwell: {word}", lambda: word in (self.seen() or {}).get("unhealthy", ""), seconds)

    def wait_well(self, seconds=90):
        wait_for("it is well", lambda: (self.seen() or {}).get("healthy"), seconds)


def ended(broker, topic="db"):
    item = broker.topic(topic)
    return item["done"] + item["dead"]


def wait_ended(broker, count, topic="db", seconds=120):
    wait_for(f"{count} have ended", lambda: ended(broker, topic) == count, seconds)


def letters(broker, topic="db"):
    """Of each dead letter its id, code and text."""
    found = {}
    for item in ask(broker, "DLQ.LIST", topic, {"limit": 1000})["items"]:
        found[item["id"]] = (item["error"][0], item["error"][1])
    return found


def file_of(broker):
    return os.path.join(broker.directory, "events.db")


def url_of(broker):
    return "sqlite:" + file_of(broker)


def rows(broker, sql="SELECT * FROM events"):
    with sqlite3.connect(file_of(broker), timeout=20) as database:
        return database.execute(sql).fetchall()


class Locker:
    """Another process that holds SQLite's lock."""

    CODE = ("import sqlite3, sys\n"
            "c = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)\n"
            "c.execute('BEGIN IMMEDIATE')\n"
            "print('locked', flush=True)\n"
            "sys.stdin.readline()\n"
            "c.execute('ROLLBACK')\n")

    def __init__(self, path):
        self.process = subprocess.Popen([sys.executable, "-c", self.CODE, path], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "locked\n"

    def release(self):
        if self.process.poll() is None:
            self.process.communicate("\n", timeout=20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release()


_shared = None


def server():
    """A PostgreSQL that the tests of a run share; those that kill it have one of their own."""
    global _shared
    if _shared is None:
        _shared = Postgres("deadlock_timeout = 5s\nmax_connections = 50").start()
        atexit.register(_shared.close)
    return _shared
