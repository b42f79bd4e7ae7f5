"""Events and gates by the tool, against a running broker. SPDX-License-Identifier: MIT"""
import json

from support import Broker, Worker, wait_for

TOPICS = "email\n    attempts = 5\n    retry = fixed\n    retry_base = 1h\n    breaker = 50%"


def publish(broker, name, *words):
    broker.cli("publish", "1", "--topic", "email", "--id", name, *words)


def test_a_failed_event_is_found_explained_and_run_now(binaries):
    with Broker(binaries, TOPICS).start() as broker:
        publish(broker, "one", "--type", "t")
        worker = Worker(broker, ["email"], name="mailer", host="h1", pid=77)
        [[tag, _, _]] = worker.take(1)
        worker.send(["NACK", [tag], 500, "down", {"seq": 1}])
        worker.receive("ACKED")
        shown = json.loads(broker.cli("event", "show", "one", "--json"))
        assert (shown["topic"], shown["state"], shown["attempts"]) == ("email", "retrying", 1), shown
        assert shown["event"]["error"][0]["status_code"] == 500
        assert shown["history"][0][5]["host"] == "h1"
        text = broker.cli("event", "show", f"email#{shown['n']}")
        assert "by mailer on h1 (pid 77): failed, code 500" in text and "by fixed" in text, text
        why = json.loads(broker.cli("event", "explain", "one", "--json"))
        assert why["reason"] == "backoff" and why["until"] == shown["due"], why
        listed = broker.cli("event", "ls", "--topic", "email", "--state", "retrying", "--json").splitlines()
        assert [json.loads(line)["id"] for line in listed] == ["one"]
        assert broker.cli("event", "ls", "--state", "done", "--json") == ""
        broker.cli("event", "run-now", "one")
        assert worker.take(1)[0][1] == 2
        why = json.loads(broker.cli("event", "explain", "one", "--json"))
        assert why["reason"] == "leased", why
        broker.cli("event", "cancel", "one", code=4)  # it is leased
        broker.cli("event", "release", "one", "--to", "nobody", code=4)
        broker.cli("event", "release", "one")
        assert worker.receive("CANCEL")[2] == "released by an operator"
        broker.check_law()


def test_waiting_events_are_cancelled_and_moved(binaries):
    with Broker(binaries, TOPICS).start() as broker:
        for name in ("a", "b", "c"):
            publish(broker, name, "--delay", "1h")
        broker.cli("event", "cancel", "a", "nope", code=3)
        broker.cli("event", "delay", "b", "2h")
        broker.cli("event", "run-now", "c")
        item = broker.topic("email")
        assert (item["purged"], item["scheduled"], item["ready"]) == (1, 1, 1), item
        broker.cli("event", "show", "nope", code=3)
        broker.check_law()
