"""A quota of 20 a day, held over kill -9 of the broker. SPDX-License-Identifier: MIT"""
from clocks import DAY, Wall
from delivery import Receiver, Sender, after, close, empty_load, restart

LIMIT, EVENTS, KILLS = 20, 30, 4
TOPICS = f"""defaults
    retry_base = 5ms
    retry_factor = 1
    attempts = 50
    lease = 20s
email
    quota = "{LIMIT}/day by user"
db"""


def quota(run):
    """One user is over it, one below it, one works on a topic without; then the day turns."""
    with run.broker(TOPICS, "segment = 256KiB") as broker:
        wall = Wall(run, broker)
        noon(wall)
        broker.start(wall.extra)
        load = empty_load(run, broker, ["email", "db"])
        try:
            for number, is_last in run.rounds(2, 100):
                day(broker, wall, load, run.dice(), number)
                if number % 10 == 0 or is_last:
                    run.say(f"{LIMIT} of {EVENTS} on their day, the rest on the next, "
                            f"{KILLS} kills")
        finally:
            load.close()
        broker.stop(40)


def noon(wall):
    """Far from midnight, whatever time it is here."""
    wall.set(DAY // 2 - wall.now() % DAY)


def day(broker, wall, load, dice, number):
    users = {f"{name}{number}": (topic, count) for name, topic, count in (
        ("over", "email", EVENTS), ("below", "email", LIMIT // 2), ("free", "db", EVENTS))}
    events = [[topic, f"{user}-{i}", i, {"user": user}]
              for user, (topic, count) in users.items() for i in range(count)]
    dice.shuffle(events)
    done, seen, mood = set(), set(), {"holds": True}  # ids of events

    def decide(delivery):
        name = delivery[2][1]
        seen.add(name)
        if name not in done:  # else its ACK was lost with a broker, and it is done all the same
            if dice.random() < 0.2:
                return 500, {}
            if dice.random() < 0.2 and mood["holds"]:
                return "hold"  # until the broker is killed
        done.add(name)
        return None

    def of(user):
        return sum(1 for name in done if name.startswith(user + "-"))

    sender = Sender(load, dice, [(events[i:i + 10], {}) for i in range(0, len(events), 10)], 2)
    receiver = Receiver(load, dice, ["email", "db"], decide, credit=8)
    wanted = {user: LIMIT if user.startswith("over") else count
              for user, (_, count) in users.items()}
    for left in range(KILLS, 0, -1):
        target, is_late = len(seen) + dice.randrange(1, 12), after(0.3)
        load.pump("some are delivered", lambda: len(seen) >= target or is_late(), 60)
        mood["holds"] = left > 1
        restart(broker, load, wall.extra)
    load.pump("all of the day are done", lambda: sender.is_over() and all(
        of(user) >= count for user, count in wanted.items()), 60)
    load.pump("answers are durable", lambda: not receiver.waiting, 60)
    load.pump_for(0.2)
    assert (found := {user: of(user) for user in users}) == wanted, f"{found}, not {wanted}"
    assert broker.topic("email")["ready"] == EVENTS - LIMIT, broker.topic("email")
    wall.set(wall.ms + DAY)
    load.pump("the rest are done", lambda: of(f"over{number}") == EVENTS, 60)
    load.pump("answers are durable", lambda: not receiver.waiting, 60)
    assert not sender.refused(), sender.refused()
    close(load, sender)
    close(load, receiver)
    broker.check_law()
