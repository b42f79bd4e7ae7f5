"""Retry policies, rules by code, the retry budget. SPDX-License-Identifier: MIT"""
from delivery import accept, answer, ask, ends, fail, item, names, reason, state, timed
from support import Broker, Worker, wait_for

LONG = 3_600_000


def letters(broker, topic, count=1):
    found = lambda: broker.admin(["DLQ.LIST", topic])[1]["items"]
    wait_for("it is dead", lambda: len(found()) == count)
    return found()


def waits(broker, topic, count, code=500):
    """What the history says of the waits behind an event's failures; none was shorter."""
    accept(broker, [[topic, topic, 1]])
    worker = Worker(broker, [topic])
    delivery, found = worker.take(1)[0], []
    for _ in range(count):
        [delivery], ms = timed(lambda: fail(worker, delivery, code) and worker.take(1))
        found.append(told(broker, delivery)["delay"])
        assert ms > found[-1] - 15, (ms, found)
    answer(worker, [delivery[0]])
    return found


def told(broker, delivery):
    """What the last failure of its history says beyond what workers are told."""
    return item(broker, delivery[2][1], "EVENT.SHOW")["history"][-1][5]


def test_waits_grow_by_the_policy(binaries):
    topics = """defaults
    retry_base = 100ms
    retry_jitter = 0
    retry_factor = 2
    retry_cap = 250ms
    attempts = 9
fixed
    retry = fixed
linear
    retry = linear
exponential
    retry = exponential
random
    retry = random"""
    with Broker(binaries, topics).start() as broker:
        assert waits(broker, "fixed", 2) == [100, 100]
        assert waits(broker, "linear", 3) == [100, 200, 250]
        assert waits(broker, "exponential", 3) == [100, 200, 250]
        assert all(100 <= each <= 250 for each in waits(broker, "random", 3))


def test_rules_by_code_come_before_the_policy(binaries):
    topics = """api
    retry = fixed
    retry_base = 1h
    retry_cap = 1h
    retry_jitter = 0
    attempts = 5
    retry_on = "429 fixed base=10ms attempts=2; 5* fixed base=300ms; timeout linear base=20ms"
    dead_on = "65, 55*, BAD_*\""""
    with Broker(binaries, topics).start() as broker:
        worker = Worker(broker, ["api"])
        for code in (65, 550, "BAD_ADDRESS"):  # dead_on stands first, so 550 isn't 5*
            accept(broker, [["api", f"dead {code}", 1]])
            fail(worker, worker.take(1)[0], code)
        assert {i["reason"] for i in letters(broker, "api", 3)} == {"permanent"}
        accept(broker, [["api", "busy", 1]])
        fail(worker, worker.take(1)[0], 429)
        [delivery] = worker.take(1)
        assert told(broker, delivery)["delay"] == 10 and told(broker, delivery)["rule"] == "429", delivery
        fail(worker, delivery, 429)  # two of this rule's own
        assert "attempts" in {i["reason"] for i in letters(broker, "api", 4)}
        accept(broker, [["api", "error", 1]])
        fail(worker, worker.take(1)[0], 503)
        [delivery] = worker.take(1)
        assert told(broker, delivery)["delay"] == 300 and told(broker, delivery)["rule"] == "5*", delivery
        fail(worker, delivery, "timeout")
        [delivery] = worker.take(1)
        assert told(broker, delivery)["delay"] == 40, delivery  # linear, its second attempt
        fail(worker, delivery, 404)
        assert state(broker, "error") == "retrying"
        until = item(broker, "error")["until"]
        history = item(broker, "error", "EVENT.SHOW")["history"]
        assert [h[0] for h in history] == [503, "timeout", 404], history
        assert until - history[-1][3] > LONG - 5000, (until, history)


def test_a_workers_own_time_goes_past_the_cap(binaries):
    topics = "api\n    retry_base = 10ms\n    retry_cap = 20ms\n    retry_jitter = 0"
    with Broker(binaries, topics).start() as broker:
        accept(broker, [["api", "one", 1]])
        worker = Worker(broker, ["api"])
        first = worker.take(1)[0]
        [delivery], ms = timed(lambda: fail(worker, first, retry=500) and worker.take(1))
        assert ms > 480 and delivery[1] == 2 and told(broker, delivery)["delay"] == 500, (ms, delivery)


def test_retries_have_a_budget(binaries):
    topics = """api
    retry_base = 10ms
    retry_cap = 10ms
    retry_jitter = 0
    attempts = 100
    retry_budget = 0.2"""
    with Broker(binaries, topics).start() as broker:
        count = 200
        accept(broker, [["api", str(i), i] for i in range(count)])
        worker = Worker(broker, ["api"], credit=50)
        attempts = {}
        while worker.pump(0.5 if len(attempts) == count else 30):
            got, worker.pending = worker.pending, []
            for delivery in got:
                attempts[delivery[2][1]] = delivery[1]
            if got:
                worker.send(["NACK", [d[0] for d in got], 500, "all fail"])
        assert len(attempts) == count, "first attempts were held up"
        retried = sum(attempts.values()) - count
        assert 0 < retried <= count * 0.2 + 20, f"{retried} retries of {count} events"
        waiting = next(name for name in attempts if state(broker, name) == "retrying")
        assert reason(broker, waiting) in ("retry_budget", "backoff")
        broker.check_law()


def test_history_tells_who_when_and_what_came_next(binaries):
    topics = "api\n    retry_base = 10ms\n    retry_jitter = 0\n    attempts = 2"
    with Broker(binaries, topics).start() as broker:
        accept(broker, [["api", "one", 1]])
        worker = Worker(broker, ["api"], name="w", host="h", pid=17)
        fail(worker, worker.take(1)[0], 500)
        fail(worker, worker.take(1)[0], "E_LAST", trace="t")
        letters(broker, "api")
        history = item(broker, "one", "EVENT.SHOW")["history"]
        assert [h[:3] for h in history] == [[500, "of the test", None], ["E_LAST", "of the test", "t"]] \
            or [h[0] for h in history] == [500, "E_LAST"], history
        assert all(h[4] == "w" for h in history) and history[0][3] <= history[1][3], history
        assert state(broker, "one") == "dead" and reason(broker, "one") == "dead"
        ask(broker, "DLQ.REPLAY", "api", {"all": True})
        assert ends(worker, 1) == ["one"]
        history = item(broker, "one", "EVENT.SHOW")["history"]
        assert [h[0] for h in history][:2] == [500, "E_LAST"], history
        assert state(broker, "one") == "done"


def test_a_failed_attempt_counts_once_over_kills(binaries):
    topics = "api\n    retry_base = 10ms\n    retry_jitter = 0\n    attempts = 3"
    with Broker(binaries, topics).start() as broker:
        accept(broker, [["api", "one", 1]])
        for attempt in (1, 2, 3):
            worker = Worker(broker, ["api"])
            [delivery] = worker.take(1)
            assert delivery[1] == attempt and names([delivery]) == ["one"]
            fail(worker, delivery)
            worker.close()
            broker.kill()
            broker.start()
        assert [i["reason"] for i in letters(broker, "api")] == ["attempts"]
        broker.check_law()
