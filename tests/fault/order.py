"""Ordering keys over kill -9 of the broker and of workers. SPDX-License-Identifier: MIT

Eight processes of keyed.py work; each writes a line before it begins an event, one before it
answers and one when the answer is durable, all to one file, which so tells in what order things
happened. No event begins before the one ahead of it in its key has ended for good: what a broker
that dies takes with it is begun again, never what lies before something that has begun."""
import os
import subprocess
import sys

from delivery import Sender, after, close, empty_load
from load import Seldom

TOPICS = """defaults
    retry_base = 1ms
    retry_factor = 1
    retry_jitter = 0
    attempts = 100
    lease = 60s
email"""
WORKERS = 8
HERE = os.path.dirname(os.path.abspath(__file__))


class Hand:
    """A worker process, and the pipe that tells it to connect anew."""
    count = 0

    def __init__(self, broker, path, seed):
        Hand.count += 1
        self.name = f"w{Hand.count}"
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "keyed.py"), broker.endpoints["back"], path,
             self.name, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def leave(self):
        """It drops its connection and what it was sent; True once it has."""
        self.process.stdin.write(b"leave\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"left\n", f"{self.name} has ended"

    def join(self):
        self.process.stdin.write(b"join\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def keys(run):
    """100 keys × 100 events; --long: 1,000 × 1,000."""
    keys, events = (1000, 1000) if run.is_long else (100, 100)
    with run.broker(TOPICS, "segment = 1MiB" if run.is_long else "segment = 256KiB") as broker:
        broker.start()
        for number, _ in run.rounds(1, 3):
            path = os.path.join(broker.directory, f"lines{number}")
            load = empty_load(run, broker, ["email"])
            hands = []
            try:
                kills = work(broker, load, run.dice(), path, hands, (keys, events))
            finally:
                load.close()
                for hand in hands:
                    hand.kill()
            begun = judge(path, number, keys, events)
            run.say(f"{keys} keys × {events} events in order, {begun} attempts, "
                    f"{kills['broker']} kills of the broker, {kills['worker']} of workers")
        broker.stop(40)


def work(broker, load, dice, path, hands, size):
    """Publishes all of it and has it worked on, with kills in between."""
    keys, events = size
    base, total = broker.topic("email")["done"], keys * events
    every = 1000 if total > 100000 else 100
    everything = [["email", None, [key, i], {"key": f"k{key}"}]
                  for i in range(events) for key in range(keys)]
    sender = Sender(load, dice, [(everything[at:at + every], {})
                                 for at in range(0, total, every)])
    open(path, "w").close()
    hands += [Hand(broker, path, dice.random()) for _ in range(WORKERS)]
    for hand in hands:
        hand.join()
    done = lambda: broker.topic("email")["done"] - base
    kills = {"broker": 0, "worker": 0}
    steps = 20 if total > 100000 else 8
    for step in range(1, steps):
        target = total * step // steps
        has_come = Seldom(lambda: done() >= target)
        load.pump(f"{target} are done", has_come, 120)
        load.pump("a moment passes", after(dice.random() * 0.02), 10)
        if step % 2:
            at = dice.randrange(WORKERS)
            hands[at].kill()
            hands[at] = Hand(broker, path, dice.random())
            hands[at].join()
            kills["worker"] += 1
        else:
            broker.kill()
            for hand in hands:
                hand.leave()
            broker.start()
            load.reconnect()
            for hand in hands:
                hand.join()
            kills["broker"] += 1
    load.pump("all are done", Seldom(lambda: sender.is_over() and done() == total), 120)
    assert not sender.refused(), sender.refused()[:3]
    close(load, sender)
    broker.check_law()
    return kills


def judge(path, number, keys, events):
    """A worker that was taken for lost may begin late what it was given; its name is then in the
    event's history."""
    begun, ended, kept = [-1] * keys, [-1] * keys, [-1] * keys
    lost, late, count = {}, [], 0
    with open(path) as file:
        for line in file:
            kind, worker, key, i, *blamed = line.split()
            key, i = int(key), int(i)
            if kind == "begin":
                count += 1
                lost.setdefault((key, i), set()).update(blamed)
                if i <= kept[key] or i < begun[key] or i > ended[key] + 1:
                    late.append((worker, key, i, begun[key], ended[key], kept[key]))
                begun[key] = max(begun[key], i)
            elif kind == "end":
                ended[key] = max(ended[key], i)
            else:
                kept[key] = max(kept[key], i)
    wrong = [each for each in late if each[0] not in lost[each[1:3]]]
    assert not wrong, (f"round {number}: {len(wrong)} out of order; (worker, key, event, begun, "
                       f"ended, kept): {wrong[:5]}")
    assert all(e == events - 1 for e in ended), f"keys not worked to the end: {ended[:20]}"
    return count
