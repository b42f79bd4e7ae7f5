"""A topic's gates by the tool, against a running broker. SPDX-License-Identifier: MIT"""
import json

from support import Broker, Worker, wait_for

TOPICS = "email\n    attempts = 5\n    retry = fixed\n    retry_base = 1h\n    breaker = 50%"


def publish(broker, name, *words):
    broker.cli("publish", "1", "--topic", "email", "--id", name, *words)


def test_settings_are_shown_as_a_file_says_them(binaries):
    more = '\n    quota = "20/day by user"\n    dead_on = "65, 55*"\n    pool\n        stall = 7s'
    with Broker(binaries, TOPICS + more).start() as broker:
        publish(broker, "a")
        info = json.loads(broker.cli("topic", "info", "email", "--json"))
        assert info["stats"]["ready"] == 1 and info["dedupe"]["ids"] == 1, info
        text = broker.cli("config", "show", "email")
        for setting in ("attempts = 5", "retry = fixed", "retry_base = 1h", 'quota = "20/day by user"',
                        'dead_on = "65, 55*"', "        pool\n", "            stall = 7s\n"):
            assert setting in text, text
        path = broker.config + ".shown"
        with open(path, "w") as file:
            file.write(text)
        broker.cli("config", "check", path)  # what it shows is a file
        assert [l for l in broker.cli("topic", "info", "email").splitlines() if l[0] != " "][:2] == [
            "settings", "stats"]
        broker.cli("topic", "info", "emial", code=3)
        broker.cli("config", "show", "emial", code=3)


def test_a_breaker_is_held_open_by_hand(binaries):
    with Broker(binaries, TOPICS).start() as broker:
        held = json.loads(broker.cli("topic", "breaker", "email", "smtp", "open", "--json"))
        assert (held["state"], held["forced"]) == ("open", True), held
        publish(broker, "x", "--downstream", "smtp")
        publish(broker, "y", "--downstream", "imap")
        worker = Worker(broker, ["email"])
        assert worker.take(1)[0][2][1] == "y"
        worker.none()
        rows = map(json.loads, broker.cli("topic", "breaker", "email", "--json").splitlines())
        assert [(r["state"], r["waiting"]) for r in rows if r["downstream"] == "smtp"] == [("open", 1)]
        assert "smtp" in broker.cli("topic", "info", "email")
        broker.cli("topic", "breaker", "email", "smtp", "auto")
        assert worker.take(1)[0][2][1] == "x"


def test_held_keys_are_listed(binaries):
    with Broker(binaries, TOPICS).start() as broker:
        for name in ("a", "b", "c"):
            publish(broker, name, "--key", "k")
        worker = Worker(broker, ["email"])
        [[tag, *_]] = worker.take(1)
        worker.send(["NACK", [tag], 500, "down", {"seq": 1}])
        worker.receive("ACKED")
        worker.none()
        row = json.loads(wait_for("it is held", lambda: broker.cli("topic", "keys", "email", "--json")))
        assert (row["key"], row["waiting"]) == ("k", 2), row
        assert "k " in broker.cli("topic", "keys", "email")


def test_parked_keys_go_on_by_hand(binaries):
    with Broker(binaries, TOPICS + "\n    on_blocked = park").start() as broker:
        for key in ("k1", "k2"):
            publish(broker, "first-" + key, "--key", key)
            publish(broker, "second-" + key, "--key", key)
        worker = Worker(broker, ["email"])
        for tag, *_ in worker.take(2):
            worker.send(["NACK", [tag], 500, "down"])
        wait_for("both are parked", lambda: broker.topic("email")["parked"] == 2)
        broker.cli("topic", "unpark", "email", "nothing-of-it", code=3)
        out = broker.cli("topic", "unpark", "email", "--dry-run", "--json")
        assert {json.loads(line)["key"] for line in out.splitlines()} == {"k1", "k2"}
        assert json.loads(broker.cli("topic", "unpark", "email", "k1", "--json")) == {"unparked": 1}
        [[tag, attempt, event, *_]] = worker.take(1)
        assert (event[1], attempt) == ("first-k1", 2)
        assert json.loads(broker.cli("topic", "unpark", "email", "--json")) == {"unparked": 1}
        assert worker.take(1)[0][2][1] == "first-k2"
        broker.check_law()
