"""Settings that change while the broker runs. SPDX-License-Identifier: MIT"""
import os
import signal
import subprocess

import msgpack
import zmq

from delivery import Notices
from support import Broker, Publisher, wait_for

TOPICS = "work\n    capacity = 5\n    on_full = refuse\n    lease = 30s"


def rewrite(broker, *changes):
    """Puts other words into the broker's file."""
    with open(broker.config) as file:
        text = file.read()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    with open(broker.config, "w") as file:
        file.write(text)


def refused(broker, topic, count):
    publisher = Publisher(broker)
    publisher.publish([[topic, None, i] for i in range(count)])
    answer = publisher.confirm()
    publisher.close()
    return count - answer[2]["accepted"]


def notice(seen):
    return seen.wait("a notice", lambda *_: True)


def test_hangup_changes_topics(binaries):
    with Broker(binaries, TOPICS).start() as broker:
        seen = Notices(broker, "reload")
        assert refused(broker, "work", 8) == 3
        rewrite(broker, ("capacity = 5", "capacity = 100"), ("lease = 30s", "lease = 7s"),
                ("topic\n", "topic\n    fresh\n        attempts = 2\n"),
                ("server\n", "server\n    cache = 8MiB\n"))
        broker.process.send_signal(signal.SIGHUP)
        detail = notice(seen)["detail"]
        for name in ("topic/work/capacity", "topic/work/lease", "topic/fresh", "server/cache"):
            assert name in detail, detail
        assert "3 changed" in detail and "1 need a restart: server/cache" in detail, detail
        assert "notice.reload" in broker.logged()
        assert refused(broker, "work", 8) == 0
        assert refused(broker, "fresh", 1) == 0
        assert broker.topic("work")["lease_ms"] == 7000 and broker.topic("fresh")["attempts"] == 2
        broker.check_law()
        broker.stop()


def test_reload_says_what_changed_and_what_needs_a_restart(binaries):
    with Broker(binaries, TOPICS).start() as broker:
        assert broker.admin(["RELOAD"]) == ["OK", {"changed": [], "needs_restart": []}]
        rewrite(broker, ("capacity = 5", "capacity = 6"),
                ("server\n", "server\n    heartbeat = 2s\n    log_level = debug\n"))
        wanted = ["OK", {"changed": ["server/log_level", "topic/work/capacity"],
                         "needs_restart": ["server/heartbeat"]}]
        assert broker.admin(["RELOAD"]) == wanted
        wanted[1]["changed"] = []
        assert broker.admin(["RELOAD"]) == wanted  # what can't change is said as long as it differs
        assert broker.topic("work")["capacity_events"] == 6


def test_bad_file_changes_nothing(binaries):
    with Broker(binaries, TOPICS).start() as broker:
        seen = Notices(broker, "reload")
        rewrite(broker, ("capacity = 5", "capacity = 100"), ("lease = 30s", "leese = 30s"))
        kind, code, text = broker.admin(["RELOAD"])
        assert (kind, code) == ("ERROR", "BAD_COMMAND"), (kind, code, text)
        line = open(broker.config).read().split("leese")[0].count("\n") + 1
        assert f"eventflow.cfg:{line}: unknown setting leese" in text, text
        assert "nothing changed" in text and "unknown setting leese" in notice(seen)["detail"]
        assert "config.refused" in broker.logged()
        broker.process.send_signal(signal.SIGHUP)
        assert "unknown setting leese" in notice(seen)["detail"]
        os.unlink(broker.config)
        kind, code, text = broker.admin(["RELOAD"])
        assert kind == "ERROR" and "can't be read" in text, text
        assert broker.topic("work")["capacity_events"] == 5
        assert refused(broker, "work", 8) == 3
        broker.stop()


def test_environment_counts_at_reload_too(binaries):
    with Broker(binaries, TOPICS, environment={"EVENTFLOW_TOPIC_WORK_LEASE": "9s"}).start() as broker:
        rewrite(broker, ("lease = 30s", "lease = 5s"), ("capacity = 5", "capacity = 6"))
        assert broker.admin(["RELOAD"])[1]["changed"] == ["topic/work/capacity"]
        assert broker.topic("work")["lease_ms"] == 9000


def test_many_reloads_at_once_are_all_answered(binaries):
    with Broker(binaries, TOPICS).start() as broker:
        socks = [broker.socket(zmq.DEALER, "admin") for _ in range(40)]
        for sock in socks:
            sock.send_multipart([b"", msgpack.packb(["RELOAD"])])
            broker.process.send_signal(signal.SIGHUP)
        for sock in socks:
            assert sock.poll(60000), "no answer"
            assert msgpack.unpackb(sock.recv_multipart()[1])[0] == "OK"
            sock.close()
        broker.stop()


def accepted(broker, *topics):
    return [broker.topic(topic)["accepted"] for topic in topics]


def test_routes_by_default_and_after_a_reload(binaries):
    with Broker(binaries).start() as broker:
        publisher = Publisher(broker)

        def send(*types):
            publisher.publish([[None, None, 1, {"type": t} if t else {}] for t in types])
            return publisher.confirm()[2]

        assert send("USER_NOTIFICATION", "email-notification")["accepted"] == 2
        assert accepted(broker, "email", "db", "api") == [2, 0, 0]
        assert send("USER_SIGNUP")["accepted"] == 1
        assert accepted(broker, "email", "db", "api") == [3, 1, 0]
        assert send("else", None)["accepted"] == 2
        assert accepted(broker, "email", "db", "api") == [3, 1, 2]
        with open(broker.config, "a") as file:
            file.write('    shop\nroutes\n    shop\n        type = "shop.*"\n        to = shop\n')
        assert broker.admin(["RELOAD"])[1]["changed"] == ["topic/shop", "routes"]
        answer = send("shop.order", "else")
        assert answer["accepted"] == 1 and answer["refused"][0][2] == "UNROUTED", answer
        assert accepted(broker, "shop", "api") == [1, 2]
        publisher.close()
        broker.check_law()


def test_pool_takes_other_limits(binaries):
    topics = f"""work
    pool
        command = "exec {os.path.abspath(binaries)}/eventflow-worker exec -- cat"
        min = 1
        max = 1"""
    with Broker(binaries, topics).start() as broker:
        wait_for("the first is there", lambda: broker.topic("work")["workers"] == 1)
        rewrite(broker, ("min = 1", "min = 3"), ("max = 1", "max = 3"))
        changed = broker.admin(["RELOAD"])[1]["changed"]
        assert changed == ["topic/work/pool/min", "topic/work/pool/max"], changed
        wait_for("two more are there", lambda: broker.topic("work")["workers"] == 3)
        broker.stop()


def test_zone_that_is_new_at_reload(binaries):
    with Broker(binaries, TOPICS).start() as broker:
        rewrite(broker, ("lease = 30s", 'quota = "20/day by user"\n        quota_zone = Europe/Berlin'))
        assert broker.admin(["RELOAD"])[1]["changed"] == ["topic/work/quota", "topic/work/quota_zone"]
        rewrite(broker, ("Europe/Berlin", "Europe/Atlantis"))
        assert "package tzdata" in broker.admin(["RELOAD"])[2]
        broker.stop()


def test_check_judges_the_sample_and_names_what_is_wrong(binaries):
    sample = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "eventflow.cfg")
    with Broker(binaries, TOPICS) as broker:
        assert "good" in broker.cli("config", "check", sample)
        rewrite(broker, ("lease = 30s", "quota = 20/week"))
        done = subprocess.run([os.path.join(broker.binaries, "eventflow"), "config", "check",
                               broker.config], capture_output=True, text=True, timeout=20)
        assert done.returncode != 0 and "quota = 20/week: expected a quota such as" in done.stderr
