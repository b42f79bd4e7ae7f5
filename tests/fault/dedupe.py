"""Ids are known over kill -9, over the cleaning of what held them, and for their time alone.
SPDX-License-Identifier: MIT"""
import os

from clocks import DAY, Wall
from delivery import Receiver, Sender, close, empty_load, restart, unfinished
from load import Seldom

WINDOW = 600_000  # ms
TOPICS = f"""defaults
    attempts = 50
    lease = 20s
    retry_base = 5ms
email
    dedupe = {WINDOW}ms"""


def dedupe(run):
    """Every event is sent by three publishers that know nothing of each other, with kills between
    and segments so small that those of the first are long gone when the last sends."""
    with run.broker(TOPICS, "segment = 64KiB") as broker:
        wall = Wall(run, broker)
        wall.set(DAY // 2 - wall.now() % DAY)
        broker.start(wall.extra)
        load = empty_load(run, broker, ["email"])
        try:
            for number, is_last in run.rounds(3, 100):
                first, last = once(broker, wall, load, run.dice(), number)
                if number % 10 == 0 or is_last:
                    run.say(f"each id once while it is known, anew {WINDOW // 60000} minutes "
                            f"later; segments from {first} on were {last} at the end")
        finally:
            load.close()
        broker.stop(40)


def once(broker, wall, load, dice, number):
    names = [f"{number}-{i}" for i in range(600)]
    base, segments = broker.topic("email"), oldest(broker)
    receiver = Receiver(load, dice, ["email"], lambda delivery: None, credit=200)
    for _ in range(3):
        publish(broker, wall, load, dice, names)
        load.pump("all are done", Seldom(lambda: not unfinished(broker, "email")), 60)
        load.pump("answers are durable", lambda: not receiver.waiting, 60)
    accepted = broker.topic("email")["accepted"] - base["accepted"]
    assert accepted == len(names), f"{len(names)} ids were accepted {accepted} times"
    broker.kill()
    wall.set(wall.ms + WINDOW + 1000)
    broker.start(wall.extra)
    load.reconnect()
    publish(broker, wall, load, dice, names, kills=1)
    accepted = broker.topic("email")["accepted"] - base["accepted"] - accepted
    assert accepted == len(names), f"after their time {accepted} of {len(names)} ids are new"
    load.pump("all are done", Seldom(lambda: not unfinished(broker, "email")), 60)
    close(load, receiver)
    broker.check_law()
    return segments, oldest(broker)


def publish(broker, wall, load, dice, names, kills=2):
    """A publisher of its own, cut off by kills; each id is accepted or a duplicate."""
    order = list(names)
    dice.shuffle(order)
    size = dice.randrange(1, 20)
    sender = Sender(load, dice, [([["email", name, "x" * 300] for name in order[at:at + size]], {})
                                 for at in range(0, len(order), size)], 4)
    for _ in range(kills):
        target = dice.randrange(len(sender.messages))
        load.pump("some are confirmed", lambda: len(sender.confirmed) >= target, 60)
        restart(broker, load, wall.extra)
    load.pump("all is confirmed", sender.is_over, 60)
    assert not sender.refused(), sender.refused()[:3]
    close(load, sender)


def oldest(broker):
    """The number of the first segment that is still there."""
    names = [name for name in os.listdir(broker.data + "/journal") if name.endswith(".seg")]
    return min((int(name.split(".")[0], 16) for name in names), default=0)  # a listing isn't exact
