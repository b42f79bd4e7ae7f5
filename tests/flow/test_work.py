"""Workers: leases, retries, sessions, credit. SPDX-License-Identifier: MIT"""
import os

import msgpack

from support import Broker, Publisher, Worker, wait_for

FAST = """defaults
    retry_base = 20ms
    retry_cap = 200ms
    attempts = 3"""


def fill(broker, topic, count):
    publisher = Publisher(broker)
    publisher.publish([[topic, str(i), i] for i in range(count)])
    assert publisher.confirm()[2]["accepted"] == count
    return publisher


def test_credit_is_never_exceeded_and_acks_free_it(binaries):
    with Broker(binaries).start() as broker:
        fill(broker, "api", 30)
        worker = Worker(broker, ["api"], credit=7)
        first = worker.take(7)
        worker.none()
        worker.send(["ACK", [[first[0][0], first[3][0]]]])
        worker.take(4)
        worker.none()
        assert broker.topic("api")["leased"] == 7


def test_order_of_n_and_idle_workers_share(binaries):
    with Broker(binaries).start() as broker:
        one = Worker(broker, ["api"], credit=100)
        two = Worker(broker, ["api"], credit=100)
        fill(broker, "api", 40)
        got = one.take(1) + two.take(1)
        wait_for("all are here", lambda: (one.pump(0.01), two.pump(0.01)) and
                 len(one.pending) + len(two.pending) == 38)
        shares = sorted([1 + len(one.pending), 1 + len(two.pending)])
        assert sum(shares) == 40 and shares[0] >= 10, shares
        assert [e[2] for _, _, e in one.pending] == sorted(e[2] for _, _, e in one.pending)
        assert len(got) == 2


def test_nack_retries_with_history_then_dies(binaries):
    with Broker(binaries, FAST).start() as broker:
        fill(broker, "api", 1)
        worker = Worker(broker, ["api"], name="w")
        for attempt in (1, 2, 3):
            [delivery] = worker.take(1)
            assert delivery[1] == attempt
            if attempt > 1:
                errors = delivery[3]["errors"]
                assert [e[0] for e in errors] == [500] * (attempt - 1)
                assert errors[0][1] == "boom" and errors[0][2] == "trace" and errors[0][4] == "w"
            worker.send(["NACK", [delivery[0]], 500, "boom", {"trace": "trace"}])
        wait_for("it is dead", lambda: broker.topic("api")["dead"] == 1)
        wait_for("its letter is there", lambda: broker.admin(["DLQ.LIST", "api"])[1]["items"])
        letter = broker.admin(["DLQ.SHOW", "api", 1])[1]
        assert letter["reason"] == "attempts" and len(letter["errors"]) == 3
        broker.check_law()


def test_permanent_error_is_dead_at_once(binaries):
    with Broker(binaries, FAST).start() as broker:
        fill(broker, "api", 1)
        worker = Worker(broker, ["api"])
        [[tag, _, _]] = worker.take(1)
        worker.send(["NACK", [tag], "E_BAD", "never", {"dead": True, "seq": 1}])
        assert worker.receive("ACKED")[2]["done"] == 1
        wait_for("it is dead", lambda: broker.topic("api")["dead"] == 1)


def test_release_counts_no_attempt(binaries):
    with Broker(binaries, FAST).start() as broker:
        fill(broker, "api", 1)
        worker = Worker(broker, ["api"])
        other = Worker(broker, ["api"], credit=0)
        [[tag, _, _]] = worker.take(1)
        worker.send(["NACK", [tag], 0, "", {"release": True}])
        worker.none()
        other.send(["CREDIT", 1])
        [[_, attempt, _]] = other.take(1)
        assert attempt == 1 and broker.topic("api")["failed"] == 0


def test_lease_end_counts_and_late_ack_is_taken(binaries):
    topics = "slow\n    lease = 300ms\n    retry_base = 1h\n    retry_cap = 1h"
    with Broker(binaries, topics).start() as broker:
        fill(broker, "slow", 2)
        worker = Worker(broker, ["slow"], credit=2)
        [[first, _, _], [second, _, _]] = worker.take(2)
        assert worker.receive("EXPIRING")[0] == "EXPIRING"
        wait_for("the leases ran out", lambda: broker.topic("slow")["retrying"] == 2)
        worker.send(["ACK", [first], {"seq": 1}])
        assert worker.receive("ACKED")[2] == {"done": 1}
        assert broker.topic("slow")["done"] == 1 and broker.topic("slow")["failed"] == 2
        worker.send(["ACK", [first, 999999], {"seq": 2}])
        assert worker.receive("ACKED")[2] == {"done": 0, "stale": [first, 999999]}
        assert second
        broker.check_law()


def test_extend_keeps_the_lease(binaries):
    with Broker(binaries, "slow\n    lease = 2s").start() as broker:
        fill(broker, "slow", 1)
        worker = Worker(broker, ["slow"])
        [[tag, _, _]] = worker.take(1)
        worker.send(["EXTEND", [tag], 60000])
        worker.none(3)
        assert broker.topic("slow")["leased"] == 1
        worker.send(["ACK", [tag], {"seq": 1}])
        assert worker.receive("ACKED")[2] == {"done": 1}


def test_silent_worker_is_lost_and_its_events_go_on(binaries):
    with Broker(binaries, FAST).start() as broker:
        fill(broker, "api", 3)
        silent = Worker(broker, ["api"], credit=3, heartbeat=100)
        silent.take(3)
        worker = Worker(broker, ["api"])
        got = worker.take(3)
        assert all(d[1] == 2 and d[3]["errors"][0][0] == "WORKER_LOST" for d in got)


def test_session_comes_back_with_what_it_holds(binaries):
    with Broker(binaries).start() as broker:
        fill(broker, "api", 4)
        session = os.urandom(16)
        worker = Worker(broker, ["api"], credit=4, session=session)
        tags = [d[0] for d in worker.take(4)]
        worker.close()
        again = Worker(broker, ["api"], credit=4, session=session, held=tags[:2] + [77777])
        assert again.welcome[2]["stale"] == [77777]
        got = again.take(2)
        assert [d[1] for d in got] == [1, 1]
        again.send(["ACK", [[1, 1 << 40]], {"seq": 1}])
        assert again.receive("ACKED")[2] == {"done": 4}
        wait_for("all are done", lambda: broker.topic("api")["done"] == 4)


def test_another_workers_tags_are_stale(binaries):
    with Broker(binaries).start() as broker:
        fill(broker, "api", 1)
        owner = Worker(broker, ["api"])
        [[tag, _, _]] = owner.take(1)
        thief = Worker(broker, ["db"])
        thief.send(["ACK", [tag], {"seq": 9}])
        assert thief.receive("ACKED")[2] == {"done": 0, "stale": [tag]}
        assert broker.topic("api")["leased"] == 1


def test_ack_with_events_is_all_or_nothing(binaries):
    with Broker(binaries).start() as broker:
        fill(broker, "api", 2)
        worker = Worker(broker, ["api"])
        [[first, _, _], [second, _, _]] = worker.take(2)
        worker.send(["ACK", [first], {"seq": 1}], msgpack.packb(["nope", None, 1]))
        assert worker.receive("ACKED")[2]["refused"][0][1] == "UNKNOWN_TOPIC"
        assert broker.topic("api")["leased"] == 2
        worker.send(["ACK", [first, 4242], {"seq": 2}], msgpack.packb(["db", None, 1]))
        assert worker.receive("ACKED")[2]["stale"] == [4242]
        assert broker.topic("db")["accepted"] == 0
        worker.send(["ACK", [first, second], {"seq": 3}], msgpack.packb(["db", "e", 1]))
        assert worker.receive("ACKED")[2] == {"done": 2}
        assert broker.topic("db")["ready"] == 1 and broker.topic("api")["done"] == 2


def test_bye_gives_back_uncounted(binaries):
    with Broker(binaries).start() as broker:
        fill(broker, "api", 3)
        worker = Worker(broker, ["api"])
        worker.take(3)
        worker.send(["BYE"])
        other = Worker(broker, ["api"])
        assert [d[1] for d in other.take(3)] == [1, 1, 1]


def test_name_twice_gets_a_suffix(binaries):
    with Broker(binaries).start() as broker:
        names = {Worker(broker, ["api"], name="same").welcome[2]["name"] for _ in range(3)}
        assert names == {"same", "same-2", "same-3"}


def test_pause_resume_drain_purge_peek(binaries):
    with Broker(binaries).start() as broker:
        publisher = fill(broker, "api", 5)
        assert broker.admin(["PAUSE", "api"])[0] == "OK"
        worker = Worker(broker, ["api"], credit=2)
        worker.none()
        items = broker.admin(["PEEK", "api", 3])[1]["items"]
        assert [i[1] for i in items] == ["ready"] * 3
        broker.admin(["RESUME", "api"])
        worker.take(2)
        broker.admin(["DRAIN", "api"])
        publisher.publish([["api", "x", 1]])
        assert publisher.confirm()[2]["refused"][0][2] == "DRAINING"
        assert broker.admin(["PURGE", "api"]) == ["OK", {"purged": 3}]
        worker.send(["BYE"])
        wait_for("the leased ones went too", lambda: broker.topic("api")["purged"] == 5)
        broker.check_law()


def test_restart_brings_everything_back(binaries):
    with Broker(binaries, FAST.replace("20ms", "300s").replace("200ms", "300s")).start() as broker:
        publisher = fill(broker, "api", 5)
        publisher.publish([["api", "s", 9, {"delay": 3600000}]])
        publisher.confirm()
        worker = Worker(broker, ["api"], credit=3)
        tags = [d[0] for d in worker.take(3)]
        worker.send(["ACK", [tags[0]], {"seq": 1}])
        worker.send(["NACK", [tags[1]], 500, "no", {"seq": 2}])
        worker.receive("ACKED")
        worker.receive("ACKED")
        broker.admin(["PAUSE", "db"])
        broker.kill()
        broker.start()
        item = broker.topic("api")
        assert {k: item[k] for k in ("ready", "leased", "retrying", "scheduled", "done")} == {
            "ready": 3, "leased": 0, "retrying": 1, "scheduled": 1, "done": 1}
        assert broker.topic("db")["paused"]
        worker = Worker(broker, ["api"], credit=9)
        new = worker.take(3)
        assert min(d[0] for d in new) > max(tags)
        broker.check_law()


def test_purge_lasts_over_a_kill_with_what_it_spared(binaries):
    with Broker(binaries).start() as broker:
        publisher = fill(broker, "api", 5)
        worker = Worker(broker, ["api"], credit=2)
        worker.take(2)
        assert broker.admin(["PURGE", "api"]) == ["OK", {"purged": 3}]
        publisher.publish([["api", "later", "new"]])
        publisher.confirm()  # what is journaled before it is durable too
        broker.kill()
        broker.start()
        item = broker.topic("api")
        assert (item["ready"], item["leased"], item["purged"]) == (1, 0, 5), item
        worker = Worker(broker, ["api"], credit=9)
        assert worker.take(1)[0][2][2] == "new"
        worker.none()
        broker.check_law()


def test_stats_are_published_each_second(binaries):
    import zmq
    with Broker(binaries).start() as broker:
        sub = broker.socket(zmq.SUB, "stats")
        sub.subscribe(b"")
        worker = Worker(broker, ["api"], name="w")
        seen = {}
        wanted = {"stats.broker", "stats.ingress", "stats.retry", "stats.topic.api", "stats.worker.w"}
        while not wanted <= set(seen):
            assert sub.poll(30000), sorted(seen)
            subject, body = sub.recv_multipart()
            seen[subject.decode()] = msgpack.unpackb(body)
        assert seen["stats.topic.api"]["ready"] == 0 and seen["stats.worker.w"]["credit"] == 10
        worker.close()
