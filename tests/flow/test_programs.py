"""The programs together: tool, exec workers, pools. SPDX-License-Identifier: MIT"""
import json
import os
import signal
import subprocess

from support import Broker, payloads, wait_for

DATA = os.environ.get("EVENTFLOW_TEST_DATA") or os.path.join(
    os.path.dirname(__file__), "..", "..", "..", "shared", "data", "github-webhooks.jsonl")


class Skip(Exception):
    pass


def script(broker, text):
    path = os.path.join(broker.directory, "handler.sh")
    with open(path, "w") as file:
        file.write(text)
    return path


def test_webhooks_arrive_equal_once_each(binaries):
    if not os.path.exists(DATA):
        raise Skip("the webhook sample isn't here (EVENTFLOW_TEST_DATA)")
    sent = payloads(DATA)
    with Broker(binaries).start() as broker:
        out = os.path.join(broker.directory, "out")
        os.mkdir(out)
        handler = script(broker, f'cat > "{out}/$EVENTFLOW_TAG"\n')
        worker = broker.worker_process("--", "sh", handler, topic="api")
        broker.cli("publish", "@" + DATA, "--topic", "api", code=0)
        wait_for("all are done", lambda: broker.topic("api")["done"] == len(sent), 60)
        worker.terminate()
        assert worker.wait(timeout=60) == 0
        got = []
        for name in os.listdir(out):
            with open(os.path.join(out, name)) as file:
                got.append(json.loads(file.read()))
        key = lambda value: json.dumps(value, sort_keys=True)
        assert sorted(map(key, got)) == sorted(key(e["payload"]) for e in sent)
        broker.check_law()


def test_exit_status_is_the_answer(binaries):
    topics = "defaults\n    retry_base = 20ms\n    retry_cap = 50ms\n    attempts = 3"
    with Broker(binaries, topics).start() as broker:
        handler = script(broker, 'read x\necho "$x" | grep -q bad && { echo first >&2; echo "no good" >&2; exit 65; }\n'
                                 'echo "$x" | grep -q flaky && [ "$EVENTFLOW_ATTEMPT" -lt 2 ] && exit 75\n'
                                 'echo "$x" | grep -q crash && kill -9 $$\nexit 0\n')
        worker = broker.worker_process("--", "sh", handler, topic="api")
        for payload in ('"fine"', '"flaky"', '"bad"', '"crash"'):
            broker.cli("publish", payload, "--topic", "api", "--id", payload.strip('"'))
        wait_for("the good ones are done", lambda: broker.topic("api")["done"] == 2)
        wait_for("the bad ones are dead", lambda: broker.topic("api")["dead"] == 2)
        listed = wait_for("both are listed", lambda: (
            lambda lines: lines if len(lines) == 2 else None)(
                broker.cli("dlq", "ls", "api", "--json").splitlines()))
        letters = {item["id"]: item for item in map(json.loads, listed)}
        assert letters["bad"]["reason"] == "permanent" and letters["bad"]["error"][0] == 65
        assert letters["crash"]["reason"] == "attempts"
        assert letters["crash"]["error"][0] == "SIGNAL_9"
        shown = json.loads(broker.cli("dlq", "show", "api", str(letters["bad"]["n"])))
        assert shown["error"][0]["message"] == "no good"
        assert shown["error"][0]["stack_trace"] == "first\nno good\n"
        assert shown["payload"] == "bad" and shown["topic"] == "api"
        worker.terminate()
        assert worker.wait(timeout=60) == 0


def test_timeout_ends_the_command(binaries):
    with Broker(binaries, "defaults\n    attempts = 1").start() as broker:
        worker = broker.worker_process("--timeout", "200ms", "--", "sh", "-c", "sleep 30 & wait",
                                       topic="api")
        broker.cli("publish", "1", "--topic", "api")
        wait_for("it is dead", lambda: broker.topic("api")["dead"] == 1)
        item = wait_for("it is listed", lambda: broker.cli("dlq", "ls", "api", "--json"))
        assert json.loads(item)["error"][0] == "TIMEOUT"
        worker.terminate()
        worker.wait(timeout=60)


def test_term_lets_running_handlers_finish(binaries):
    with Broker(binaries).start() as broker:
        out = os.path.join(broker.directory, "out")
        handler = script(broker, f'echo begin >> "{out}"\nuntil [ -e "{out}.go" ]; do sleep 0.05; done\n'
                                 f'echo end >> "{out}"\n')
        worker = broker.worker_process("--", "sh", handler, topic="api")
        broker.cli("publish", "1", "--topic", "api", "--count", "8")
        wait_for("five run", lambda: os.path.exists(out) and open(out).read().count("begin") == 5)
        worker.send_signal(signal.SIGTERM)
        wait_for("it takes no more", lambda: broker.admin(["WORKERS"])[1]["items"][0]["credit"] == 0)
        open(out + ".go", "w").close()
        assert worker.wait(timeout=60) == 0
        with open(out) as file:
            text = file.read()
        assert text.count("begin") == text.count("end") == 5
        item = broker.topic("api")
        assert (item["done"], item["ready"], item["failed"]) == (5, 3, 0), item


def test_pool_grows_on_stall_and_shrinks_when_idle(binaries):
    topics = f"""work
    pool
        command = "exec {os.path.abspath(binaries)}/eventflow-worker exec --concurrency 1 -- sleep 0.2"
        min = 1
        max = 3
        credit = 1
        stall = 100ms
        idle = 1s
        cooldown = 100ms"""
    with Broker(binaries, topics).start() as broker:
        wait_for("the first one is there", lambda: broker.topic("work")["workers"] == 1)
        broker.cli("publish", "1", "--topic", "work", "--count", "60")
        wait_for("it grew", lambda: broker.topic("work")["workers"] == 3)
        wait_for("all are done", lambda: broker.topic("work")["done"] == 60, 120)
        wait_for("it shrank", lambda: broker.topic("work")["workers"] == 1)
        assert broker.topic("work")["failed"] == 0
        broker.check_law()
        broker.stop()
        wait_for("no worker is left", lambda: pool_processes(broker) == [])


def pool_processes(broker):
    """Processes that were started for this broker's back endpoint."""
    wanted = ("EVENTFLOW_BACK=" + broker.endpoints["back"]).encode()
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.append(int(pid))
        except OSError:
            continue
    return found


def test_no_orphans_when_the_broker_is_killed(binaries):
    topics = f"""work
    pool
        command = "exec {os.path.abspath(binaries)}/eventflow-worker exec -- cat"
        min = 2"""
    with Broker(binaries, topics).start() as broker:
        wait_for("both are there", lambda: broker.topic("work")["workers"] == 2)
        assert len(pool_processes(broker)) == 2
        broker.kill()
        wait_for("they went with it", lambda: pool_processes(broker) == [])


def test_crash_loop_is_given_up_loudly(binaries):
    topics = "work\n    pool\n        command = exit 3\n        min = 1"
    with Broker(binaries, topics).start() as broker:
        wait_for("it says so", lambda: "notice.crash_loop" in broker.logged(), 120)


def kills_one(broker):
    """Kills a worker. False: none was there any more."""
    try:
        pids = [item["pid"] for item in broker.admin(["WORKERS"])[1]["items"]]
        os.kill(pids[0], signal.SIGKILL)
    except (IndexError, ProcessLookupError):
        return False
    return True


def test_killed_workers_lose_nothing(binaries):
    topics = f"""work
    retry_base = 20ms
    attempts = 20
    pool
        command = "exec {os.path.abspath(binaries)}/eventflow-worker exec -- sleep 0.01"
        min = 2
        max = 2"""
    with Broker(binaries, topics).start() as broker:
        broker.cli("publish", "1", "--topic", "work", "--count", "300")
        for _ in range(3):
            wait_for("one is killed", lambda: kills_one(broker))
            done = broker.topic("work")["done"]
            wait_for("it goes on", lambda: broker.topic("work")["done"] > min(done, 299))
        wait_for("all are done", lambda: broker.topic("work")["done"] == 300)
        broker.check_law()


def test_tool_says_what_is_wrong(binaries):
    with Broker(binaries).start() as broker:
        broker.cli("publish", "1", code=2)
        broker.cli("publish", "{", "--topic", "api", code=2)
        broker.cli("publish", "1", "--topic", "ipa", code=4)
        broker.cli("topic", "info", "nope", code=3)
        broker.cli("topic", "purge", "api", code=2)
        broker.cli("topic", "purge", "api", "--yes")
        broker.cli("publish", "1", "--topic", "api", "--count", "many", code=2)
        broker.cli("topic", "scale", "api", "two", code=2)
        broker.cli("dlq", "purge", "api", "5x", "--yes", code=2)
        broker.cli("consume", "--topic", "ipa", "--count", "1", code=3)
        broker.cli("frobnicate", code=2)
        broker.cli("status", "--admin", "tcp://127.0.0.1:1", "--timeout", "300ms", code=5)
        assert json.loads(broker.cli("status", "--json"))["broker"]["durability"] == "sync"
        broker.cli("publish", '{"n": 18446744073709551615, "f": 1.5, "s": "\\u00fc"}', "--topic", "db")
        event = json.loads(broker.cli("consume", "--topic", "db", "--count", "1"))
        assert event["payload"] == {"n": 18446744073709551615, "f": 1.5, "s": "ü"}


def test_idle_costs_nothing(binaries):
    with Broker(binaries).start() as broker:
        workers = [broker.worker_process("--", "cat", topic=topic) for topic in ("api", "db", "email")]
        wait_for("they are there", lambda: len(broker.admin(["WORKERS"])[1]["items"]) == 3)
        import select
        for _ in range(3):  # where others keep the machine busy one of them may cost more
            before = broker.admin(["STATUS"])[1]["process"]
            select.select([], [], [], 10)  # the span that is measured
            after = broker.admin(["STATUS"])[1]["process"]
            share = (after["cpu_ms"] - before["cpu_ms"]) / 10000
            print(f"idle: {share * 100:.2f} % of a core, {after['rss_bytes'] / 1e6:.1f} MB")
            if share < 0.005 or "asan" in binaries:
                break
        assert "asan" in binaries or (share < 0.005 and after["rss_bytes"] < 40e6), (share, after)
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(timeout=60)
