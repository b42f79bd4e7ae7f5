"""Publishers and workers behind a network that fails in every way. SPDX-License-Identifier: MIT"""
import time

from proxy import Proxy

TOPICS = """defaults
    retry_base = 10ms
    retry_cap = 50ms
    attempts = 50
    lease = 2s"""
NAMES = ["api", "db"]
RECONNECTED = 30  # seconds after a fault has ended until confirms come again

FAULTS = {
    "delay": lambda p, d: p.both(delay=d.uniform(0.01, 0.2)),
    "jitter": lambda p, d: p.both(jitter=d.uniform(0.01, 0.2)),
    "chunks": lambda p, d: p.both(chunk=d.choice([1, 7, 100, 1000])),
    "rate": lambda p, d: p.both(rate=d.choice([5_000, 50_000, 500_000])),
    "cut": lambda p, d: p.cut(),
    "half up": lambda p, d: p.half_close("up"),
    "half down": lambda p, d: p.half_close("down"),
    "hole": lambda p, d: p.both(hole=True),
    "hole up": lambda p, d: setattr(p.up, "hole", True),
    "hole down": lambda p, d: setattr(p.down, "hole", True),
    "refuse": lambda p, d: (setattr(p, "refuses", True), p.cut()),
}


def network(run):
    """Each fault alone on each side, then mixes of them; after each, all goes on."""
    with run.broker(TOPICS, "segment = 1MiB").start() as broker, \
            Proxy(broker.endpoints["front"], run.seed) as front, \
            Proxy(broker.endpoints["back"], run.seed) as back:
        load = run.load(broker, NAMES, endpoints={"front": front.endpoint, "back": back.endpoint})
        load.outstanding, load.batch = 6, 40
        slowest = 0
        try:
            for number, is_last in run.rounds(2 * len(FAULTS) + 6, 300):
                dice = run.dice()
                load.reseed(dice)
                names = sorted(FAULTS)
                if number <= 2 * len(FAULTS):
                    plan = [((front, back)[number % 2], names[(number - 1) // 2])]
                else:
                    plan = [(dice.choice([front, back]), dice.choice(names))
                            for _ in range(dice.randrange(2, 5))]
                what = ", ".join(f"{'front' if p is front else 'back'} {n}" for p, n in plan)
                try:
                    slowest = max(slowest, one(load, front, back, plan, dice))
                    if number % 5 == 0 or is_last:
                        load.judge(120)
                except AssertionError as error:
                    raise AssertionError(f"{what}: {error}") from error
            run.say(f"{load.ledger.total} confirmed, 0 lost; slowest way back {slowest:.1f} s, "
                    f"{front.accepted + back.accepted} connections")
        finally:
            load.close()
        broker.stop(40)


def one(load, front, back, plan, dice):
    """Faults for a while under load. Returns the seconds until confirms and answers came again."""
    load.pump_confirms(100)
    for proxy, name in plan:
        FAULTS[name](proxy, dice)
        load.pump_for(dice.uniform(0.05, 0.3))
    load.pump_for(dice.choice([0.1, 0.3, 1.7]))
    front.heal()
    back.heal()
    start = time.monotonic()
    confirmed, done = load.ledger.total, load.ledger.certain
    load.pump("publishers and workers are back", lambda: load.ledger.total > confirmed + 50
              and load.ledger.certain > done, RECONNECTED)
    return time.monotonic() - start
