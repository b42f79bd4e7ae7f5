"""The worker db with SQLite: rows, repeats, locks, what can't be written. SPDX-License-Identifier: MIT"""
import json
import os
import random
import sys

import msgpack

from database import Db, Locker, TOPICS, file_of, letters, rows, url_of, wait_ended
from delivery import accept, ask, item, publish
from support import Broker, wait_for

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "rates"))

import db as rates  # noqa: E402

COLUMNS = "id, user_id=payload.user.id integer, name=payload.user.name text not null, at=time, whole=event"


def users(first, count):
    return [["db", f"e{i}", {"user": {"id": i, "name": f"n{i}"}}] for i in range(first, first + count)]


def test_events_become_rows_of_their_columns(binaries):
    with Broker(binaries, TOPICS).start() as broker, Db(broker, url_of(broker), "--columns", COLUMNS):
        accept(broker, [["db", "e1", {"user": {"id": 7, "name": "Ann"}},
                         {"time": 1700000000123, "type": "T", "key": "k"}]])
        wait_ended(broker, 1)
        [(name, number, who, at, whole)] = rows(broker)
        assert (name, number, who, at) == ("e1", 7, "Ann", "2023-11-14T22:13:20.123Z")
        whole = json.loads(whole)
        assert whole["payload"] == {"user": {"id": 7, "name": "Ann"}} and whole["key"] == "k", whole
        done = item(broker, "e1", "EVENT.SHOW")
        assert done["state"] == "done", done


def test_without_columns_the_whole_event_is_kept(binaries):
    with Broker(binaries, TOPICS).start() as broker, Db(broker, url_of(broker)):
        accept(broker, [["db", "e1", {"a": [1, None, {"b": b"\0"}]}, {"type": "T", "headers": {"h": 1}}]])
        wait_ended(broker, 1)
        [(name, topic, kind, event)] = rows(broker, "SELECT id, topic, type, event FROM events")
        assert (name, topic, kind) == ("e1", "db", "T")
        event = json.loads(event)
        assert event["payload"] == {"a": [1, None, {"b": {"$bin": "AA=="}}]} and event["headers"] == {"h": 1}


def test_bad_rows_become_dead_letters_and_the_rest_is_there(binaries):
    with Broker(binaries, TOPICS).start() as broker:
        bad = [["db", "nameless", {"user": {"id": 1}}], ["db", "wordy", {"user": {"id": "x", "name": "a"}}],
               ["db", "large", {"user": {"id": 2**64 - 1, "name": "a"}}],
               ["db", "nul", {"user": {"id": 1, "name": "a\0b"}}],
               ["db", "real", {"user": {"id": 1.5, "name": "a"}}],
               ["db", "binary", {"user": {"id": b"12", "name": "a"}}],
               ["db", "nested", {"user": {"id": [1], "name": "a"}}]]
        events = users(0, 300) + bad
        random.Random(5).shuffle(events)
        accept(broker, events)  # before the worker comes: they share a transaction
        with Db(broker, url_of(broker), "--columns", COLUMNS):
            wait_ended(broker, len(events))
        assert {n for [n] in rows(broker, "SELECT id FROM events")} == {e[1] for e in users(0, 300)}
        assert [(300,)] == rows(broker, "SELECT count(*) FROM events")
        found = letters(broker)
        assert set(found) == {e[1] for e in bad}, found
        assert found["nameless"][0] == "CONSTRAINT" and "NOT NULL" in found["nameless"][1], found
        assert all(found[e[1]][0] == "TYPE" for e in bad[1:]), found
        assert "user_id" in found["wordy"][1] and "NUL" in found["nul"][1], found
        assert item(broker, "wordy", "EVENT.SHOW")["attempts"] == 1  # permanent: never again


def test_a_repeat_has_no_effect_and_an_id_used_anew_has(binaries):
    topics = TOPICS + "\n    dedupe = 50ms\nother"
    with Broker(binaries, topics).start() as broker:
        with Db(broker, url_of(broker), "--topic", "other"):
            accept(broker, [["db", "x", {"a": 1}], ["other", "x", {"a": 1}]])
            wait_ended(broker, 1)
            wait_for("the window is over", lambda: publish(broker, [["db", "x", {"a": 1}]])["accepted"])
            wait_for("the window is over", lambda: publish(broker, [["db", "x", {"a": 2}]])["accepted"])
            wait_ended(broker, 3)
            wait_ended(broker, 1, "other")
        found = rows(broker, "SELECT topic, event FROM events ORDER BY rowid")
        found = sorted((t, json.loads(e)["payload"]["a"]) for t, e in found)
        assert found == [("db", 1), ("db", 2), ("other", 1)], found


def test_a_replayed_letter_is_written_once_it_can_be(binaries):
    with Broker(binaries, TOPICS).start() as broker:
        with Db(broker, url_of(broker), "--columns", "id=id text primary key, a=payload.a integer"):
            accept(broker, [["db", "x", {"a": 1}]])
            wait_ended(broker, 1)
            rows(broker, "UPDATE events SET id = 'y'")
            accept(broker, [["db", "y", {"a": 2}]])
            wait_ended(broker, 2)
            assert letters(broker)["y"][0] == "CONSTRAINT"
            rows(broker, "DELETE FROM events")
            assert ask(broker, "DLQ.REPLAY", "db", {"all": True})["replayed"] == 1
            wait_for("it is done", lambda: broker.topic("db")["done"] == 2)
        assert rows(broker) == [("y", 2)]


def test_nothing_is_lost_or_twice_when_workers_are_killed(binaries):
    count = 30000
    dice = random.Random(11)
    with Broker(binaries, TOPICS + "\n    attempts = 100\n    capacity = 100000").start() as broker:
        workers = [Db(broker, url_of(broker), "--batch", "100") for _ in range(2)]
        try:
            for first in range(0, count, 1000):
                accept(broker, [["db", f"e{i}", i] for i in range(first, first + 1000)])
                at = dice.randrange(2)
                if dice.random() < 0.4:
                    workers[at].kill()
                    workers[at] = Db(broker, url_of(broker), "--batch", "100")
            wait_ended(broker, count, seconds=120)
            for worker in workers:
                worker.stop()
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.wait()
        assert broker.topic("db")["dead"] == 0, letters(broker)
        assert rows(broker, "SELECT count(*), count(DISTINCT id) FROM events") == [(count, count)]
        broker.check_law()


def test_a_lock_of_another_process_is_waited_for_and_told(binaries):
    with Broker(binaries, TOPICS + "\n    attempts = 1000").start() as broker:
        with Db(broker, url_of(broker), "--statement-timeout", "500ms") as worker:
            accept(broker, [["db", "first", 0]])
            wait_ended(broker, 1)
            with Locker(file_of(broker)):
                accept(broker, [["db", f"e{i}", i] for i in range(50)])
                wait_for("attempts fail", lambda: broker.topic("db")["failed"] > 50)
                worker.wait_well()  # it answers all the while
                history = wait_for("e7 was tried", lambda: item(broker, "e7", "EVENT.SHOW")["history"])
                assert history[0][0] == "LOCKED", history
            wait_ended(broker, 51)
        assert rows(broker, "SELECT count(*), count(DISTINCT id) FROM events") == [(51, 51)]


def test_an_event_whose_time_is_over_ends_its_wait(binaries):
    topics = TOPICS + "\n    attempts = 1"
    with Broker(binaries, topics).start() as broker:
        words = ("--statement-timeout", "10m", "--timeout", "4s")
        with Db(broker, url_of(broker), *words) as worker:
            accept(broker, [["db", "first", 0]])
            wait_for("the first is done", lambda: broker.topic("db")["done"] == 1)
            with Locker(file_of(broker)):
                accept(broker, [["db", "late", 1]])
                wait_for("it timed out", lambda: broker.topic("db")["dead"] == 1)
                assert wait_for("its letter", lambda: letters(broker))["late"][0] == "TIMEOUT"
                accept(broker, [["db", "cancelled", 2]])
            wait_for("what came then ends", lambda: worker.seen()["in_flight"] == 0)


def test_term_finishes_what_is_in_hand_and_a_second_one_gives_it_back(binaries):
    with Broker(binaries, TOPICS).start() as broker:
        worker = Db(broker, url_of(broker), "--statement-timeout", "10m")
        accept(broker, [["db", "first", 0]])
        wait_ended(broker, 1)
        with Locker(file_of(broker)) as locker:
            accept(broker, [["db", f"e{i}", i] for i in range(20)])
            worker.wait_in_hand(20)
            worker.process.terminate()
            wait_for("it takes no more", lambda: worker.seen()["draining"] or not worker.seen()["credit"])
            locker.release()
            assert worker.process.wait(timeout=60) == 0, worker.logged()
        assert broker.topic("db")["done"] == 21, broker.topic("db")
        worker = Db(broker, url_of(broker), "--statement-timeout", "10m", "--grace", "5m")
        worker.wait_well()
        with Locker(file_of(broker)):
            accept(broker, [["db", f"f{i}", i] for i in range(20)])
            worker.wait_in_hand(20)
            worker.process.terminate()
            wait_for("it takes no more", lambda: worker.seen()["draining"] or not worker.seen()["credit"])
            worker.stop()  # the second one
        wait_for("they are back", lambda: broker.topic("db")["ready"] == 20)
        assert broker.topic("db")["failed"] == 0
        with Db(broker, url_of(broker)):
            wait_ended(broker, 41)
        assert rows(broker, "SELECT count(*), count(DISTINCT id) FROM events") == [(41, 41)]


def test_a_table_that_is_missing_makes_it_unwell_until_it_is_there(binaries):
    with Broker(binaries, TOPICS).start() as broker:
        rows(broker, "CREATE TABLE wrong (a)")
        with Db(broker, url_of(broker), "--create", "0", "--columns", "id", "--unique", "id") as worker:
            worker.wait_unwell("events")
            accept(broker, [["db", "x", 1]])
            rows(broker, "CREATE TABLE events (id text UNIQUE)")
            worker.wait_well()
            wait_ended(broker, 1)
        assert rows(broker) == [("x",)] and item(broker, "x", "EVENT.SHOW")["state"] == "done"
        assert broker.topic("db")["failed"] == 0  # never taken while it couldn't be written


def test_every_processed_event_is_kept_with_its_result_and_history(binaries):
    topics = ("defaults\n    retry_base = 20ms\n    retry_jitter = 0\n    attempts = 2\n"
              "email\n    on_done = db\n    on_dead = db\napi\n    on_done = db\ndb")
    command = ("read -r line; case $line in *bad*) echo no >&2; exit 70;; esac; echo '{\"sent\": 1}'")
    with Broker(binaries, topics).start() as broker, Db(broker, url_of(broker)):
        workers = [broker.worker_process("--result", "--", "sh", "-c", command, topic=t)
                   for t in ("email", "api")]
        try:
            accept(broker, [["email", "x", {"to": "ann"}, {"type": "MAIL", "time": 1700000000000}],
                            ["api", "x", {"to": "ann"}], ["email", "bad", {"to": "bad"}]])
            wait_ended(broker, 3)
        finally:
            for worker in workers:
                worker.terminate()
                worker.wait()
        found = rows(broker, "SELECT topic, n, id, type, state, reason, attempts, worker, errors, result, "
                             "event FROM events ORDER BY topic, n")
        assert [r[:7] for r in found] == [("api", 1, "x", None, "done", None, 0),
                                          ("email", 1, "x", "MAIL", "done", None, 0),
                                          ("email", 2, "bad", None, "dead", "attempts", 2)], found
        assert all(r[7] for r in found), found
        assert json.loads(found[1][9]) == {"sent": 1} and found[2][9] is None, found
        assert [e[:2] for e in json.loads(found[2][8])] == [[70, "no"]] * 2, found[2][8]
        event = json.loads(found[2][10])
        assert event["topic"] == "email" and event["payload"] == {"to": "bad"}, event
        assert len(event["error"]) == 2 and "ended" not in event, event


def test_old_lines_of_the_ledger_go(binaries):
    with Broker(binaries, TOPICS).start() as broker:
        with Db(broker, url_of(broker), "--remember", "1s"):
            accept(broker, [["db", "x", 1]])
            wait_ended(broker, 1)
            wait_for("the ledger is empty",
                     lambda: rows(broker, "SELECT count(*) FROM eventflow_done") == [(0,)], 40)
        assert len(rows(broker)) == 1


def test_settings_that_cannot_work_are_told(binaries):
    with Broker(binaries, TOPICS).start() as broker:
        for words, expected in ((("--url", "mysql://x"), "url: expected sqlite:FILE"),
                                (("--columns", "a=payloud.b"), "columns: payloud.b"),
                                (("--table", "a.b.c"), "SCHEMA.TABLE"),
                                (("--unique", "nope"), "unique: nope"),
                                (("--url", "postgresql://h?nothing=1"), "nothing")):
            worker = Db(broker, url_of(broker), *words)
            assert worker.process.wait(timeout=60) == 2, words
            assert expected in worker.logged(), (words, worker.logged())


def test_the_answers_name_the_downstream(binaries):
    with Broker(binaries, TOPICS + "\n    breaker = 50%\n    breaker_calls = 5").start() as broker:
        with Db(broker, url_of(broker)):
            accept(broker, [["db", str(i), i] for i in range(10)])
            wait_ended(broker, 10)
            found = [b["downstream"] for b in ask(broker, "TOPIC.INFO", "db")["breakers"]]
            assert url_of(broker)[:200] in found, found


def test_any_bytes_as_payload_end_somehow(binaries):
    dice = random.Random(3)
    odd = [float("nan"), float("inf"), b"\xff\0", "\0", 2**63, -2**63, {1: 2}, {"$bin": 1}, [[[]]], "",
           msgpack.ExtType(5, b"x"), {"a" * 200: None}, "é" * 50, None, True]
    with Broker(binaries, TOPICS).start() as broker:
        events = [["db", f"e{i}", {"a": dice.choice(odd), "b": dice.choice(odd)}] for i in range(300)]
        accept(broker, events)
        with Db(broker, url_of(broker), "--columns",
                "id, a=payload.a text, b=payload.b blob, c=payload.b json, d=event") as worker:
            wait_ended(broker, 300)
            assert worker.process.poll() is None
        assert len(rows(broker)) == broker.topic("db")["done"] > 50
        assert all(code == "TYPE" for code, _ in letters(broker).values()), letters(broker)


def test_rows_come_at_a_rate(binaries):
    import tempfile
    with tempfile.TemporaryDirectory(prefix="ef-rates-") as directory:
        found = rates.sqlite_rate(binaries, 20000, directory)
    assert found["rows_per_s"] > 1000, found  # tests/rates/db.py has the real bound
