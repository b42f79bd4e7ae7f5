"""Time and leases: at, delay, ttl, what an operator does to a waiting event, how leases end.
SPDX-License-Identifier: MIT"""
import time

from delivery import accept, answer, ask, ends, fail, item, publish, reason, state, timed
from support import Broker, Worker, wait_for

FAST = """defaults
    retry_base = 20ms
    retry_jitter = 0
    retry_factor = 1
    lease = 10s"""
HOUR = 3_600_000


def dead(broker, topic, count=1):
    wait_for("it is dead", lambda: broker.topic(topic)["dead"] == count)
    return wait_for("its letter is there", lambda: broker.admin(["DLQ.LIST", topic])[1]["items"])


def test_at_and_delay_are_not_before_their_time(binaries):
    with Broker(binaries).start() as broker:
        worker = Worker(broker, ["api"])
        start = int(time.time() * 1000)
        accept(broker, [["api", "at", 1, {"at": start + 4000}], ["api", "delay", 1, {"delay": 2000}],
                        ["api", "past", 1, {"at": start - HOUR}]])
        assert ends(worker, 1) == ["past"]
        assert state(broker, "at") == "scheduled" and reason(broker, "at") == "scheduled"
        until = item(broker, "at")["until"]
        assert until == start + 4000, (until, start)
        (first, second), _ = timed(lambda: (ends(worker, 1), ends(worker, 1)))
        assert (first, second) == (["delay"], ["at"])
        assert int(time.time() * 1000) >= start + 4000
        broker.check_law()


def test_ttl_is_judged_at_dispatch_and_spares_the_leased(binaries):
    with Broker(binaries, FAST).start() as broker:
        worker = Worker(broker, ["api"], credit=1)
        accept(broker, [["api", name, 1, {"ttl": 4000}] for name in ("kept", "failed", "late")])
        [kept] = worker.take(1)
        worker.send(["CREDIT", 2])
        [failed] = worker.take(1)
        wait_for("its time is over", lambda: broker.topic("api")["dead"] == 1)
        assert answer(worker, [kept[0]]) == {"done": 1}  # a leased event may finish
        fail(worker, failed, retry=HOUR)                 # but not try again
        letters = wait_for("both are dead", lambda: len(dead(broker, "api", 2)) == 2
                           and dead(broker, "api", 2))
        assert {(i["id"], i["reason"]) for i in letters} == {("late", "expired"),
                                                             ("failed", "expired")}
        worker.none()
        ask(broker, "DLQ.REPLAY", "api", {"all": True})  # by hand: its time begins anew
        worker.send(["CREDIT", 5])
        assert sorted(ends(worker, 2)) == ["failed", "late"]
        broker.check_law()


def test_waiting_events_are_cancelled_moved_and_run_now(binaries):
    with Broker(binaries, FAST).start() as broker:
        worker = Worker(broker, ["api"])
        accept(broker, [["api", name, 1, {"delay": HOUR}] for name in ("gone", "sooner", "now")])
        assert broker.topic("api")["scheduled"] == 3
        assert ask(broker, "EVENT.CANCEL", "gone")["topic"] == "api"
        ask(broker, "EVENT.DELAY", "sooner", {"delay": 2000})
        ask(broker, "EVENT.RUN", "now")
        assert ends(worker, 1) == ["now"]
        assert ends(worker, 1) == ["sooner"]
        worker.none()
        stats = broker.topic("api")
        assert (stats["scheduled"], stats["done"], stats["accepted"]) == (0, 2, 3), stats
        assert broker.admin(["EVENT.CANCEL", "never"])[1] == "NOT_FOUND"
        assert broker.admin(["EVENT.RUN", "now"])[1] in ("BAD_COMMAND", "NOT_FOUND")
        broker.check_law()


def test_moves_by_hand_last_over_a_kill(binaries):
    with Broker(binaries, FAST).start() as broker:
        accept(broker, [["api", name, 1, {"delay": HOUR}] for name in ("gone", "now", "later")]
               + [["api", "ready", 1]])
        ask(broker, "EVENT.CANCEL", "gone")
        ask(broker, "EVENT.RUN", "now")
        ask(broker, "EVENT.DELAY", "ready", {"delay": HOUR})
        accept(broker, [["db", "fence", 1]])  # what is journaled before it is durable too
        broker.kill()
        broker.start()
        worker = Worker(broker, ["api"])
        assert ends(worker, 1) == ["now"]
        worker.none()
        assert broker.topic("api")["scheduled"] == 2
        ask(broker, "EVENT.RUN", "ready")
        assert ends(worker, 1) == ["ready"]
        broker.check_law()


def test_scheduled_events_have_a_limit(binaries):
    with Broker(binaries, "few\n    scheduled_capacity = 2").start() as broker:
        outcome = publish(broker, [["few", str(i), 1, {"delay": HOUR}] for i in range(3)]
                          + [["few", "at once", 1]])
        assert outcome["accepted"] == 3 and outcome["refused"][0][1:3] == [2, "FULL"], outcome


def test_a_retry_is_run_now(binaries):
    topics = FAST.replace("20ms", "1h") + "\n    retry_cap = 1h"
    with Broker(binaries, topics).start() as broker:
        accept(broker, [["api", "one", 1]])
        worker = Worker(broker, ["api"])
        fail(worker, worker.take(1)[0])
        assert state(broker, "one") == "retrying" and reason(broker, "one") == "backoff"
        ask(broker, "EVENT.RUN", "one")
        [delivery] = worker.take(1)
        assert delivery[1] == 2 and len(delivery[3]["errors"]) == 1


def test_a_stuck_event_is_taken_away_uncounted(binaries):
    with Broker(binaries, FAST).start() as broker:
        accept(broker, [["api", "one", 1]])
        stuck = Worker(broker, ["api"], credit=1, name="stuck")
        [held] = stuck.take(1)
        explained = item(broker, "one")
        assert explained["reason"] == "leased" and "stuck" in explained["text"], explained
        others = [Worker(broker, ["api"], name=name) for name in ("left", "right")]
        ask(broker, "EVENT.RELEASE", "one", {"to": "right"})
        assert stuck.receive("CANCEL")[1] in ([held[0]], [[held[0], held[0]]])
        [delivery] = others[1].take(1)
        assert delivery[1] == 1 and not others[0].pending
        assert answer(stuck, [held[0]]) == {"done": 0, "stale": [held[0]]}
        assert answer(others[1], [delivery[0]]) == {"done": 1}
        assert broker.topic("api")["failed"] == 0
        assert broker.admin(["EVENT.RELEASE", "one"])[0] == "ERROR"
        broker.check_law()


def test_extend_is_bounded_in_total(binaries):
    topics = "slow\n    lease = 1500ms\n    lease_total = 4s\n    retry_base = 1h"
    with Broker(binaries, topics).start() as broker:
        accept(broker, [["slow", "one", 1]])
        worker = Worker(broker, ["slow"])
        [[tag, _, _]] = worker.take(1)
        start = time.monotonic()

        def is_over():
            worker.send(["EXTEND", [tag], 1500])
            worker.pump(0.05)
            return broker.topic("slow")["retrying"] == 1

        wait_for("the lease ends all the same", is_over)
        took = time.monotonic() - start
        assert took > 2.5, f"after {took:.2f} s"
        assert worker.receive("CANCEL")[1]
        history = lambda: item(broker, "one", "EVENT.SHOW")["history"]
        wait_for("it is durable", lambda: [h[0] for h in history()] == ["LEASE"])


def test_a_fifth_before_its_end_a_lease_is_warned_of(binaries):
    topics = "slow\n    lease = 5s\n    retry_base = 1h"
    with Broker(binaries, topics).start() as broker:
        accept(broker, [["slow", "one", 1]])
        worker = Worker(broker, ["slow"])
        [[tag, _, _]] = worker.take(1)
        warning, ms = timed(lambda: worker.receive("EXPIRING"))
        assert warning[1] in ([tag], [[tag, tag]]) and ms > 3000, (warning, ms)
        assert 0 < warning[2] <= 1050, warning
        _, ms = timed(lambda: worker.receive("CANCEL"))
        assert ms < 4000, ms  # less than another lease
        assert broker.topic("slow")["failed"] == 1


def test_late_acks_count_until_the_event_is_leased_anew(binaries):
    topics = "slow\n    lease = 2s\n    retry_base = 1h\nquick\n    lease = 2s\n" \
             "    retry_base = 10ms\n    retry_jitter = 0"
    with Broker(binaries, topics).start() as broker:
        accept(broker, [["slow", "a", 1], ["quick", "b", 1]])
        worker = Worker(broker, ["slow", "quick"], credit=2)
        tags = {d[2][1]: d[0] for d in worker.take(2)}
        wait_for("both ran out", lambda: broker.topic("slow")["failed"]
                 and broker.topic("quick")["failed"])
        assert answer(worker, [tags["a"]]) == {"done": 1}
        other = Worker(broker, ["quick"])
        other.take(1)
        assert answer(worker, [tags["b"]]) == {"done": 0, "stale": [tags["b"]]}
        stats = broker.topic("quick")
        assert stats["leased"] == 1 and stats["done"] == 0
        broker.check_law()


def test_what_is_over_is_found_behind_much_that_is_not(binaries):
    with Broker(binaries, "big", server='max_message = "16MiB"').start() as broker:
        # One record of more than is looked through at a time.
        accept(broker, [["big", f"b{i}", b"x" * 100_000, {"ttl": 3_600_000}] for i in range(90)]
               + [["big", "over", 1, {"ttl": 100}]])
        wait_for("it has expired", lambda: broker.topic("big")["dead"] == 1)
        broker.check_law()
