"""Kills the broker under load and holds it to a ledger of what it confirmed. SPDX-License-Identifier: MIT

usage: run.py BINARIES [--long] [--rounds N] [--seed N]"""
import glob
import os
import random
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "flow"))

import msgpack
import zmq

from support import Broker, wait_for

TOPICS = """defaults
    retry_base = 10ms
    retry_cap = 50ms
    attempts = 4
    lease = 5s
tiny
    capacity = 50
    insert_attempts = 2
    insert_base = 10ms"""


class Ledger:
    """What was confirmed, and what became of it; believes nobody but the frames."""

    def __init__(self):
        self.lock = threading.Lock()
        self.confirmed = set()
        self.refused = set()
        self.acked = set()      # ACKED came: done for certain
        self.answered = set()   # an ACK was sent
        self.delivered = {}
        self.wrong = []


class PublisherThread(threading.Thread):
    """Publishes under one session through every crash."""

    def __init__(self, broker, ledger, name, seed):
        super().__init__(daemon=True)
        self.broker, self.ledger, self.prefix = broker, ledger, name
        self.dice = random.Random(seed)
        self.session = bytes(self.dice.randrange(256) for _ in range(16))
        self.stop = threading.Event()
        self.unconfirmed = {}
        self.heard = self.seq = self.count = 0

    def run(self):
        context = zmq.Context()
        while not (self.stop.is_set() and not self.unconfirmed):
            sock = context.socket(zmq.DEALER)
            sock.linger = 0
            sock.connect(self.broker.endpoints["front"])
            sock.send(msgpack.packb(["HELLO", 1, {"session": self.session, "heard": self.heard}]))
            try:
                self.talk(sock)
            except TimeoutError:
                pass
            sock.close()
        context.destroy(linger=0)

    def talk(self, sock):
        welcome = False
        silent = time.monotonic()
        while not (self.stop.is_set() and not self.unconfirmed):
            if sock.poll(20):
                silent = time.monotonic()
                header = msgpack.unpackb(sock.recv_multipart()[0])
                if header[0] == "WELCOME":
                    welcome = True
                    for seq in sorted(self.unconfirmed):
                        if seq > header[2]["last"]:
                            self.send(sock, seq)
                elif header[0] == "CONFIRM":
                    self.confirm(header)
                elif header[0] == "PING":
                    sock.send(msgpack.packb(["PONG"]))
                elif header[0] == "ERROR":
                    return
            elif time.monotonic() - silent > 1.5:
                raise TimeoutError
            if welcome and not self.stop.is_set() and len(self.unconfirmed) < 40:
                self.publish(sock)

    def publish(self, sock):
        self.seq += 1
        events = []
        for _ in range(self.dice.randrange(1, 20)):
            self.count += 1
            topic = self.dice.choice(["api", "api", "db", "tiny"])
            events.append([topic, f"{self.prefix}-{self.count}", {"check": self.count * 7919}])
        self.unconfirmed[self.seq] = events
        self.send(sock, self.seq)

    def send(self, sock, seq):
        sock.send_multipart([msgpack.packb(["PUBLISH", seq]),
                             b"".join(msgpack.packb(e) for e in self.unconfirmed[seq])])

    def confirm(self, header):
        _, upto, outcome = header
        refused = {}
        for seq, index, code, _ in outcome.get("refused", []):
            events = self.unconfirmed.get(seq, [])
            span = range(len(events)) if index is None else (
                range(index[0], index[1] + 1) if isinstance(index, list) else [index])
            for i in span:
                refused[(seq, i)] = code
        with self.ledger.lock:
            for seq in sorted(s for s in self.unconfirmed if s <= upto):
                for i, event in enumerate(self.unconfirmed[seq]):
                    target = self.ledger.refused if (seq, i) in refused else self.ledger.confirmed
                    target.add((event[0], event[1]))
                del self.unconfirmed[seq]
        self.heard = max(self.heard, upto)


class WorkerThread(threading.Thread):
    """Works on everything; fails some, forgets some, comes back with its session."""

    def __init__(self, broker, ledger, seed, faults=True):
        super().__init__(daemon=True)
        self.broker, self.ledger = broker, ledger
        self.dice = random.Random(seed)
        self.faults = faults
        self.stop = threading.Event()
        self.seq = 0

    def run(self):
        context = zmq.Context()
        while not self.stop.is_set():
            sock = context.socket(zmq.DEALER)
            sock.linger = 0
            sock.connect(self.broker.endpoints["back"])
            sock.send(msgpack.packb(["READY", 1, {"topics": ["api", "db", "tiny"], "credit": 60,
                                                  "heartbeat": 500}]))
            self.waiting = {}
            silent = time.monotonic()
            while not self.stop.is_set() and time.monotonic() - silent < 1.5:
                if not sock.poll(50):
                    continue
                silent = time.monotonic()
                frames = sock.recv_multipart()
                header = msgpack.unpackb(frames[0])
                if header[0] == "EVENTS":
                    self.events(sock, frames[1:])
                elif header[0] == "ACKED":
                    with self.ledger.lock:
                        keys = self.waiting.pop(header[1], [])
                        if not header[2].get("stale"):
                            self.ledger.acked.update(keys)
                elif header[0] == "PING":
                    sock.send(msgpack.packb(["PONG"]))
                elif header[0] == "ERROR":
                    break
            sock.close()
        context.destroy(linger=0)

    def events(self, sock, bodies):
        tags, keys = [], []
        for body in bodies:
            unpacker = msgpack.Unpacker(strict_map_key=False)
            unpacker.feed(body)
            for delivery in unpacker:
                tag, attempt, event = delivery[:3]
                key = (event[0], event[1])
                with self.ledger.lock:
                    self.ledger.delivered[key] = self.ledger.delivered.get(key, 0) + 1
                    number = int(event[1].split("-")[1])
                    if event[2] != {"check": number * 7919}:
                        self.ledger.wrong.append(("payload", key))
                    if key in self.ledger.refused:
                        self.ledger.wrong.append(("refused and delivered", key))
                    if key in self.ledger.acked:
                        self.ledger.wrong.append(("done and delivered again", key))
                if self.faults and self.dice.random() < 0.05:
                    sock.send(msgpack.packb(["NACK", [tag], 500, "a fault of the test"]))
                elif self.faults and self.dice.random() < 0.01:
                    sock.send(msgpack.packb(["NACK", [tag], 65, "for good", {"dead": True}]))
                else:
                    tags.append(tag)
                    keys.append(key)
        if tags:
            self.seq += 1
            with self.ledger.lock:
                self.waiting[self.seq] = keys
                self.ledger.answered.update(keys)
            sock.send(msgpack.packb(["ACK", tags, {"seq": self.seq}]))


def undo_unsynced(data, dice):
    """Puts files back to their last sync: all of what came after, or all but some of it."""
    undone = 0
    for path in glob.glob(os.path.join(data, "**", "*.undo"), recursive=True):
        with open(path, "rb") as file:
            raw = file.read()
        records = []
        at = 0
        while at + 16 <= len(raw):
            offset, size = struct.unpack_from("<QQ", raw, at)
            records.append((offset, raw[at + 16:at + 16 + size]))
            at += 16 + size
        keep = dice.choice(["none", "torn"])
        with open(path[:-len(".undo")], "r+b") as file:
            for offset, old in reversed(records):
                if keep == "torn":  # some sectors made it, some didn't
                    for start in range(0, len(old), 512):
                        if dice.random() < 0.5:
                            file.seek(offset + start)
                            file.write(old[start:start + 512])
                else:
                    file.seek(offset)
                    file.write(old)
                undone += len(old)
        os.unlink(path)
    return undone


def dead_letters(broker, topic):
    found, after = {}, 0
    while True:
        page = broker.admin(["DLQ.LIST", topic, {"limit": 1000, "after": after}])[1]
        for item in page["items"]:
            key = (topic, item["id"])
            assert key not in found, f"{key} is dead twice"
            found[key] = item["reason"]
        if page["next"] is None:
            return found
        after = page["next"]


def judge(broker, ledger):
    """Every confirmed event ended exactly one way; nothing else is there."""
    dead = {}
    for topic in ("api", "db", "tiny"):
        item = broker.topic(topic)
        letters = dead_letters(broker, topic)
        assert len(letters) == item["dead"], (topic, len(letters), item)
        dead.update(letters)
    lost = [k for k in ledger.confirmed if k not in ledger.answered and k not in dead]
    assert not lost, f"{len(lost)} confirmed and lost: {lost[:5]}"
    assert not ledger.wrong, ledger.wrong[:5]
    known = ledger.confirmed | ledger.refused
    invented = [k for k in ledger.delivered if k not in known]
    assert not invented, invented[:5]
    accepted = sum(broker.topic(t)["accepted"] for t in ("api", "db", "tiny"))
    assert accepted == len(ledger.confirmed), (accepted, len(ledger.confirmed))
    broker.check_law()


def campaign(binaries, rounds, seed, shim):
    dice = random.Random(seed)
    ledger = Ledger()
    extra = {}
    if shim:
        extra["LD_PRELOAD"] = os.path.join(os.path.abspath(binaries), "..", "tests", "libdropsync.so")
    with Broker(binaries, TOPICS, server="segment = 1MiB") as broker:
        broker.start(extra)
        publishers = [PublisherThread(broker, ledger, f"p{i}", seed + i) for i in range(2)]
        workers = [WorkerThread(broker, ledger, seed + 10 + i) for i in range(2)]
        for thread in publishers + workers:
            thread.start()
        for number in range(rounds):
            target = len(ledger.confirmed) + dice.randrange(50, 1500)
            wait_for("events are confirmed", lambda: len(ledger.confirmed) >= target, 60)
            broker.kill()
            undone = undo_unsynced(broker.data, dice) if shim else 0
            broker.start(extra)
            broker.check_law()
            print(f"  round {number + 1}: {len(ledger.confirmed)} confirmed, {undone} bytes taken back",
                  flush=True)
        for thread in publishers:
            thread.stop.set()
        for thread in publishers:
            thread.join(60)
            assert not thread.is_alive(), "a publisher has unconfirmed events"
        wait_for("everything has ended", lambda: all(
            broker.topic(t)[s] == 0 for t in ("api", "db", "tiny")
            for s in ("ready", "leased", "retrying", "scheduled")), 60)
        for thread in workers:
            thread.stop.set()
            thread.join(20)
        wait_for("the letters are there", lambda: all(
            broker.admin(["DLQ.LIST", t, {"limit": 1}])[1]["total"] == broker.topic(t)["dead"]
            for t in ("api", "db", "tiny")))
        judge(broker, ledger)
        print(f"  {len(ledger.confirmed)} confirmed, {len(ledger.acked)} done for certain, 0 lost")


def main():
    binaries = sys.argv[1]
    words = sys.argv[2:]
    seed = int(words[words.index("--seed") + 1]) if "--seed" in words else random.randrange(1 << 30)
    factor = 20 if "--long" in words else 1
    passed = failed = 0
    for name, rounds, shim in (("kill -9 under load", 10 * factor, False),
                               ("power cut under load", 20 * factor, True)):
        if "--rounds" in words:
            rounds = int(words[words.index("--rounds") + 1])
        print(f"{name}: {rounds} rounds, again by --seed {seed}", flush=True)
        try:
            campaign(binaries, rounds, seed, shim)
            passed += 1
        except AssertionError as error:
            failed += 1
            print(f"FAILED {name}: {error}", flush=True)
    print(f"fault: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
