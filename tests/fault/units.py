"""What is stored all or none: copies of a route, atomic publishes, answers with their events.
SPDX-License-Identifier: MIT"""
import zlib

from delivery import Receiver, Sender, after, close, empty_load, restart, unfinished
from load import Seldom

NAMES = ["a", "b", "c"]
ROUTED = "\n".join(NAMES)
ROUTES = """routes
    three
        type = "order.*"
        to = "a, b, c"
"""
SERVER = "segment = 256KiB"


def routes(run):
    """Events without a topic go to three; the broker is killed at any moment, its publisher
    answers some rounds by sending again and others not."""
    with run.broker(ROUTED, SERVER) as broker:
        with open(broker.config, "a") as file:
            file.write(ROUTES)
        broker.start()
        load = empty_load(run, broker, NAMES)
        complete = partly = 0
        try:
            for number, is_last in run.rounds(20, 500):
                sent, found = routed_round(broker, load, run.dice(), number)
                complete, partly = complete + found, partly + (found < sent)
                if number % 20 == 0 or is_last:
                    run.say(f"{complete} events in all three topics, none in some; in {partly} "
                            f"rounds not all of them")
        finally:
            load.close()
        broker.stop(40)


def routed_round(broker, load, dice, number):
    names = [f"{number}-{i}" for i in range(400)]
    size = dice.randrange(1, 12)
    sender = Sender(load, dice, [
        ([[None, name, "x" * dice.randrange(200), {"type": "order.new"}]
          for name in names[at:at + size]], {}) for at in range(0, len(names), size)], 6)
    target, at_most = dice.randrange(len(sender.messages)), after(2)
    load.pump("some are confirmed",
              lambda: len(sender.confirmed) >= target or at_most(), 60)
    load.pump_for(dice.random() * 0.003)
    broker.kill()
    confirmed = {name for i in sender.confirmed for name in ids(sender, i)}
    sends_again = dice.random() < 0.3
    if not sends_again:
        close(load, sender)
    broker.start()
    broker.check_law()
    load.reconnect()
    if sends_again:
        load.pump("all is confirmed", sender.is_over, 60)
        confirmed = set(names)
        close(load, sender)
    assert not sender.refused(), sender.refused()[:3]
    copies = drained(broker, load, dice, NAMES)
    for name in names:
        there = [topic for topic in NAMES if copies[topic].get(name, 0)]
        assert there in ([], NAMES), f"{name} is in {there} alone"
        assert there or name not in confirmed, f"{name} is confirmed and lost"
        assert all(copies[t].get(name, 0) <= 1 for t in NAMES), f"{name} is there twice"
    return len(names), len(copies["a"])


def ids(sender, index):
    return [event[1] for event in sender.messages[index][0]]


def drained(broker, load, dice, topics):
    """Works on everything; how often each id came, by topic."""
    found = {topic: {} for topic in topics}

    def count(delivery):
        topic, name = delivery[2][:2]
        found[topic][name] = found[topic].get(name, 0) + 1

    receiver = Receiver(load, dice, topics, count, credit=1000)
    load.pump("all is drained",
              Seldom(lambda: not unfinished(broker, *topics) and not receiver.waiting), 90)
    close(load, receiver)
    return found


UNITS = """defaults
    retry_base = 5ms
    retry_factor = 1
    attempts = 50
    lease = 20s
    dedupe = 0
orders
    on_done = finished
    on_dead = buried
stock
emitted
finished
buried
undone"""
BASKET = 4  # events of an atomic PUBLISH


def units(run):
    """Atomic publishes over two topics; answers with events, copies of what is done or dead and
    compensations, none of them deduplicated: each is there exactly once, or not at all."""
    with run.broker(UNITS, SERVER) as broker:
        broker.start()
        load = empty_load(run, broker, ["orders"])
        totals = [0] * 3
        try:
            for number, is_last in run.rounds(6, 300):
                for i, count in enumerate(units_round(broker, load, run.dice(), number)):
                    totals[i] += count
                if number % 20 == 0 or is_last:
                    run.say("%d done, %d dead, %d emitted, each exactly once" % tuple(totals))
        finally:
            load.close()
        broker.stop(40)


def fate(name):
    """How an order ends, decided by its id: a delivery that comes again ends the same way."""
    return ("dead", "emit", "emit", "done")[zlib.crc32(name.encode()) % 4]


def emits(name):
    return [["emitted", f"{name}/{i}", i] for i in range(1 + zlib.crc32(name.encode()) % 3)]


def units_round(broker, load, dice, number):
    baskets = [[[("stock" if i == BASKET - 1 else "orders"), f"{number}-{k}-{i}", k,
                 {"on_dead": ["undone", f"{number}-{k}-{i}", None]}] for i in range(BASKET)]
               for k in range(60)]
    sender = Sender(load, dice, [(basket, {"atomic": True}) for basket in baskets], 10)
    stock = set()

    def decide(delivery):
        topic, name = delivery[2][:2]
        if topic == "stock":
            stock.add(name)
            return None
        if dice.random() < 0.1:
            return 500, {}
        if fate(name) == "dead":
            return 65, {"dead": True}
        return emits(name) if fate(name) == "emit" else None

    receiver = Receiver(load, dice, ["orders", "stock"], decide, credit=16)
    for _ in range(3):
        load.pump_for(dice.random() * 0.03)
        restart(broker, load)
    load.pump("all is confirmed", sender.is_over, 60)
    load.pump("all has ended", Seldom(
        lambda: not unfinished(broker, "orders", "stock") and not receiver.waiting), 90)
    assert not sender.refused() and not receiver.refused, (sender.refused(), receiver.refused)
    close(load, sender)
    close(load, receiver)
    orders = [e[1] for basket in baskets for e in basket if e[0] == "orders"]
    assert stock == {basket[-1][1] for basket in baskets}, "a basket isn't whole"
    found = drained(broker, load, dice, ["emitted", "finished", "buried", "undone"])
    dead = [name for name in orders if fate(name) == "dead"]
    wanted = {"emitted": [e[1] for n in orders if fate(n) == "emit" for e in emits(n)],
              "finished": [n for n in orders if n not in set(dead)], "buried": dead, "undone": dead}
    for topic, names in wanted.items():
        expected = dict.fromkeys(names, 1)
        wrong = [(n, expected.get(n, 0), found[topic].get(n, 0))
                 for n in expected.keys() | found[topic].keys()
                 if expected.get(n, 0) != found[topic].get(n, 0)]
        assert not wrong, f"{topic}: {len(wrong)} wrong; (id, wanted, found): {sorted(wrong)[:5]}"
    broker.check_law()
    return len(wanted["finished"]), len(dead), len(wanted["emitted"])
