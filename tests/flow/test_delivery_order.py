"""Ordering keys, and sharing of a topic and of a worker. SPDX-License-Identifier: MIT"""
from delivery import accept, answer, ask, ends, fail, item, names, reason
from support import Broker, Worker, wait_for

SLOW = """defaults
    retry_base = 1h
    retry_cap = 1h
    retry_jitter = 0
    lease = 10s
    attempts = 2
block
    on_blocked = block
skip
    on_blocked = skip
park
    on_blocked = park
one
    order = topic"""


def keyed(topic, *pairs):
    """Events of the pairs (key, id)."""
    return [[topic, name, 1, {"key": key}] for key, name in pairs]


def test_one_event_of_a_key_is_in_flight(binaries):
    with Broker(binaries, SLOW).start() as broker:
        accept(broker, keyed("block", ("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3")))
        worker = Worker(broker, ["block"])
        got = worker.take(2)
        assert names(got) == ["a1", "b1"]
        worker.none()
        explained = item(broker, "a2")
        assert explained["reason"] == "key" and explained["state"] == "ready", explained
        answer(worker, [got[0][0]])
        [second] = worker.take(1)
        assert names([second]) == ["a2"]
        worker.send(["NACK", [second[0]], 0, "", {"release": True, "retry": 1}])
        assert names(worker.take(1)) == ["a2"]  # not a3: it goes back to its place
        worker.none()
        broker.check_law()


def test_a_str_and_a_bin_are_one_key(binaries):
    with Broker(binaries, SLOW).start() as broker:
        accept(broker, keyed("block", ("a", "a1"), (b"a", "a2")))
        worker = Worker(broker, ["block"])
        assert names(worker.take(1)) == ["a1"]
        worker.none()


def test_a_waiting_head_blocks_its_key_alone(binaries):
    with Broker(binaries, SLOW).start() as broker:
        accept(broker, keyed("block", ("a", "a1"), ("a", "a2"), ("b", "b1"), ("b", "b2")))
        worker = Worker(broker, ["block"])
        first, other = worker.take(2)
        fail(worker, first)
        answer(worker, [other[0]])
        assert ends(worker, 1) == ["b2"]
        worker.none()
        keys = ask(broker, "TOPIC.KEYS", "block")["items"]
        assert [(k["key"], k["state"], k["waiting"]) for k in keys] == [("a", "retrying", 1)], keys
        ask(broker, "EVENT.RUN", "a1")
        [again] = worker.take(1)
        assert names([again]) == ["a1"]
        fail(worker, again)  # dead: the key goes on
        assert ends(worker, 1) == ["a2"]
        broker.check_law()


def test_later_events_pass_a_waiting_head_where_they_may(binaries):
    with Broker(binaries, SLOW).start() as broker:
        accept(broker, keyed("skip", ("a", "a1"), ("a", "a2"), ("a", "a3")))
        worker = Worker(broker, ["skip"])
        fail(worker, worker.take(1)[0])
        got = worker.take(1)
        assert names(got) == ["a2"]
        worker.none()  # still one at a time
        answer(worker, [got[0][0]])
        assert ends(worker, 1) == ["a3"]
        assert broker.topic("skip")["retrying"] == 1


def test_a_parked_key_waits_for_an_operator(binaries):
    with Broker(binaries, SLOW).start() as broker:
        accept(broker, keyed("park", ("a", "a1"), ("a", "a2"), ("b", "b1")))
        worker = Worker(broker, ["park"])
        first, other = worker.take(2)
        fail(worker, first)
        answer(worker, [other[0]])
        wait_for("it is parked", lambda: broker.topic("park")["parked"])
        worker.none()
        assert reason(broker, "a1") == "parked"
        broker.kill()
        broker.start()
        worker = Worker(broker, ["park"])
        worker.none()
        assert broker.topic("park")["parked"] >= 1
        assert ask(broker, "TOPIC.UNPARK", "park", "a")["unparked"] >= 1
        assert ends(worker, 1) == ["a1"]
        assert ends(worker, 1) == ["a2"]
        broker.check_law()


def test_a_topic_can_be_one_key(binaries):
    with Broker(binaries, SLOW).start() as broker:
        accept(broker, [["one", str(i), i] for i in range(5)])
        workers = [Worker(broker, ["one"]) for _ in range(2)]
        for i in range(5):
            holder = wait_for("one has it", lambda: next(
                (w for w in workers if w.pump(0.01) is not None and w.pending), None))
            assert sum(len(w.pending) for w in workers) == 1
            assert ends(holder, 1) == [str(i)]


def test_order_of_a_key_outlasts_a_kill(binaries):
    with Broker(binaries, SLOW).start() as broker:
        accept(broker, keyed("block", *[("a", f"a{i}") for i in range(6)]))
        worker = Worker(broker, ["block"])
        assert ends(worker, 1) == ["a0"]
        fail(worker, worker.take(1)[0])
        broker.kill()
        broker.start()
        worker = Worker(broker, ["block"])
        worker.none()
        ask(broker, "EVENT.RUN", "a1")
        assert [ends(worker, 1)[0] for _ in range(5)] == [f"a{i}" for i in range(1, 6)]


def test_scheduled_events_join_their_key_when_due(binaries):
    with Broker(binaries, SLOW).start() as broker:
        accept(broker, [["block", "late", 1, {"key": "a", "delay": 3000}]]
               + keyed("block", ("a", "a1"), ("a", "a2")))
        worker = Worker(broker, ["block"])
        got = worker.take(1)
        assert names(got) == ["a1"]
        wait_for("it is due", lambda: broker.topic("block")["scheduled"] == 0)
        worker.none()
        answer(worker, [got[0][0]])
        assert sorted([ends(worker, 1)[0], ends(worker, 1)[0]]) == ["a2", "late"]


def test_users_share_a_topic_fairly(binaries):
    with Broker(binaries, "api\n    fair_by = user").start() as broker:
        accept(broker, [["api", f"loud{i}", 1, {"user": "loud"}] for i in range(300)]
               + [["api", f"{who}{i}", 1, {"user": who}] for i in range(10) for who in "bc"])
        worker = Worker(broker, ["api"], credit=1)
        got = [ends(worker, 1)[0] for _ in range(60)]
        assert sum(not name.startswith("loud") for name in got) == 20, got
        broker.check_law()


def test_a_worker_of_several_topics_is_served_by_weight(binaries):
    for weights in ((3, 1), (1, 3), (1, 1)):  # so that no place among the topics decides
        topics = "one\n    weight = %d\ntwo\n    weight = %d" % weights
        with Broker(binaries, topics).start() as broker:
            accept(broker, [[t, f"{t}{i}", 1] for i in range(200) for t in ("one", "two")])
            worker = Worker(broker, ["one", "two"], credit=1)
            got = [ends(worker, 1)[0] for _ in range(100)]
            share, wanted = sum(name.startswith("one") for name in got), 100 * weights[0] // sum(weights)
            assert wanted - 10 <= share <= wanted + 10, (weights, share)


def test_sharing_keeps_the_order_of_keys(binaries):
    with Broker(binaries, "api\n    fair_by = user").start() as broker:
        accept(broker, [["api", f"loud{i}", 1, {"user": "loud"}] for i in range(20)]
               + [["api", "first", 1, {"user": "loud", "key": "k"}],
                  ["api", "second", 1, {"user": "b", "key": "k"}],
                  ["api", "third", 1, {"user": "c", "key": "k"}]])
        worker = Worker(broker, ["api"], credit=1)
        got = [ends(worker, 1)[0] for _ in range(23)]
        assert [n for n in got if "loud" not in n] == ["first", "second", "third"], got
        broker.check_law()


def test_sharing_keeps_to_the_turns_of_a_large_backlog(binaries):
    with Broker(binaries, "api\n    fair_by = key").start() as broker:
        # More than are taken out of the backlog at once; "d" stands in it before and behind that.
        keys = ["a"] * 3000 + ["b"] * 3000 + ["d"] * 3000
        for at in range(0, len(keys), 3000):
            accept(broker, [["api", f"{k}{at + i}", 1, {"key": k}]
                            for i, k in enumerate(keys[at:at + 3000])])
        busy = Worker(broker, ["api"], credit=2)
        assert [n[0] for n in names(busy.take(2))] == ["a", "b"]
        worker = Worker(broker, ["api"], credit=1)
        assert ends(worker, 1) == ["d6000"]
        assert ends(worker, 1) == ["d6001"]
        assert ends(worker, 1) == ["d6002"]
