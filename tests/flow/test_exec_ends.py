"""exec: how commands end, and that nothing outlives its worker. SPDX-License-Identifier: MIT"""
import json
import os
import signal
import sys
import tempfile
import time

from support import Broker, wait_for
from test_answers import Back, exec_worker
from test_exec import CHILD, Persistent

# Leaves children of every kind behind: in its group, in a session of their own, a daemon's way.
LEAVES = "sleep 300 & setsid sleep 300 & (setsid sh -c 'sleep 300 & sleep 300' &); "


class Skip(Exception):
    pass


def marked(process):
    """Processes that have this one's mark in their environment, without it."""
    found = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if process.mark in file.read().split(b"\0") and pid != process.pid:
                    with open(f"/proc/{pid}/comm") as name:
                        found[pid] = name.read().strip()
        except OSError:
            continue
    return found


def zombies(pid):
    """Ended children that it hasn't reaped."""
    found = []
    for each in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{each}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            if fields[0] == "Z" and int(fields[1]) == pid:
                found.append(int(each))
        except OSError:
            continue
    return found


def begin(make, *words, **environment):
    """A worker whose processes are found again."""
    mark = os.urandom(8).hex()
    back = make(*words, MARK=mark, **environment)
    back.process.mark = b"MARK=" + mark.encode()
    return back


def worker(binaries, *words):
    return begin(Back, *exec_worker(binaries, *words))


def gone(process, seconds=60):
    wait_for("all that it started is gone", lambda: not marked(process), seconds)


def test_what_a_command_leaves_behind_is_ended(binaries):
    with tempfile.TemporaryDirectory() as directory, worker(
            binaries, "--", "sh", "-c", LEAVES + f"until [ -e {directory}/over ]; do :; done") as back:
        back.deliver(1, 1)
        wait_for("all run", lambda: list(marked(back.process).values()).count("sleep") == 4)
        open(directory + "/over", "w").close()
        back.receive("ACK")
        assert not marked(back.process), marked(back.process)
        assert not zombies(back.process.pid)


def test_nothing_outlives_a_worker_that_is_killed(binaries):
    users = [[], ["--user", "nobody"]] if os.geteuid() == 0 else [[]]
    for words in users + [["--persistent"]]:
        with worker(binaries, *words, "--", "sh", "-c", "trap '' TERM; " + LEAVES + "cat; wait") as back:
            back.deliver(1, 1)
            wait_for("all run", lambda: list(marked(back.process).values()).count("sleep") == 4)
            back.process.kill()
            gone(back.process)


def test_a_launcher_that_is_killed_takes_its_command_along(binaries):
    with worker(binaries, "--", "sh", "-c", LEAVES + "wait; sleep 300") as back:
        back.deliver(1, 1)
        wait_for("all run", lambda: list(marked(back.process).values()).count("sleep") == 4)
        os.kill([p for p, name in marked(back.process).items() if name == "eventflow-launc"][0], signal.SIGKILL)
        assert back.receive("NACK")[2] == "SIGNAL_9"
        gone(back.process)  # the worker ends what came to it
        wait_for("it has reaped them", lambda: not zombies(back.process.pid))


def test_deaf_commands_are_killed(binaries):
    deaf = "trap '' TERM; " + LEAVES + "while :; do sleep 1; done"
    with worker(binaries, "--timeout", "500ms", "--", "sh", "-c", deaf) as back:
        back.deliver(1, 1)
        start = time.monotonic()
        assert back.receive("NACK", 60)[2] == "TIMEOUT"
        assert time.monotonic() - start > 5 and not marked(back.process)
        back.deliver(2, 1)
        wait_for("it runs", lambda: marked(back.process))
        back.process.terminate()
        back.process.send_signal(signal.SIGINT)  # the second one
        assert back.process.wait(timeout=60) == 0 and not marked(back.process)


def test_commands_get_no_descriptors_but_their_own(binaries):
    script = "ls /proc/self/fd | tr '\\n' ' '"
    for words in ([], ["--batch", "1"]):
        with worker(binaries, "--result", *words, "--", "sh", "-c", script) if not words else (
                Persistent(binaries)) as back:
            if words:
                back.deliver(1, {"held": True})
                pid = back.told(1)[0]["pid"]
                assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
            else:
                back.deliver(1, 1)
                assert back.receive("ACK")[2]["result"].split() == ["0", "1", "2", "3"]  # 3: the folder itself


def resources(pid):
    """Descriptors, and KiB that aren't shared with a file."""
    with open(f"/proc/{pid}/status") as file:
        text = file.read()
    return len(os.listdir(f"/proc/{pid}/fd")), int(text.split("RssAnon:")[1].split()[0])


def test_many_runs_leave_nothing_behind(binaries):
    count = 200 if "asan" in binaries else int(os.environ.get("EVENTFLOW_TEST_RUNS", "2000"))
    with Broker(binaries).start() as broker:
        runs = {"api": broker.worker_process("--concurrency", "4", "--", "true", topic="api"),
                "db": broker.worker_process("--persistent", "--max-events", "5", "--", sys.executable, "-S", "-c",
                                            ANSWERS, topic="db"),
                "email": broker.worker_process("--batch", "2", "--concurrency", "4", "--", "true", topic="email")}
        before = {}
        for part in (1, 2):
            for topic, process in runs.items():
                n = count // (20 if topic == "db" else 1)
                broker.cli("publish", "1", "--topic", topic, "--count", str(n))
                done = lambda: broker.topic(topic)["done"] == part * n
                wait_for("all are done", done, 120)
            for topic, process in runs.items():
                wait_for("they have ended", lambda: not zombies(process.pid))
                if part == 1:
                    before[topic] = resources(process.pid)
                else:
                    fits = lambda: resources(process.pid)[0] <= before[topic][0] + 8
                    wait_for("no descriptors were left open", fits)
                    grown = resources(process.pid)[1] - before[topic][1]
                    assert grown < 2048 or "asan" in binaries, (topic, before, grown)  # asan keeps what is freed
        for process in runs.values():
            process.terminate()
        assert [process.wait(timeout=60) for process in runs.values()] == [0, 0, 0]


# A persistent child that starts fast.
ANSWERS = """import sys
for line in sys.stdin:
    if '"event"' in line:
        print('{"tag": %s, "result": "done"}' % line.split(":")[1].split(",")[0], flush=True)
"""

# Writes what it begins and what it is done with, and takes its time.
SLOW = """import os, sys, time
for line in sys.stdin:
    if '"event"' not in line:
        continue
    tag = line.split(":")[1].split(",")[0]
    for word in ("begin", "end"):
        os.write(log, ("%s %s\\n" % (word, tag)).encode())
        time.sleep(0.3)
    print('{"tag": %s, "result": "done"}' % tag, flush=True)
"""


def test_term_lets_persistent_children_finish(binaries):
    with Broker(binaries).start() as broker:
        log = os.path.join(broker.directory, "log")
        code = f'import os; log = os.open("{log}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n' + SLOW
        process = broker.worker_process("--persistent", "--children", "2", "--per-child", "2", "--concurrency", "4",
                                        "--", sys.executable, "-c", code, topic="api")
        broker.cli("publish", "1", "--topic", "api", "--count", "40")
        read = lambda: open(log).read() if os.path.exists(log) else ""
        wait_for("some are done", lambda: read().count("end") >= 4)
        process.terminate()
        assert process.wait(timeout=60) == 0
        wait_for("the rest is back", lambda: broker.topic("api")["leased"] == 0)
        item = broker.topic("api")
        assert read().count("begin") == read().count("end") == item["done"] and item["failed"] == 0, item
        assert item["ready"] == 40 - item["done"], item


def test_term_gives_back_what_does_not_finish_within_the_grace(binaries):
    with Broker(binaries).start() as broker:
        for words in (["--persistent", "--children", "1", "--per-child", "5"], ["--concurrency", "5"],
                      ["--batch", "5", "--concurrency", "5"]):
            done = broker.topic("api")["done"]
            child = [sys.executable, CHILD] if "--persistent" in words else ["sh", "-c", "trap '' TERM; sleep 300"]
            process = broker.worker_process(*words, "--grace", "500ms", "--", *child, topic="api")
            broker.cli("publish", '{"held": true}', "--topic", "api", "--count", "5")
            wait_for("they are worked on", lambda: broker.topic("api")["leased"] == 5)
            start = time.monotonic()
            process.terminate()
            assert process.wait(timeout=60) == 0 and time.monotonic() - start < 20
            wait_for("all is back", lambda: broker.topic("api")["leased"] == 0)
            item = broker.topic("api")
            assert (item["ready"], item["done"], item["failed"]) == (5, done, 0), item
            broker.cli("topic", "purge", "api", "--yes")


def test_a_persistent_child_ends_at_the_end_of_its_input(binaries):
    with Broker(binaries).start() as broker:
        path = os.path.join(broker.directory, "ended")
        code = ANSWERS + f'open("{path}", "w").write("well")\n'
        process = broker.worker_process("--persistent", "--", sys.executable, "-c", code, topic="api")
        broker.cli("publish", "1", "--topic", "api")
        wait_for("it is done", lambda: broker.topic("api")["done"] == 1)
        process.terminate()
        assert process.wait(timeout=60) == 0
        assert json.dumps(open(path).read()) == '"well"'
