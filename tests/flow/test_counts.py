"""What is counted by its reason, and how old and how held up a topic is: stats and metrics. SPDX-License-Identifier: MIT"""
import os
import signal

import msgpack
import zmq
from support import Broker, Publisher, Worker, wait_for
from test_gateway import pair

TOPICS = """work
    attempts = 2
    retry_base = 50ms
    retry_cap = 50ms
short
    lease = 1s
    attempts = 1
lost
    attempts = 1
small
    capacity = 1
    insert_attempts = 1
    insert_base = 10ms
    insert_cap = 10ms
    overflow_replay = manual
limited
    quota = "1/day by user"
    over_quota = dead
waiting"""


def publish(broker, *events):
    publisher = Publisher(broker)
    publisher.publish(list(events))
    answer = publisher.confirm()[2]
    publisher.close()
    assert answer["accepted"] == len(events), answer


def told(broker, topic, key):
    """None: the broker hasn't made this topic of its own yet."""
    items = {item["topic"]: item for item in broker.admin(["TOPICS"])[1]["items"]}
    return items[topic][key] if topic in items else None


def reaches(broker, topic, key, wanted):
    wait_for(f"{key} of {topic} are {wanted}", lambda: told(broker, topic, key) == wanted)


def check_sums(broker):
    """What is told by reason comes to what is told in all, since the first start for it is this one."""
    for item in broker.admin(["TOPICS"])[1]["items"]:
        assert sum(item["failures"].values()) == item["failed"], item
        assert sum(item["deaths"].values()) == item["dead"], item
        assert item["redelivered"] <= item["deliveries"], item


def metrics(gateway):
    values = {}
    for line in gateway.get("/metrics").body.decode().splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            values[name] = float(value)
    assert values["eventflow_up"] == 1, values
    return values


def fail_in_every_way(broker):
    publish(broker, ["work", "often", 1], ["work", "never", 1], ["work", "late", 1], ["work", "back", 1])
    worker = Worker(broker, ["work"])
    words = {"often": lambda tag: ["NACK", [tag], 421, "busy"], "never": lambda tag: ["NACK", [tag], 550, "no", {"dead": True}],
             "late": lambda tag: ["NACK", [tag], "TIMEOUT", "too slow"],
             "back": lambda tag: ["NACK", [tag], None, None, {"release": True, "retry": 0}]}
    taken = worker.take(4)
    worker.send(["CREDIT", 0])
    other = Worker(broker, ["work"])  # gets what comes again
    for tag, _, event in taken:
        worker.send(words[event[1]](tag))
    again = {event[1]: (attempt, tag) for tag, attempt, event, *_ in other.take(3)}
    assert {name: attempt for name, (attempt, _) in again.items()} == {"often": 2, "late": 2, "back": 1}, again
    other.send(["NACK", [again["often"][1]], 421, "busy"])
    other.send(["ACK", [again["late"][1], again["back"][1]], {"seq": 1}])
    assert other.receive("ACKED")[2]["done"] == 2
    publish(broker, ["short", "a", 1], ["lost", "b", 1])
    holder = Worker(broker, ["short"])
    holder.take(1)
    silent = Worker(broker, ["lost"], heartbeat=200)
    silent.take(1)  # and never says anything again
    return worker, other, holder, silent


def test_failures_and_deaths_are_told_by_reason(binaries):
    with pair(binaries, topics=TOPICS) as (broker, gateway):
        workers = fail_in_every_way(broker)
        reaches(broker, "work", "failures", {"error": 2, "permanent": 1, "timeout": 1})
        reaches(broker, "work", "deaths", {"attempts": 1, "permanent": 1})
        assert told(broker, "work", "redelivered") == 3 and told(broker, "work", "deliveries") == 7
        reaches(broker, "short", "failures", {"lease": 1})
        reaches(broker, "short", "deaths", {"attempts": 1})
        reaches(broker, "lost", "failures", {"worker_lost": 1})
        publish(broker, ["waiting", "old", 1, {"ttl": 100}])
        reaches(broker, "waiting", "deaths", {"expired": 1})
        publish(broker, *(["limited", f"q{i}", i, {"user": "u"}] for i in range(2)))
        limited = Worker(broker, ["limited"])
        limited.take(1)
        reaches(broker, "limited", "deaths", {"quota": 1})
        publish(broker, *(["small", f"s{i}", i] for i in range(3)))
        reaches(broker, "small", "deaths", {"overflow": 2})
        with broker.socket(zmq.PUSH, "ingress") as push:
            push.send(msgpack.packb(["nothing", None, 1]))
            reaches(broker, "$invalid", "deaths", {"invalid": 1})
        wait_for("all dead are counted", lambda: sum(
            t["dead"] for t in broker.admin(["TOPICS"])[1]["items"]) == 9)
        check_sums(broker)
        items = broker.admin(["TOPICS"])[1]["items"]
        values = metrics(gateway)
        for name, key in (("events_failed_total", "failures"), ("events_dead_total", "deaths")):
            for item in items:
                row = f'eventflow_{name}{{topic="{item["topic"]}",reason="'
                found = {n[len(row):-2]: v for n, v in values.items() if n.startswith(row)}
                assert {r: v for r, v in found.items() if v} == item[key], (name, item["topic"], found)
                assert len(found) == (5 if key == "failures" else 7), (row, found)
        assert values['eventflow_events_redelivered_total{topic="work"}'] == 3
        assert sum(v for n, v in values.items() if n.startswith("eventflow_events_dead_total{")) == 9
        for each in workers:
            each.close()
        broker.check_law()
        broker.kill()
        broker.start()
        item = broker.topic("work")  # reasons are counted since the start, sums go on
        assert (item["failures"], item["deaths"], item["failed"], item["dead"]) == ({}, {}, 4, 2), item


def test_age_and_breakers_are_told_without_a_pool(binaries):
    with pair(binaries, topics=TOPICS) as (broker, gateway):
        item = broker.topic("waiting")
        assert (item["oldest_ms"], item["breakers_open"], item["breakers_closed"]) == (0, 0, 0), item
        publish(broker, ["waiting", "a", 1])
        wait_for("it grows old", lambda: told(broker, "waiting", "oldest_ms") >= 300)
        assert metrics(gateway)['eventflow_topic_oldest_event_age_seconds{topic="waiting"}'] >= 0.3
        assert broker.admin(["PURGE", "waiting"])[1] == {"purged": 1}
        assert told(broker, "waiting", "oldest_ms") == 0
        for downstream, state in (("a.example", "open"), ("b.example", "open"), ("c.example", "closed")):
            assert broker.admin(["BREAKER.SET", "work", downstream, state])[0] == "OK"
        item = broker.topic("work")
        assert [item[f"breakers_{s}"] for s in ("open", "half_open", "closed")] == [2, 0, 1], item
        values = metrics(gateway)
        assert values['eventflow_breaker_state{topic="work",state="open"}'] == 2
        assert values['eventflow_breaker_state{topic="work",state="closed"}'] == 1
        assert values['eventflow_breaker_state{topic="waiting",state="open"}'] == 0


def test_last_reload_is_told(binaries):
    with pair(binaries, topics=TOPICS) as (broker, gateway):
        def config():
            process = broker.admin(["STATUS"])[1]["process"]
            return process["config_ok"], process["config_ms"]

        def told_by_metrics():
            values = metrics(gateway)
            return (values["eventflow_config_last_reload_success"],
                    values["eventflow_config_last_reload_success_timestamp_seconds"])

        is_good, began = config()
        assert is_good and began == broker.admin(["STATUS"])[1]["process"]["started"]
        assert told_by_metrics() == (1, began / 1000)
        with open(broker.config) as file:
            text = file.read()
        with open(broker.config, "w") as file:
            file.write(text.replace("attempts = 2", "atempts = 2"))
        assert broker.admin(["RELOAD"])[0] == "ERROR"
        assert config() == (False, began) and told_by_metrics() == (0, began / 1000)
        with open(broker.config, "w") as file:
            file.write(text.replace("attempts = 2", "attempts = 3"))
        os.kill(broker.process.pid, signal.SIGHUP)
        wait_for("it is read", lambda: config()[0])
        assert config()[1] > began and told_by_metrics() == (1, config()[1] / 1000)
        assert told(broker, "work", "attempts") == 3


def test_workers_tell_the_restarts_of_their_pool(binaries):
    topics = """work
    pool
        command = "exec eventflow-worker exec -- true"
        min = 1
        max = 1"""
    with Broker(binaries, topics).start() as broker:
        stranger = Worker(broker, ["work"], name="stranger")

        def workers():
            return {w["worker"]: w for w in broker.admin(["WORKERS"])[1]["items"]}

        def own():
            return [w for name, w in workers().items() if name != "stranger" and "restarts" in w]
        [first] = wait_for("its own worker is here", own)
        assert first["restarts"] == 0 and "restarts" not in workers()["stranger"]
        os.kill(first["pid"], signal.SIGKILL)
        wait_for("another one is here", lambda: [
            w for w in own() if w["pid"] != first["pid"] and w["restarts"] == 1], seconds=40)
        stranger.close()
