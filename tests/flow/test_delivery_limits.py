"""Rates, quotas, breakers. SPDX-License-Identifier: MIT"""
import time

from delivery import (Notices, accept, answer, ask, ends, fail, item, names, publish, reason, state,
                      timed)
from support import Broker, Publisher, Worker, wait_for


def test_a_topic_has_its_rate(binaries):
    with Broker(binaries, "api\n    rate = 100/s\n    burst = 10").start() as broker:
        accept(broker, [["api", str(i), i] for i in range(60)])
        worker, ms = timed(lambda: Worker(broker, ["api"], credit=60))
        got, more = timed(lambda: worker.take(60))
        assert names(got) == [str(i) for i in range(60)]
        assert 400 < ms + more < 10000, (ms, more)  # 10 at once, 50 at 100 a second
        stats = ask(broker, "TOPIC.INFO", "api")["stats"]
        assert stats["leased"] == 60, stats


def test_what_the_rate_holds_back_says_so(binaries):
    with Broker(binaries, "api\n    rate = 1/h").start() as broker:
        accept(broker, [["api", "first", 1], ["api", "second", 1]])
        worker = Worker(broker, ["api"])
        assert ends(worker, 1) == ["first"]
        worker.none()
        assert reason(broker, "second") == "rate"


def test_a_publisher_past_its_rate_is_refused(binaries):
    server = "publisher_rate = 5/s\npublisher_burst = 20"
    with Broker(binaries, server=server).start() as broker:
        publisher, other = Publisher(broker), Publisher(broker)
        for i in range(60):
            publisher.publish([["api", str(i), i]])
        accepted, codes, seq = 0, set(), 0
        while seq < 60:
            _, seq, outcome = publisher.confirm()
            accepted += outcome["accepted"]
            codes |= {r[2] for r in outcome.get("refused", [])}
        assert codes == {"RATE"} and 20 <= accepted < 50, (accepted, codes)
        other.publish([["api", "other", 1]])
        assert other.confirm()[2]["accepted"] == 1  # each has its own

        def taken():
            publisher.publish([["api", "again", 1]])
            return publisher.confirm()[2]["accepted"]

        wait_for("it may go on", taken)


QUOTA = """defaults
    retry_base = 10ms
    retry_jitter = 0
mail
    quota = "2/day by user"
strict
    quota = "2/day by user"
    over_quota = dead
sliding
    quota = "2/s"
    quota_window = sliding"""


def users(topic, *pairs):
    return [[topic, name, 1, {"user": user}] for user, name in pairs]


def test_over_its_quota_a_user_waits_alone(binaries):
    with Broker(binaries, QUOTA).start() as broker:
        notices = Notices(broker, "quota")
        accept(broker, users("mail", *[("a", f"a{i}") for i in range(4)], ("b", "b0"), ("b", "b1")))
        worker = Worker(broker, ["mail"])
        assert sorted(ends(worker, 4)) == ["a0", "a1", "b0", "b1"]
        worker.none()
        explained = item(broker, "a2")
        assert explained["reason"] == "quota" and explained["state"] == "ready", explained
        midnight = (int(time.time()) // 86400 + 1) * 86_400_000
        assert explained["until"] in (midnight, midnight - 86_400_000), explained
        assert broker.topic("mail")["failed"] == 0
        notices.wait("quota", lambda _, notice: notice["topic"] == "mail")
        broker.kill()
        broker.start()
        worker = Worker(broker, ["mail"])
        worker.none()
        assert broker.topic("mail")["ready"] == 2
        broker.check_law()


def test_a_unit_comes_back_with_what_failed(binaries):
    with Broker(binaries, QUOTA).start() as broker:
        accept(broker, users("mail", *[("a", f"a{i}") for i in range(4)]))
        worker = Worker(broker, ["mail"], credit=1)
        for _ in range(2):  # each failure gives its unit back, and others may go
            fail(worker, worker.take(1)[0], retry=3_600_000)
        assert ends(worker, 1) + ends(worker, 1) == ["a2", "a3"]
        ask(broker, "EVENT.RUN", "a0")
        worker.none()
        assert reason(broker, "a0") == "quota" and broker.topic("mail")["done"] == 2
        broker.check_law()


def test_over_its_quota_an_event_may_be_dead(binaries):
    with Broker(binaries, QUOTA).start() as broker:
        accept(broker, users("strict", *[("a", f"a{i}") for i in range(3)]))
        worker = Worker(broker, ["strict"])
        assert ends(worker, 2) == ["a0", "a1"]
        letters = wait_for("it is dead", lambda: broker.admin(["DLQ.LIST", "strict"])[1]["items"])
        assert [i["id"] for i in letters] == ["a2"] and "quota" in letters[0]["reason"], letters


def test_a_window_may_slide(binaries):
    with Broker(binaries, QUOTA).start() as broker:
        accept(broker, [["sliding", str(i), i] for i in range(6)])
        worker, times = Worker(broker, ["sliding"]), []
        for _ in range(6):
            [delivery] = worker.take(1)
            times.append(item(broker, delivery[2][1], "EVENT.SHOW")["deadline"])  # a lease behind its dispatch
            answer(worker, [delivery[0]])
        for early, late in zip(times, times[2:]):
            assert late - early > 900, times
        assert times[-1] - times[0] < 20000, times


BREAKER = """mail
    breaker = 50%
    breaker_calls = 4
    breaker_window = 10s
    breaker_cooldown = 400ms
    breaker_probes = 1
    retry_base = 5ms
    retry_cap = 5ms
    retry_jitter = 0
    attempts = 20"""


def breaker(broker, downstream):
    return next((b for b in ask(broker, "TOPIC.INFO", "mail")["breakers"]
                 if b["downstream"] == downstream), None)


def needs(downstream, *ids):
    return [["mail", name, 1, {"downstream": downstream}] for name in ids]


class Downstreams:
    """A worker whose events go to services of which some are broken."""

    def __init__(self, broker, *broken):
        self.worker = Worker(broker, ["mail"], credit=50)
        self.broken, self.tried, self.done = set(broken), {}, []

    def work(self, condition, seconds=60):
        """Until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.tried, self.done)
            self.worker.pump(0.02)
            got, self.worker.pending = self.worker.pending, []
            for delivery in got:
                name, service = delivery[2][1], delivery[2][3]["downstream"]
                self.tried[name] = delivery[1]
                if service in self.broken:
                    fail(self.worker, delivery, 503, downstream=service)
                else:
                    answer(self.worker, [delivery[0]])
                    self.done.append(name)


def test_the_breaker_of_a_failing_service_opens_and_closes(binaries):
    with Broker(binaries, BREAKER).start() as broker:
        notices = Notices(broker, "breaker")
        services = Downstreams(broker, "bad")
        accept(broker, needs("bad", *[f"bad{i}" for i in range(8)]))
        services.work(lambda: (breaker(broker, "bad") or {}).get("state") == "open")
        opened = notices.wait("it opens", lambda _, n: "open" in n["detail"])
        assert opened["topic"] == "mail" and "bad" in opened["detail"], opened
        services.work(lambda: not broker.topic("mail")["leased"])
        attempts = dict(services.tried)
        accept(broker, needs("good", *[f"good{i}" for i in range(20)])
               + needs("bad", "new"))
        services.work(lambda: len(services.done) == 20)
        assert all(name.startswith("good") for name in services.done)
        told = breaker(broker, "bad")
        assert told["opened"] >= 1 and told["waiting"] >= 1, told
        waiting = [i for i in range(8) if state(broker, f"bad{i}") == "ready"]
        assert waiting, "nothing waits behind it"
        explained = item(broker, f"bad{waiting[0]}")
        assert explained["reason"] == "breaker" and "bad" in explained["text"], explained
        burnt = lambda: sum(services.tried.get(n, 0) - attempts.get(n, 0)
                            for n in {*attempts, "new"})
        services.work(lambda: burnt() >= 2)  # probes go through, and fail
        assert burnt() <= 3 and breaker(broker, "bad")["state"] != "closed", services.tried
        services.broken.clear()
        services.work(lambda: len(services.done) == 29)
        wait_for("it is closed", lambda: breaker(broker, "bad")["state"] == "closed")
        notices.wait("it closes", lambda _, n: "bad" in n["detail"] and "closed" in n["detail"])
        assert broker.topic("mail")["dead"] == 0 and breaker(broker, "bad")["waiting"] == 0
        assert (breaker(broker, "good") or {"state": "closed"})["state"] == "closed"
        broker.check_law()


def test_a_probe_that_ends_elsewhere_is_given_back(binaries):
    with Broker(binaries, BREAKER).start() as broker:
        services = Downstreams(broker, "bad")
        accept(broker, needs("bad", *[f"bad{i}" for i in range(4)]))
        services.work(lambda: (breaker(broker, "bad") or {}).get("state") == "open")
        [probe] = services.worker.take(1)
        fail(services.worker, probe, 503, downstream="another")
        services.broken.clear()
        services.work(lambda: len(services.done) == 4)
        assert breaker(broker, "bad")["state"] == "closed"
        broker.check_law()


def test_an_open_breaker_outlasts_a_kill_and_is_set_by_hand(binaries):
    topics = BREAKER.replace("400ms", "1h\n    breaker_cooldown_cap = 1h")
    with Broker(binaries, topics).start() as broker:
        services = Downstreams(broker, "bad")
        accept(broker, needs("bad", *[f"bad{i}" for i in range(6)]))
        services.work(lambda: (breaker(broker, "bad") or {}).get("state") == "open")
        broker.kill()
        broker.start()
        assert breaker(broker, "bad")["state"] == "open"
        services = Downstreams(broker)
        services.worker.none()
        closed = ask(broker, "BREAKER.SET", "mail", "bad", "closed")
        assert closed["state"] == "closed" and closed["forced"], closed
        services.work(lambda: len(services.done) == 6)
        ask(broker, "BREAKER.SET", "mail", "good", "open")
        accept(broker, needs("good", "g"))
        services.worker.none()
        assert reason(broker, "g") == "breaker"
        ask(broker, "BREAKER.SET", "mail", "good", "auto")
        broker.check_law()


def test_a_failing_topic_refuses_publishers_where_told_to(binaries):
    topics = BREAKER.replace("400ms", "1h\n    breaker_cooldown_cap = 1h") + "\n    on_open = refuse"
    with Broker(binaries, topics).start() as broker:
        accept(broker, [["mail", str(i), i] for i in range(8)])
        worker = Worker(broker, ["mail"])
        wait_for("it opens", lambda: worker.pump(0.02) is None or [
            fail(worker, d) for d in [worker.pending.pop() for _ in range(len(worker.pending))]]
            is None or (breaker(broker, "") or {}).get("state") == "open")
        for delivery in worker.pending:  # what went out before it opened
            fail(worker, delivery)
        worker.pending = []
        outcome = publish(broker, [["mail", "refused", 1], ["db", "taken", 1]])
        assert outcome["accepted"] == 1 and outcome["refused"][0][1] == 0, outcome
        assert "mail" in outcome["refused"][0][3], outcome
        ask(broker, "BREAKER.SET", "mail", None, "closed")
        assert publish(broker, [["mail", "taken", 1]])["accepted"] == 1


def test_a_raised_quota_lets_everybody_go(binaries):
    with Broker(binaries, QUOTA).start() as broker:
        who = "abcdefgh"
        accept(broker, users("mail", *[(u, f"{u}{i}") for i in range(3) for u in who]))
        worker = Worker(broker, ["mail"], credit=100)
        ends(worker, 2 * len(who))
        worker.none()
        assert reason(broker, "a2") == "quota"
        with open(broker.config) as file:
            text = file.read()
        with open(broker.config, "w") as file:
            file.write(text.replace("2/day by user", "3/day by user", 1))
        assert ask(broker, "RELOAD")["changed"] == ["topic/mail/quota"]
        assert sorted(ends(worker, len(who))) == [u + "2" for u in who]
