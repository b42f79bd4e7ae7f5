"""Routes, schemas, dedupe, what is stored all or none. SPDX-License-Identifier: MIT"""
import time

import msgpack

from delivery import accept, answer, ask, ends, fail, names, publish
from support import Broker, Publisher, Worker, wait_for

ROUTES = """signup
    type = "USER_SIGNUP"
    to = "email, db"
users
    type = "user.*"
    to = "api"
shop
    header = "source=shop*"
    header = "kind=?"
    to = "stock"
exact
    type = "user.never"
    to = "db\""""
TOPICS = "stock\nlast"


def counts(broker, *topics):
    return [broker.topic(t)["accepted"] for t in topics]


def test_the_first_route_that_fits_is_taken(binaries):
    with Broker(binaries, TOPICS, routes=ROUTES).start() as broker:
        outcome = publish(broker, [[None, "1", 1, {"type": "USER_SIGNUP"}],
                                   [None, "2", 1, {"type": "user.changed"}],
                                   [None, "3", 1, {"type": "user.never"}],
                                   [None, "4", 1, {"headers": {"source": "shop.7", "kind": "a"}}],
                                   [None, "5", 1, {"headers": {"source": "shop.7", "kind": "ab"}}],
                                   [None, "6", 1, {"type": "USER_SIGNUPS"}],
                                   [None, "7", 1]])
        assert outcome["accepted"] == 4, outcome  # a routed event counts once
        assert [r[1:3] for r in outcome["refused"]] == [[[4, 6], "UNROUTED"]], outcome
        assert counts(broker, "email", "db", "api", "stock") == [1, 1, 2, 1]
        worker = Worker(broker, ["email", "db"])
        got = worker.take(2)
        assert sorted(d[2][0] for d in got) == ["db", "email"] and names(got) == ["1", "1"]
        broker.check_law()


def test_a_route_without_conditions_catches_the_rest(binaries):
    routes = ROUTES + "\nrest\n    to = last"
    with Broker(binaries, TOPICS, routes=routes).start() as broker:
        accept(broker, [[None, "1", 1, {"type": "USER_SIGNUP"}], [None, "2", 1]])
        assert counts(broker, "email", "db", "last") == [1, 1, 1]


def test_copies_of_an_event_without_an_id_share_one(binaries):
    with Broker(binaries, TOPICS, routes=ROUTES).start() as broker:
        publisher = Publisher(broker)
        publisher.publish([[None, None, 1, {"type": "USER_SIGNUP"}]])
        [[_, _, assigned]] = publisher.confirm()[2]["ids"]
        worker = Worker(broker, ["email", "db"])
        assert names(worker.take(2)) == [assigned, assigned]


def test_routed_events_are_known_by_their_ids(binaries):
    with Broker(binaries, TOPICS, routes=ROUTES).start() as broker:
        accept(broker, [["email", "1", 1]])
        event = [None, "1", 1, {"type": "USER_SIGNUP"}]
        outcome = publish(broker, [event])
        assert (outcome["accepted"], outcome["duplicates"]) == (1, 0), outcome  # new in db
        outcome = publish(broker, [event])
        assert (outcome["accepted"], outcome["duplicates"]) == (0, 1), outcome
        assert counts(broker, "email", "db") == [1, 1]


def test_a_copy_that_is_refused_refuses_the_others(binaries):
    topics = "email\n    schemas = \"1\"\n" + TOPICS
    with Broker(binaries, topics, routes=ROUTES).start() as broker:
        outcome = publish(broker, [[None, "1", 1, {"type": "USER_SIGNUP", "schema": 2}]])
        assert outcome["refused"][0][2] == "SCHEMA", outcome
        assert counts(broker, "email", "db") == [0, 0]


def test_schemas_are_refused_with_what_would_be_accepted(binaries):
    with Broker(binaries, "api\n    schemas = \"1, 3\"").start() as broker:
        outcome = publish(broker, [["api", "a", 1, {"schema": 1}], ["api", "b", 1, {"schema": 2}],
                                   ["api", "c", 1, {"schema": 3}], ["api", "d", 1]])
        refused = {r[1] if isinstance(r[1], int) else tuple(r[1]): r[2:]
                   for r in outcome["refused"]}
        assert 1 in refused and refused[1][0] == "SCHEMA", outcome
        assert "1" in refused[1][1] and "3" in refused[1][1], outcome
        worker = Worker(broker, ["api"])
        assert ends(worker, 2) == ["a", "c"]


def test_an_id_is_accepted_once_in_its_window(binaries):
    with Broker(binaries, "api\n    dedupe = 700ms\nfew\n    dedupe_count = 3").start() as broker:
        start = time.monotonic()
        outcome = publish(broker, [["api", "x", 1], ["api", b"x", 2], ["db", "x", 3],
                                   ["api", None, 4], ["api", None, 4]])
        assert (outcome["accepted"], outcome["duplicates"]) == (4, 1), outcome  # one id, other topics
        worker = Worker(broker, ["api"])
        assert len(ends(worker, 3)) == 3
        if time.monotonic() - start < 0.6:
            outcome = publish(broker, [["api", "x", 1]])  # done and still known
            assert outcome["duplicates"] == 1 or time.monotonic() - start > 0.7, outcome
        wait_for("it is forgotten", lambda: publish(broker, [["api", "x", 1]])["accepted"] == 1)
        assert time.monotonic() - start > 0.69
        accept(broker, [["few", str(i), i] for i in range(4)])
        outcome = publish(broker, [["few", "0", 0], ["few", "3", 0]])
        assert (outcome["accepted"], outcome["duplicates"]) == (1, 1), outcome
        broker.check_law()


def test_replay_and_refused_events_go_past_the_window(binaries):
    topics = "api\n    attempts = 1\n    schemas = 1"
    with Broker(binaries, topics).start() as broker:
        assert publish(broker, [["api", "x", 1, {"schema": 2}]])["refused"][0][2] == "SCHEMA"
        accept(broker, [["api", "x", 1, {"schema": 1}]])
        worker = Worker(broker, ["api"])
        fail(worker, worker.take(1)[0])
        wait_for("its letter is there", lambda: broker.admin(["DLQ.LIST", "api"])[1]["items"])
        assert ask(broker, "DLQ.REPLAY", "api", {"all": True})["replayed"] == 1
        assert ends(worker, 1) == ["x"]


def test_an_atomic_publish_is_all_or_nothing_over_topics(binaries):
    topics = "strict\n    capacity = 2\n    on_full = refuse\nplain\n    schemas = \"1\""
    with Broker(binaries, topics).start() as broker:
        for wrong in (["nope", "n", 1], ["plain", "n", 1, {"schema": 9}]):
            outcome = publish(broker, [["api", "a", 1], ["db", "a", 1], wrong], atomic=True)
            assert outcome["accepted"] == 0 and outcome["refused"], outcome
        outcome = publish(broker, [["api", "a", 1]] + [["strict", str(i), 1] for i in range(3)],
                          atomic=True)
        assert outcome["accepted"] == 0 and outcome["refused"][0][2] == "FULL", outcome
        assert counts(broker, "api", "db", "strict") == [0, 0, 0]
        outcome = publish(broker, [["api", "a", 1], ["db", "a", 1]], atomic=True)
        assert outcome["accepted"] == 2, outcome
        outcome = publish(broker, [["api", "a", 1], ["db", "b", 1]], atomic=True)
        assert (outcome["accepted"], outcome["duplicates"]) == (1, 1), outcome  # counts as success


def test_what_is_done_or_dead_is_copied(binaries):
    topics = """orders
    on_done = finished
    on_dead = buried
    attempts = 1
finished
buried
undone"""
    with Broker(binaries, topics).start() as broker:
        accept(broker, [["orders", "good", 1, {"headers": {"h": 1}}],
                        ["orders", "bad", 2, {"on_dead": ["undone", "comp", [3]]}]])
        worker = Worker(broker, ["orders"])
        good, bad = worker.take(2)
        assert answer(worker, [good[0]], result={"sum": 4}) == {"done": 1}
        fail(worker, bad, "E_NO")
        wait_for("it is dead", lambda: broker.topic("orders")["dead"] == 1)
        heir = Worker(broker, ["finished", "buried", "undone"])
        got = {d[2][0]: d[2] for d in heir.take(3)}
        assert got["finished"][1:3] == ["good", 1] and got["buried"][1:3] == ["bad", 2], got
        assert got["finished"][3]["headers"]["h"] == 1 and "4" in str(got["finished"][3]), got
        assert "E_NO" in str(got["buried"][3]), got
        assert got["undone"][1:3] == ["comp", [3]], got
        heir.none()
        broker.check_law()


def test_emitted_events_may_be_routed(binaries):
    with Broker(binaries, TOPICS, routes=ROUTES).start() as broker:
        accept(broker, [["stock", "s", 1]])
        worker = Worker(broker, ["stock"])
        [[tag, _, _]] = worker.take(1)
        worker.send(["ACK", [tag], {"seq": 1}], msgpack.packb([None, "e", 1, {"type": "nobody's"}]))
        assert worker.receive("ACKED")[2]["refused"][0][1] == "UNROUTED"
        worker.send(["ACK", [tag], {"seq": 2}],
                    msgpack.packb([None, "e", 1, {"type": "USER_SIGNUP"}]))
        assert worker.receive("ACKED")[2] == {"done": 1}
        assert counts(broker, "email", "db") == [1, 1]
