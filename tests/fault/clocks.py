"""The wall clock steps by a day; leases, backoff and delays don't care.
SPDX-License-Identifier: MIT"""
import os
import struct
import time

from support import Publisher, Worker, wait_for

DAY = 86_400_000  # ms
LATE = 20  # s; a busy machine is slow, by less than a day
TOPICS = """defaults
    retry_base = 200ms
    retry_factor = 1
    retry_cap = 200ms
    attempts = 50
    lease = 3s"""
NAMES = ["api", "db"]


class Wall:
    """The broker's wall clock."""

    def __init__(self, run, broker):
        self.path = os.path.join(broker.directory, "shift")
        self.set(0)
        self.extra = {"LD_PRELOAD": run.shim("clockshift"), "CLOCKSHIFT_FILE": self.path}
        if not os.path.exists(self.extra["LD_PRELOAD"]):
            raise run.Skip("tests/libclockshift.so isn't built")

    def set(self, ms):
        """In place: the broker has the file mapped."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(file, struct.pack("<q", ms), 0)
        os.close(file)
        self.ms = ms

    def step(self, dice):
        self.set(dice.choice([-DAY, 0, DAY]) if self.ms == 0 else 0)

    def now(self):
        return int(time.time() * 1000) + self.ms


def clock(run):
    """Steps while events are leased, retrying and delayed, then under load."""
    with run.broker(TOPICS, "segment = 1MiB") as broker:
        wall = Wall(run, broker)
        broker.start(wall.extra)
        for number, is_last in run.rounds(4, 100):
            wall.set(0)
            step = DAY if number % 2 else -DAY
            leased(broker, wall, step)
            retrying(broker, wall, step)
            delayed(broker, wall, step)
            under_load(run, broker, wall)
            if number % 10 == 0 or is_last:
                run.say("leases, backoff and delays are as without steps")
        broker.stop(40)


def publish(broker, event):
    """Under an id of its own in each round: by the wall clock those before are still known."""
    event[1] += f"-{time.monotonic_ns()}"
    publisher = Publisher(broker)
    publisher.publish([event])
    assert publisher.confirm()[2]["accepted"] == 1, event
    publisher.close()


def finish(broker, worker, delivery):
    worker.send(["ACK", [delivery[0]], {"seq": delivery[0]}])
    assert worker.receive("ACKED")[2]["done"] == 1
    worker.send(["BYE"])
    wait_for("it has left", lambda: broker.topic("email")["workers"] == 0)
    worker.close()


def leased(broker, wall, step):
    """No lease ends by it, and one that nobody answers ends in its time."""
    publish(broker, ["email", "leased", 1])
    worker = Worker(broker, ["email"])
    assert worker.take(1)[0][1] == 1
    start = time.monotonic()
    wall.set(step)
    second = Worker(broker, ["email"])
    delivery = second.take(1)[0]
    took = time.monotonic() - start
    assert delivery[1] == 2 and 1.5 < took < LATE, f"lease of 3 s ended after {took:.2f} s"
    worker.send(["BYE"])  # and is heard: else what is published next may be sent to it
    wait_for("it has left", lambda: broker.topic("email")["workers"] == 1)
    worker.close()
    finish(broker, second, delivery)


def retrying(broker, wall, step):
    publish(broker, ["email", "retried", 1])
    worker = Worker(broker, ["email"])
    tag = worker.take(1)[0][0]
    start = time.monotonic()
    worker.send(["NACK", [tag], 500, "a fault of the test", {"retry": 600, "seq": 1 << 40}])
    worker.receive("ACKED")
    wall.set(-step)
    delivery = worker.take(1)[0]
    took = time.monotonic() - start
    assert delivery[1] == 2 and 0.55 < took < LATE, f"backoff of 0.6 s took {took:.2f} s"
    finish(broker, worker, delivery)


def delayed(broker, wall, step):
    worker = Worker(broker, ["email"])
    start = time.monotonic()
    publish(broker, ["email", "delayed", 1, {"delay": 500}])
    wall.set(step)
    delivery = worker.take(1)[0]
    took = time.monotonic() - start
    assert 0.45 < took < LATE, f"a delay of 0.5 s took {took:.2f} s"
    finish(broker, worker, delivery)


def under_load(run, broker, wall):
    """Steps at any moment, so also between a failure and its record; all drains in its time."""
    dice = run.dice()
    load = run.load(broker, NAMES)
    try:
        for topic in NAMES:
            load.ledger.base[topic] = {k: broker.topic(topic)[k] for k in ("accepted", "done")}
        for peer in load.publishers:
            peer.name = f"r{run.number}{peer.name}"
        load.retried = 0.1
        load.outstanding, load.batch = 4, 40
        for _ in range(40):
            wall.step(dice)
            load.pump_for(dice.random() * 0.02)
        load.judge()
    finally:
        load.close()


def at(run):
    """`at` is a time of the wall clock: who sets that clock moves the event with it."""
    with run.broker(TOPICS) as broker:
        wall = Wall(run, broker)
        broker.start(wall.extra)
        worker = Worker(broker, ["email"])
        due = wall.now() + 1000
        publish(broker, ["email", "soon", 1, {"at": due}])
        first = worker.take(1)[0]
        assert due <= wall.now() < due + LATE * 1000, "`at` without a step"
        worker.send(["ACK", [first[0]]])
        publish(broker, ["email", "tomorrow", 1, {"at": wall.now() + DAY // 2}])
        worker.none(0.3)
        wall.set(DAY)
        second = worker.take(1)  # its time has passed
        worker.send(["ACK", [second[0][0]]])
        publish(broker, ["email", "set back", 1, {"at": wall.now() + 3000}])
        wall.set(0)
        worker.none(4)  # its time is a day away again
        wall.set(DAY)
        finish(broker, worker, worker.take(1)[0])
