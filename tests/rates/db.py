"""How many rows a second the handler `db` writes, end to end: events are published while it works,
and the time runs from the first one to the last one's end. SPDX-License-Identifier: MIT

usage: db.py BINARIES [--sqlite 200000] [--postgres 100000] [--least-sqlite 50000]
             [--least-postgres 20000] [--columns TEXT] [--json]"""
import argparse
import json
import os
import sqlite3
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "flow"), os.path.join(HERE, "..", "support")]

from postgres import Postgres  # noqa: E402
from support import Broker, wait_for  # noqa: E402


def lines(count):
    return "".join(json.dumps({"payload": {"user": {"id": i, "name": f"user {i % 1000}"}, "amount": i / 100,
                               "note": "of the rates' test"}}) + "\n" for i in range(count))


def ended(broker):
    topic = broker.topic("db")
    return topic["done"] + topic["dead"]


def measure(binaries, url, count, options=(), seconds=300):
    """Rows a second; the rows themselves are the caller's to look at."""
    with Broker(binaries, "db\n    capacity = 1000000").start() as broker:
        path = os.path.join(broker.directory, "events.jsonl")
        with open(path, "w") as file:
            file.write(lines(count))
        worker = subprocess.Popen(
            [os.path.join(broker.binaries, "eventflow-worker"), "db", "--topic", "db", "--connect",
             broker.endpoints["back"], "--url", url, *options], env=broker.environment)
        try:
            wait_for("the worker is there", lambda: broker.topic("db")["workers"] == 1)
            start = time.monotonic()
            broker.cli("publish", "@" + path, "--topic", "db", seconds=seconds)
            published = time.monotonic() - start
            wait_for("all has ended", lambda: ended(broker) == count, seconds)
            took = time.monotonic() - start
            letters = broker.admin(["DLQ.LIST", "db", {"limit": 3}])[1]["items"]
            assert not letters, letters
            worker.terminate()
            assert worker.wait(timeout=30) == 0
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        return {"rows": count, "seconds": round(took, 2), "published_seconds": round(published, 2),
                "rows_per_s": round(count / took)}


def sqlite_rate(binaries, count, directory, options=()):
    path = os.path.join(directory, "events.db")
    found = measure(binaries, "sqlite:" + path, count, options)
    with sqlite3.connect(path) as database:
        [(rows, ids)] = database.execute("SELECT count(*), count(DISTINCT id) FROM events")
    assert (rows, ids) == (count, count), (rows, ids)
    return found


def postgres_rate(binaries, count, server, options=()):
    url = server.create("rates")
    found = measure(binaries, url, count, options)
    rows = server.rows("SELECT count(*), count(DISTINCT id) FROM events", "rates")
    assert rows == [(str(count), str(count))], rows
    return found


def main():
    import tempfile
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binaries")
    parser.add_argument("--sqlite", type=int, default=200000)
    parser.add_argument("--postgres", type=int, default=100000)
    parser.add_argument("--least-sqlite", type=int, default=50000)
    parser.add_argument("--least-postgres", type=int, default=20000)
    parser.add_argument("--columns", default="")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    words = ["--columns", options.columns] if options.columns else []
    found = {}
    if options.sqlite:
        with tempfile.TemporaryDirectory(prefix="ef-rates-") as directory:
            found["sqlite"] = sqlite_rate(options.binaries, options.sqlite, directory, words)
    if options.postgres:
        with Postgres() as server:
            found["postgres"] = postgres_rate(options.binaries, options.postgres, server, words)
    bad = [name for name, least in (("sqlite", options.least_sqlite),
                                    ("postgres", options.least_postgres))
           if name in found and found[name]["rows_per_s"] < least]
    if options.json:
        print(json.dumps(found))
    else:
        for name, each in found.items():
            print(f"{name}: {each['rows']} rows in {each['seconds']} s "
                  f"(published in {each['published_seconds']} s): {each['rows_per_s']} rows/s")
    for name in bad:
        print(f"{name} is below what is expected", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
