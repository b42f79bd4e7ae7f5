"""The worker db with a real PostgreSQL: killed, restarted, locked, deadlocked, cut off; rows exactly once.
SPDX-License-Identifier: MIT"""
import json
import os
import random
import signal
import sys
import threading

from database import Db, TOPICS, letters, server, wait_ended
from delivery import accept, ask, item, publish
from postgres import Postgres
from proxy import Proxy
from support import Broker, wait_for

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "rates"))

import db as rates  # noqa: E402

PATIENT = TOPICS + "\n    attempts = 1000\n    capacity = 100000"


def count_is(pg, database, count):
    found = pg.rows("SELECT count(*), count(DISTINCT id) FROM events", database)
    assert found == [(str(count), str(count))], found


def test_pg_values_come_back_as_they_were(binaries):
    pg = server()
    columns = ("id=id text primary key, n=payload.n bigint, price=payload.price numeric(10,2), ok=payload.ok "
               "boolean, at=time timestamptz, raw=payload.raw bytea, doc=payload.doc jsonb, word=payload.word, "
               "real=payload.real double precision, tags=payload.doc.tags json, whole=event")
    with Broker(binaries, TOPICS).start() as broker:
        with Db(broker, pg.create("values"), "--columns", columns):
            accept(broker, [
                ["db", "a", {"n": -2**63, "price": "1.239", "ok": True, "raw": b"\0\xff", "word": "it's \\ \"é\"",
                             "doc": {"tags": ["x", 1, None], "nul": "a\0b"}, "real": float("nan")},
                 {"time": 1700000000123}],
                ["db", "b", {"n": "12", "price": 5, "ok": "off", "raw": "text", "word": 5, "doc": "s",
                             "real": float("-inf")}],
                ["db", "c", {}]])
            wait_ended(broker, 3)
            assert letters(broker) == {}, letters(broker)
        got = json.loads(pg.sql("SELECT json_agg(e ORDER BY id) FROM events e", "values"))
        a, b, c = got
        assert (a["n"], a["price"], a["ok"], a["raw"], a["word"]) == (-2**63, 1.24, True, "\\x00ff",
                                                                      "it's \\ \"é\""), a
        assert a["doc"] == {"tags": ["x", 1, None], "nul": {"$str": "YQBi"}} and a["tags"] == ["x", 1, None], a
        assert a["real"] == "NaN" and b["real"] == "-Infinity", got
        assert pg.sql("SELECT extract(epoch FROM at) * 1000 FROM events WHERE id = 'a'",
                      "values").startswith("1700000000123")
        assert (b["n"], b["price"], b["ok"], b["raw"], b["word"], b["doc"]) == (12, 5, False, "\\x74657874", "5",
                                                                                "s"), b
        assert all(c[k] is None for k in c if k not in ("id", "at", "whole")), c


def test_pg_bad_rows_become_dead_letters_and_the_rest_is_there(binaries):
    pg = server()
    columns = "id=id text primary key, n=payload.n integer, name=payload.name varchar(5) not null, u=payload.u uuid"
    bad = {"worded": ("TYPE", {"n": "x", "name": "a"}), "large": ("TYPE", {"n": 2**40, "name": "a"}),
           "larger": ("TYPE", {"n": 2**64 - 1, "name": "a"}), "part": ("TYPE", {"n": 1.5, "name": "a"}),
           "nameless": ("CONSTRAINT", {"n": 1}), "long": ("TYPE", {"n": 1, "name": "abcdef"}),
           "nul": ("TYPE", {"n": 1, "name": "a\0"}), "uuid": ("TYPE", {"n": 1, "name": "a", "u": "x"}),
           "nested": ("TYPE", {"n": {"a": 1}, "name": "a"}), "checked": ("CONSTRAINT", {"n": 13, "name": "a"}),
           "raised": ("CONSTRAINT", {"n": 14, "name": "a"})}
    url = pg.create("bad")
    pg.sql("CREATE TABLE events (id text primary key, n integer CHECK (n <> 13), name varchar(5) NOT NULL, u uuid); "
           "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
           "$$ BEGIN IF NEW.n = 14 THEN RAISE EXCEPTION 'not fourteen'; END IF; RETURN NEW; END $$; "
           "CREATE TRIGGER no BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION no()", "bad")
    with Broker(binaries, TOPICS).start() as broker:
        events = [["db", f"e{i}", {"n": i + 100, "name": "a"}] for i in range(300)]
        events += [["db", name, payload] for name, (_, payload) in bad.items()]
        random.Random(7).shuffle(events)
        accept(broker, events)  # before the worker comes: they share a transaction
        with Db(broker, url, "--columns", columns):
            wait_ended(broker, len(events))
        found = letters(broker)
        assert {name: code for name, (code, _) in found.items()} == {n: c for n, (c, _) in bad.items()}, found
        assert found["nameless"][1].startswith("23502") and found["worded"][1].startswith("22P02"), found
        assert "not fourteen" in found["raised"][1], found
        count_is(pg, "bad", 300)
        assert pg.sql("SELECT count(*) FROM eventflow_done", "bad") == "300"


def test_pg_constraints_that_wait_for_the_commit_are_seen_too(binaries):
    pg = server()
    url = pg.create("deferred")
    pg.sql("CREATE TABLE users (id int primary key); INSERT INTO users VALUES (1); "
           "CREATE TABLE events (id text, u int REFERENCES users DEFERRABLE INITIALLY DEFERRED)", "deferred")
    with Broker(binaries, TOPICS).start() as broker:
        accept(broker, [["db", f"e{i}", {"u": 1 if i != 30 else 2}] for i in range(50)])
        with Db(broker, url, "--columns", "id, u=payload.u"):
            wait_ended(broker, 50)
        assert letters(broker)["e30"][0] == "CONSTRAINT", letters(broker)
        count_is(pg, "deferred", 49)


def test_pg_a_repeat_has_no_effect(binaries):
    pg = server()
    with Broker(binaries, TOPICS + "\n    dedupe = 50ms").start() as broker:
        with Db(broker, pg.create("repeat")):
            accept(broker, [["db", "x", {"a": 1}]])
            wait_ended(broker, 1)
            for payload in ({"a": 1}, {"a": 2}):
                wait_for("the window is over", lambda: publish(broker, [["db", "x", payload]])["accepted"])
            wait_ended(broker, 3)
        found = pg.sql("SELECT string_agg(event->'payload'->>'a', ' ' ORDER BY 1) FROM events", "repeat")
        assert found == "1 2" and broker.topic("db")["dead"] == 0, found


def test_pg_a_unique_column_knows_repeats_without_a_ledger(binaries):
    pg = server()
    with Broker(binaries, TOPICS + "\n    dedupe = 50ms").start() as broker:
        with Db(broker, pg.create("unique"), "--columns", "id, a=payload.a", "--unique", "id"):
            accept(broker, [["db", str(i), {"a": 1}] for i in range(100)])
            wait_ended(broker, 100)
            wait_for("the window is over", lambda: publish(broker, [["db", "5", {"a": 2}]])["accepted"])
            wait_ended(broker, 101)
        count_is(pg, "unique", 100)
        assert pg.sql("SELECT to_regclass('eventflow_done') IS NULL", "unique") == "t"


def run_load(broker, count, between):
    """Publishes so many in parts and does something between them."""
    part = min(500, count // 10)
    for first in range(0, count, part):
        accept(broker, [["db", f"e{i}", {"i": i}] for i in range(first, first + part)])
        between(first)


def test_pg_killed_and_restarted_in_the_middle_has_every_row_once(binaries):
    count = 10000
    dice = random.Random(13)
    with Postgres() as pg, Broker(binaries, PATIENT).start() as broker:
        workers = [Db(broker, pg.url(), "--batch", "200", "--connect-timeout", "2s") for _ in range(2)]
        try:
            def hurt(first):
                what = dice.random()
                if first % 2500 != 0 or first == 0:
                    return
                if what < 0.4:
                    pg.kill()
                elif what < 0.7:
                    pg.stop(signal.SIGQUIT)
                else:
                    pg.stop(signal.SIGINT)
                pg.start()
            run_load(broker, count, hurt)
            wait_ended(broker, count, seconds=180)
            for worker in workers:
                worker.stop()
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.wait()
        assert broker.topic("db")["dead"] == 0, letters(broker)
        count_is(pg, "postgres", count)
        broker.check_law()


def test_pg_a_short_restart_costs_no_attempt_and_a_long_one_is_told(binaries):
    with Postgres() as pg, Broker(binaries, TOPICS).start() as broker:
        with Db(broker, pg.url(), "--connect-timeout", "20s", "--probe", "200ms") as worker:
            accept(broker, [["db", "first", 1]])
            wait_ended(broker, 1)
            pg.kill()
            accept(broker, [["db", f"e{i}", i] for i in range(10)])
            pg.start()
            wait_ended(broker, 11)
            assert broker.topic("db")["failed"] == 0
        with Db(broker, pg.url(), "--connect-timeout", "300ms", "--probe", "200ms") as worker:
            worker.wait_well()
            pg.stop()
            worker.wait_unwell("CONNECT")
            accept(broker, [["db", f"f{i}", i] for i in range(10)])
            pg.start()
            worker.wait_well()
            wait_ended(broker, 21)
            assert broker.topic("db")["dead"] == 0
        count_is(pg, "postgres", 21)


def test_pg_workers_killed_in_the_middle_leave_every_row_once(binaries):
    pg = server()
    count = 15000
    dice = random.Random(17)
    url = pg.create("killed")
    with Broker(binaries, PATIENT).start() as broker:
        workers = [Db(broker, url, "--batch", "150") for _ in range(2)]
        try:
            def hurt(_):
                at = dice.randrange(2)
                if dice.random() < 0.4:
                    workers[at].kill()
                    workers[at] = Db(broker, url, "--batch", "150")
            run_load(broker, count, hurt)
            wait_ended(broker, count, seconds=180)
            for worker in workers:
                worker.stop()
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.wait()
        assert broker.topic("db")["dead"] == 0, letters(broker)
        count_is(pg, "killed", count)


def test_pg_a_deadlock_is_tried_again_and_costs_nothing(binaries):
    pg = server()
    url = pg.create("deadlock")
    pg.sql("CREATE TABLE events (id text primary key)", "deadlock")
    with Broker(binaries, TOPICS).start() as broker, pg.session("deadlock") as other:
        other.run("SET deadlock_timeout = '1h'")  # so that it is the worker that is chosen
        other.run("BEGIN")
        other.run("INSERT INTO events VALUES ('b')")
        with Db(broker, url, "--columns", "id"):
            accept(broker, [["db", "a", 1], ["db", "b", 2]])
            wait_for("the worker waits for b", lambda: pg.sql(
                "SELECT count(*) FROM pg_locks WHERE NOT granted", "deadlock") == "1")
            other.send("INSERT INTO events VALUES ('a')")
            wait_for("a deadlock was seen", lambda: pg.sql(
                "SELECT deadlocks FROM pg_stat_database WHERE datname = 'deadlock'") == "1", 40)
            other.run("ROLLBACK")
            wait_ended(broker, 2)
        assert broker.topic("db")["failed"] == 0 and broker.topic("db")["done"] == 2
        count_is(pg, "deadlock", 2)


def test_pg_a_lock_is_waited_for_and_told(binaries):
    pg = server()
    url = pg.create("locked")
    with Broker(binaries, TOPICS + "\n    attempts = 1000").start() as broker:
        with Db(broker, url, "--columns", "id", "--statement-timeout", "300ms") as worker:
            accept(broker, [["db", "first", 1]])
            wait_ended(broker, 1)
            with pg.session("locked") as other:
                other.run("BEGIN")
                other.run("LOCK TABLE events")
                accept(broker, [["db", f"e{i}", i] for i in range(20)])
                wait_for("attempts fail", lambda: broker.topic("db")["failed"] >= 20)
                history = wait_for("e3 was tried", lambda: item(broker, "e3", "EVENT.SHOW")["history"])
                assert history[0][0] == "LOCKED", history
                worker.wait_well()
            wait_ended(broker, 21)
        count_is(pg, "locked", 21)


def test_pg_an_event_whose_time_is_over_ends_its_statement(binaries):
    pg = server()
    url = pg.create("late")
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with Broker(binaries, TOPICS + "\n    attempts = 1").start() as broker:
        with Db(broker, url, "--columns", "id", "--statement-timeout", "10m", "--timeout", "4s") as worker:
            worker.wait_well()
            accept(broker, [["db", "first", 1]])
            wait_for("the first is done", lambda: broker.topic("db")["done"] == 1)
            with pg.session("late") as other:
                other.run("BEGIN")
                other.run("LOCK TABLE events")
                accept(broker, [["db", "late", 1]])
                wait_for("it timed out", lambda: broker.topic("db")["dead"] == 1)
                assert wait_for("its letter", lambda: letters(broker))["late"][0] == "TIMEOUT"
                wait_for("nothing waits in the server", lambda: pg.sql(waiting, "late") == "0")
            assert ask(broker, "DLQ.REPLAY", "db", {"all": True})["replayed"] == 1
            wait_for("it is done", lambda: broker.topic("db")["done"] == 2)
        count_is(pg, "late", 2)


def test_pg_slow_rows_are_written_in_smaller_transactions(binaries):
    pg = server()
    url = pg.create("slow")
    pg.sql("CREATE TABLE events (id text); CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
           "$$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$; "
           "CREATE TRIGGER slow BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION slow()", "slow")
    with Broker(binaries, TOPICS + "\n    attempts = 30").start() as broker:
        accept(broker, [["db", f"e{i}", i] for i in range(100)])  # 2 s of work
        with Db(broker, url, "--columns", "id", "--statement-timeout", "1s"):
            wait_ended(broker, 100)
        assert broker.topic("db")["dead"] == 0, letters(broker)
        count_is(pg, "slow", 100)


def test_pg_a_dead_network_is_noticed_and_nothing_hangs(binaries):
    pg = server()
    url = pg.create("network")
    with Proxy(f"tcp://127.0.0.1:{pg.port}") as proxy, Broker(binaries, PATIENT).start() as broker:
        through = url.replace(f":{pg.port}/", f":{proxy.endpoint.rsplit(':', 1)[1]}/")
        words = ("--statement-timeout", "500ms", "--connect-timeout", "500ms", "--probe", "300ms")
        with Db(broker, through, *words) as worker:
            accept(broker, [["db", "first", 1]])
            wait_ended(broker, 1)
            proxy.both(hole=True)
            accept(broker, [["db", f"e{i}", i] for i in range(50)])
            worker.wait_unwell("CONNECT")
            proxy.heal()
            wait_ended(broker, 51)
            proxy.down.hole = True  # what is said is done, and no answer comes: a COMMIT's too
            accept(broker, [["db", f"f{i}", i] for i in range(50)])
            worker.wait_unwell("CONNECT")
            proxy.heal()
            wait_ended(broker, 101)
        count_is(pg, "network", 101)


def test_pg_a_connection_cut_at_any_moment_leaves_every_row_once(binaries):
    pg = server()
    url = pg.create("cut")
    count = 3000
    dice = random.Random(23)
    with Proxy(f"tcp://127.0.0.1:{pg.port}") as proxy, Broker(binaries, PATIENT).start() as broker:
        through = url.replace(f":{pg.port}/", f":{proxy.endpoint.rsplit(':', 1)[1]}/")
        is_over = threading.Event()

        def cutter():
            longest = 0.1  # s; grows, or on a slow machine nothing would ever come through
            while not is_over.wait(dice.uniform(0.01, longest)):
                proxy.cut()
                longest *= 1.02

        with Db(broker, through, "--batch", "50", "--connect-timeout", "5s"):
            thread = threading.Thread(target=cutter)
            thread.start()
            try:
                run_load(broker, count, lambda _: None)
                wait_for("half of it is done", lambda: broker.topic("db")["done"] > count / 2, 120)
            finally:
                is_over.set()
                thread.join()
            wait_ended(broker, count, seconds=120)
        assert broker.topic("db")["dead"] == 0, letters(broker)
        count_is(pg, "cut", count)


def test_pg_a_missing_table_or_right_is_told_until_it_is_there(binaries):
    pg = server()
    url = pg.create("setup")
    pg.sql("DROP ROLE IF EXISTS weak; CREATE ROLE weak LOGIN; REVOKE CREATE ON SCHEMA public FROM public", "setup")
    weak = url.replace("//test@", "//weak@")
    with Broker(binaries, TOPICS).start() as broker:
        with Db(broker, weak, "--create", "0", "--columns", "id, a=payload.a", "--probe", "300ms") as worker:
            worker.wait_unwell("events")
            accept(broker, [["db", "x", {"a": 1}]])
            pg.sql("CREATE TABLE events (id text)", "setup")
            worker.wait_unwell("no column a")
            pg.sql("ALTER TABLE events ADD a int", "setup")
            worker.wait_unwell("permission denied for table events")
            pg.sql("GRANT INSERT ON events TO weak", "setup")
            worker.wait_unwell("eventflow_done")
            pg.sql("CREATE TABLE eventflow_done (topic text, id text, mark text, time timestamptz DEFAULT now(), "
                   "PRIMARY KEY (topic, id, mark))", "setup")
            worker.wait_unwell("permission denied for table eventflow_done")
            pg.sql("GRANT SELECT, INSERT, DELETE ON eventflow_done TO weak", "setup")
            worker.wait_well()
            wait_ended(broker, 1)
            assert broker.topic("db")["failed"] == 0
            pg.sql("ALTER TABLE events ALTER a TYPE text", "setup")  # while it works
            accept(broker, [["db", "y", {"a": 2}]])
            wait_ended(broker, 2)
            pg.sql("ALTER TABLE events DROP a", "setup")
            accept(broker, [["db", "z", {"a": 3}]])
            worker.wait_unwell("no column a")
            wait_for("it was tried", lambda: broker.topic("db")["failed"] >= 1)
            assert item(broker, "z", "EVENT.SHOW")["history"][0][0] == "SETUP"
            pg.sql("ALTER TABLE events ADD a int", "setup")
            ask(broker, "EVENT.RUN", "z")
            wait_ended(broker, 3)
        count_is(pg, "setup", 3)


def test_pg_passwords_come_from_a_file_or_the_environment(binaries):
    with Postgres() as pg, Broker(binaries, TOPICS).start() as broker:
        pg.sql("SET password_encryption = 'scram-sha-256'; ALTER ROLE test PASSWORD 'se cret'")
        with open(os.path.join(pg.data, "pg_hba.conf"), "w") as file:
            file.write("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        pg.sql("SELECT pg_reload_conf()")
        path = os.path.join(broker.directory, "password")
        with open(path, "w") as file:
            file.write("wrong\n")
        with Db(broker, pg.url(), "--password-file", path, "--probe", "300ms") as worker:
            worker.wait_unwell("SETUP")
            with open(path, "w") as file:
                file.write("se cret\n")
            worker.wait_well()
            accept(broker, [["db", "x", 1]])
            wait_ended(broker, 1)
        with Db(broker, pg.url(), extra={"PGPASSWORD": "se cret"}):
            accept(broker, [["db", "y", 1]])
            wait_ended(broker, 2)
        assert "se cret" not in worker.logged()


def test_pg_every_processed_event_is_kept_with_its_result_and_history(binaries):
    pg = server()
    topics = ("defaults\n    retry_base = 20ms\n    retry_jitter = 0\n    attempts = 2\n"
              "email\n    on_done = db\n    on_dead = db\ndb")
    command = "read -r line; case $line in *bad*) echo no >&2; exit 70;; esac; echo '{\"sent\": true}'"
    with Broker(binaries, topics).start() as broker, Db(broker, pg.create("kept")):
        worker = broker.worker_process("--result", "--concurrency", "4", "--", "sh", "-c", command, topic="email")
        try:
            accept(broker, [["email", f"e{i}", {"to": "bad" if i % 5 == 0 else "ann"}] for i in range(20)])
            wait_ended(broker, 20, seconds=120)
        finally:
            worker.terminate()
            worker.wait()
        found = pg.rows("SELECT state, coalesce(reason, ''), count(*), sum(attempts), count(result), "
                        "count(errors), min(topic), bool_and(ended > now() - interval '1 hour') FROM events "
                        "GROUP BY 1, 2 ORDER BY 1", "kept")
        assert found == [("dead", "attempts", "4", "8", "0", "4", "email", "t"),
                         ("done", "", "16", "0", "16", "0", "email", "t")], found
        assert pg.sql("SELECT count(*) FROM events WHERE result @> '{\"sent\": true}' AND "
                      "event->'payload'->>'to' = 'ann'", "kept") == "16"
        assert pg.sql("SELECT count(*) FROM events WHERE errors->0->>1 = 'no' AND "
                      "jsonb_array_length(event->'error') = 2", "kept") == "4"


def test_pg_names_are_quoted_and_schemas_found(binaries):
    pg = server()
    url = pg.create("names")
    pg.sql('CREATE SCHEMA "Odd"', "names")
    with Broker(binaries, TOPICS).start() as broker:
        with Db(broker, url, "--table", "Odd.it's \"mine\"", "--ledger", "Odd.done", "--columns",
                "select=id, Us\"er=payload.a"):
            accept(broker, [["db", "x", {"a": "'; DROP TABLE y; --"}]])
            wait_ended(broker, 1)
        found = pg.sql('SELECT "select", "Us""er" FROM "Odd"."it\'s ""mine"""', "names")
        assert found == "x|'; DROP TABLE y; --", found


def test_pg_old_lines_of_the_ledger_go(binaries):
    pg = server()
    with Broker(binaries, TOPICS).start() as broker:
        with Db(broker, pg.create("old"), "--remember", "1s"):
            accept(broker, [["db", f"e{i}", i] for i in range(100)])
            wait_ended(broker, 100)
            wait_for("the ledger is empty", lambda: pg.sql("SELECT count(*) FROM eventflow_done", "old") == "0", 40)
        count_is(pg, "old", 100)


def test_pg_rows_come_at_a_rate(binaries):
    found = rates.postgres_rate(binaries, 20000, server())
    assert found["rows_per_s"] > 500, found  # tests/rates/db.py has the real bound
