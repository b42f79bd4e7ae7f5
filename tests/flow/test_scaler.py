"""Pools that follow their load, with real processes. SPDX-License-Identifier: MIT"""
import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time

import msgpack
import zmq

from support import Broker, Worker, wait_for


def pool(name, command, *lines, **settings):
    """A topic with a pool, as the configuration has it."""
    words = dict({"min": 1, "max": 6, "credit": 1, "stall": "500ms", "idle": "3s", "cooldown": "500ms"},
                 **settings)
    text = [name] + ["    " + line for line in lines] + ["    pool", f'        command = "{command}"']
    return "\n".join(text + [f"        {key} = {value}" for key, value in words.items()])


def handler(broker, text):
    """A handler that notes each run in a file of the event's id, then does what `text` says."""
    runs = os.path.join(broker.directory, "runs")
    os.makedirs(runs, exist_ok=True)
    with open(os.path.join(broker.directory, "handler.sh"), "w") as file:
        file.write(f'echo "$PPID" >> "{runs}/$EVENTFLOW_TOPIC.$EVENTFLOW_ID"\n{text}\n')


def scaler(binaries, topics, text, server=""):
    """A broker whose pools run one handler, one event at a time."""
    broker = Broker(binaries)
    try:
        run = f"exec eventflow-worker exec --concurrency 1 -- sh {broker.directory}/handler.sh"
        handler(broker, text)
        with open(broker.config) as file:
            config = file.read()
        lines = "\n".join("    " + line for line in server.splitlines())
        sections = "\n".join("    " + line for line in topics(run).splitlines())
        with open(broker.config, "w") as file:
            file.write(config.replace("topic\n", lines + "\ntopic\n", 1) + sections + "\n")
        return broker.start()
    except BaseException:
        broker.close()
        raise


def runs(broker):
    """How often each event was begun, by topic and id."""
    directory = os.path.join(broker.directory, "runs")
    found = {}
    for name in os.listdir(directory):
        with open(os.path.join(directory, name)) as file:
            found[name] = file.read().split()
    return found


def check_once(broker, count):
    found = runs(broker)
    more = {name: pids for name, pids in found.items() if len(pids) != 1}
    assert len(found) == count and not more, (len(found), more)


def info(broker, name):
    for item in broker.admin(["POOLS"])[1]["items"]:
        if item["topic"] == name:
            return item
    raise AssertionError(f"no pool {name}")


def history(broker, name):
    return broker.admin(["POOL.HISTORY", name])[1]["items"]


def changes(items):
    """Sizes in a row, what was only said left out."""
    return [(item["from"], item["to"]) for item in items if item["from"] != item["to"]]


def turns(items):
    """How often it went the other way."""
    signs = [to > start for start, to in changes(items)]
    return sum(a != b for a, b in zip(signs, signs[1:]))


def publish(broker, topic, count, rate=None):
    words = ["publish", "1", "--topic", topic, "--count", str(count)]
    broker.cli(*words, *(["--rate", f"{rate}/s"] if rate else []), seconds=120)


def all_done(broker, topic, count, seconds=180):
    wait_for(f"all of {topic} are done", lambda: broker.topic(topic)["done"] == count, seconds)


def test_load_that_doubles_holds_and_falls(binaries):
    topics = lambda run: pool("work", run, max=8, stall="1s", cooldown="1s")
    with scaler(binaries, topics, "sleep 0.2") as broker:
        wait_for("one is there", lambda: info(broker, "work")["running"] == 1)
        publish(broker, "work", 24, 3)
        before = info(broker, "work")["desired"]
        begin = time.monotonic()
        feeder = threading.Thread(target=publish, args=(broker, "work", 150, 9))
        feeder.start()
        wait_for("it follows", lambda: info(broker, "work")["running"] * 5 >= 9)
        followed = time.monotonic() - begin
        feeder.join()
        most = info(broker, "work")["desired"]
        begin = time.monotonic()
        wait_for("it gives back", lambda: info(broker, "work")["desired"] == 1, 60)
        print(f"from {before} to {most}: followed in {followed:.1f} s, given back in "
              f"{time.monotonic() - begin:.1f} s: {changes(history(broker, 'work'))}")
        all_done(broker, "work", 174)
        assert most >= 2 and followed < 40, (most, followed)
        assert turns(history(broker, "work")) <= 3, history(broker, "work")
        assert broker.topic("work")["failed"] == 0
        check_once(broker, 174)
        broker.check_law()


def test_overflow_grows_its_own_pool_only(binaries):
    topics = lambda run: "\n".join(
        [pool("email", run, "capacity = 10", "insert_attempts = 1", "insert_base = 50ms",
              "insert_capacity = 20", idle="1m")] + [pool(name, run, stall="5s") for name in ("api", "db")])
    with scaler(binaries, topics, "sleep 0.1") as broker:
        for name in ("email", "api", "db"):
            wait_for("its worker is there", lambda: info(broker, name)["running"] == 1)
        publish(broker, "email", 200)
        publish(broker, "api", 3)
        wait_for("it overflowed", lambda: broker.topic("email")["overflowed"] > 0)
        wait_for("its pool grew", lambda: info(broker, "email")["running"] > 1)
        all_done(broker, "email", 200, 240)
        for name in ("api", "db"):
            assert changes(history(broker, name)) == [(0, 1)], (name, history(broker, name))
        check_once(broker, 203)
        broker.check_law()


def test_places_move_where_the_machine_is_full(binaries):
    topics = lambda run: pool("one", run, idle="5m") + "\n" + pool("two", run, idle="5m")
    most = 0
    with scaler(binaries, topics, "sleep 0.1", "workers_max = 4\nload_max = 0") as broker:
        publish(broker, "one", 120)
        wait_for("the first has all but one", lambda: info(broker, "one")["running"] == 3)
        all_done(broker, "one", 120)
        publish(broker, "two", 150)

        def have_moved():
            nonlocal most
            items = [info(broker, name) for name in ("one", "two")]
            most = max(most, sum(i["running"] + i["starting"] + i["leaving"] for i in items))
            return items[1]["running"] == 3 and items[0]["running"] == 1
        wait_for("its places went to the second", have_moved)
        assert most <= 4, most
        all_done(broker, "two", 150)
        assert any("place goes" in item["reason"] for item in history(broker, "one"))
        assert any(item["limit"] == "workers_max" for item in history(broker, "two"))
        check_once(broker, 270)
        assert broker.topic("one")["failed"] + broker.topic("two")["failed"] == 0


def test_short_of_memory_nothing_grows(binaries):
    topics = lambda run: pool("work", run, min=2)
    with scaler(binaries, topics, "sleep 0.1", "memory_free_min = 100%\nload_max = 0") as broker:
        publish(broker, "work", 60)
        wait_for("it says why", lambda: info(broker, "work")["limit"] == "memory_free_min")
        all_done(broker, "work", 60)
        assert changes(history(broker, "work")) == [(0, 2)], history(broker, "work")
        assert any(item["limit"] == "memory_free_min" for item in history(broker, "work"))


def test_worker_is_recycled_after_its_events(binaries):
    topics = lambda run: pool("work", run, recycle_events=10, max=2, stall="1h")
    with scaler(binaries, topics, "sleep 0.05") as broker:
        publish(broker, "work", 60)
        all_done(broker, "work", 60)
        check_once(broker, 60)
        workers = {pids[0] for pids in runs(broker).values()}
        assert len(workers) >= 2, workers
        recycled = [item for item in history(broker, "work") if item["reason"] == "recycled"]
        assert recycled and all(item["from"] == item["to"] == 1 for item in recycled)
        assert broker.topic("work")["failed"] == 0 and info(broker, "work")["restarts"] == 0


def test_worker_is_recycled_where_there_is_no_room_for_two(binaries):
    topics = lambda run: pool("work", run, recycle_events=10, max=1)
    with scaler(binaries, topics, "sleep 0.02", "workers_max = 1") as broker:
        publish(broker, "work", 40)
        all_done(broker, "work", 40)
        check_once(broker, 40)
        assert any(i["reason"] == "recycled" for i in history(broker, "work"))
        assert len({pids[0] for pids in runs(broker).values()}) > 1


def test_worker_is_recycled_when_it_has_grown(binaries):
    topics = lambda run: pool("work", run, recycle_rss="4KiB", max=2)  # all are larger than that
    with scaler(binaries, topics, "true") as broker:
        wait_for("one is there", lambda: info(broker, "work")["running"] == 1)
        begin = time.monotonic()
        wait_for("it was", lambda: any(i["reason"] == "recycled" for i in history(broker, "work")))
        assert time.monotonic() - begin > 5  # it is given some time before
        publish(broker, "work", 10)
        all_done(broker, "work", 10)
        check_once(broker, 10)


def test_pools_by_hand(binaries):
    topics = lambda run: pool("work", run, idle="1s", max=4)
    with scaler(binaries, topics, "sleep 0.05") as broker:
        wait_for("one is there", lambda: info(broker, "work")["running"] == 1)
        broker.cli("pool", "scale", "work", "3")
        wait_for("three are", lambda: info(broker, "work")["running"] == 3)
        shown = json.loads(broker.cli("pool", "info", "work", "--json"))
        assert (shown["scale"], shown["desired"], shown["managed"]) == (3, 3, True), shown
        assert "by hand" in broker.cli("pool", "ls")
        broker.cli("pool", "scale", "work", "5", code=4)  # above its max
        broker.cli("pool", "scale", "work", "0")
        wait_for("none is", lambda: info(broker, "work")["running"] == 0)
        broker.cli("pool", "scale", "work", "auto")
        wait_for("one is again", lambda: info(broker, "work")["running"] == 1)
        broker.cli("pool", "min", "work", "2")
        wait_for("two are", lambda: info(broker, "work")["running"] == 2)
        broker.cli("pool", "max", "work", "1", code=4)  # below its min
        broker.cli("pool", "min", "work", "auto")
        broker.cli("pool", "max", "work", "1")
        wait_for("one is", lambda: info(broker, "work")["running"] == 1)
        broker.cli("pool", "max", "work", "auto")
        wait_for("its max is back", lambda: info(broker, "work")["max"] == 4)
        broker.cli("topic", "scale", "work", "2")
        wait_for("two are at least", lambda: info(broker, "work")["running"] == 2)
        lines = [json.loads(line) for line in broker.cli("pool", "history", "work", "--json").splitlines()]
        assert [(i["from"], i["to"]) for i in lines][:2] == [(0, 1), (1, 3)], lines
        assert all(item["time"] and item["reason"] and "stalled_ms" in item for item in lines)
        assert "from 1 to 3: by hand" in broker.cli("pool", "history")
        assert "notice.scale" in broker.logged()
        broker.cli("pool", "info", "nothing", code=3)
        broker.cli("pool", "scale", "nothing", "1", code=3)
        broker.cli("pool", "scale", "work", "many", code=2)
        broker.cli("pool", "grow", "work", code=2)


def test_permanent_errors_grow_nothing(binaries):
    topics = lambda run: pool("work", run, "attempts = 3", stall="3s")
    with scaler(binaries, topics, "sleep 0.05\nexit 65") as broker:
        wait_for("one is there", lambda: info(broker, "work")["running"] == 1)
        publish(broker, "work", 100)
        wait_for("all are dead", lambda: broker.topic("work")["dead"] == 100, 120)
        assert changes(history(broker, "work")) == [(0, 1)], history(broker, "work")
        check_once(broker, 100)


def test_open_breaker_grows_nothing(binaries):
    topics = lambda run: pool("work", run, "attempts = 50", "retry_base = 100ms", "breaker = 50%",
                              "breaker_calls = 5", "breaker_cooldown = 1m", stall="3s")
    with scaler(binaries, topics, "exit 75") as broker:
        wait_for("one is there", lambda: info(broker, "work")["running"] == 1)
        publish(broker, "work", 200)
        wait_for("it is open", lambda: broker.cli("topic", "breaker", "work", "--json").count('"open"'))
        begin = time.monotonic()
        wait_for("time passes", lambda: time.monotonic() > begin + 6)
        wait_for("it says why", lambda: info(broker, "work")["hold"] == "breaker")
        item = info(broker, "work")
        assert (item["desired"], item["limit"]) == (1, "hold"), item
        assert changes(history(broker, "work")) == [(0, 1)], history(broker, "work")


def test_a_hold_is_told_of_a_topic_that_was_at_rest(binaries):
    topics = lambda run: pool("work", run, "breaker = 50%")
    with scaler(binaries, topics, "true") as broker:
        wait_for("one is there, and nothing happens", lambda: info(broker, "work")["running"] == 1)
        broker.cli("topic", "breaker", "work", "open")
        publish(broker, "work", 5)  # none of them is ever ready
        wait_for("it says why", lambda: info(broker, "work")["hold"] == "breaker")
        wait_for("and that they wait", lambda: info(broker, "work")["limit"] == "hold")
        broker.cli("topic", "breaker", "work", "closed")
        all_done(broker, "work", 5)
        wait_for("it is over", lambda: info(broker, "work")["hold"] == "")


def test_paused_topic_and_rate_grow_nothing(binaries):
    topics = lambda run: pool("held", run) + "\n" + pool("slow", run, "rate = 5/s")
    with scaler(binaries, topics, "true") as broker:
        for name in ("held", "slow"):
            wait_for("its worker is there", lambda: info(broker, name)["running"] == 1)
        broker.cli("topic", "pause", "held")
        publish(broker, "held", 50)
        publish(broker, "slow", 20)
        all_done(broker, "slow", 20)
        for name in ("held", "slow"):
            assert changes(history(broker, name)) == [(0, 1)], (name, history(broker, name))
        wait_for("it says why", lambda: info(broker, "held")["hold"] == "paused")
        broker.cli("topic", "resume", "held")
        all_done(broker, "held", 50)


def test_desired_size_is_published_for_others(binaries):
    with Broker(binaries, "work\n    pool\n        stall = 200ms\n        idle = 1s").start() as broker:
        with broker.socket(zmq.SUB, "stats") as sock:
            sock.subscribe("stats.pool.work")

            def wanted():
                assert sock.poll(60000), "nothing is published"
                return msgpack.unpackb(sock.recv_multipart()[1])
            assert (wanted()["desired"], wanted()["managed"]) == (0, False)
            publish(broker, "work", 5)
            wait_for("one is wanted", lambda: wanted()["desired"] >= 1)
            worker = Worker(broker, ["work"], credit=5)
            tags = [event[0] for event in worker.take(5)]
            state = wait_for("it is seen", lambda: (lambda s: s if s["others"] == 1 else None)(wanted()))
            assert state["desired"] >= 1 and state["running"] == 0, state
            worker.send(["ACK", tags])
            wait_for("none is wanted any more", lambda: wanted()["desired"] == 0)
            worker.close()


def test_busy_worker_is_let_finish(binaries):
    topics = lambda run: pool("work", run, idle="1s")
    hold = 'until [ -e "$(dirname "$0")/go" ]; do sleep 0.05; done'
    with scaler(binaries, topics, hold) as broker:
        broker.cli("pool", "scale", "work", "3")
        wait_for("three are there", lambda: info(broker, "work")["running"] == 3)
        publish(broker, "work", 3)
        wait_for("all run", lambda: broker.topic("work")["leased"] == 3)
        broker.cli("pool", "scale", "work", "0")
        wait_for("they leave", lambda: info(broker, "work")["leaving"] == 3)
        open(os.path.join(broker.directory, "go"), "w").close()
        all_done(broker, "work", 3)
        wait_for("they are gone", lambda: info(broker, "work")["leaving"] == 0)
        check_once(broker, 3)
        assert broker.topic("work")["failed"] == 0


# A worker that doesn't heed DRAIN. It keeps an event for some seconds, lengthening its lease; with 0
# it neither does that nor answers.
DEAF = """
import os, signal, sys, time, msgpack, zmq
signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1], "w").write(str(time.time())), os._exit(0)))
sock = zmq.Context().socket(zmq.DEALER)
sock.connect(os.environ["EVENTFLOW_BACK"])
say = lambda *words: sock.send(msgpack.packb(words))
say("READY", 1, {"topics": [os.environ["EVENTFLOW_TOPIC"]], "credit": 1,
                 "token": os.environ["EVENTFLOW_TOKEN"]})
tag, until = None, 0
while True:
    if sock.poll(200):
        header, *body = sock.recv_multipart()
        if body:
            tag, until = msgpack.unpackb(body[0])[0], time.time() + float(sys.argv[2])
    if tag and time.time() < until:
        say("EXTEND", [tag], 5000)
    elif tag and float(sys.argv[2]) > 0:
        say("ACK", [tag])
        tag = None
"""


def deaf(binaries, lease, seconds):
    """When such a worker is told TERM, when the lease of its event was to end and when it began."""
    with Broker(binaries) as broker:
        with open(os.path.join(broker.directory, "deaf.py"), "w") as file:
            file.write(DEAF)
        told = os.path.join(broker.directory, "told")
        command = f"exec /usr/bin/python3 {broker.directory}/deaf.py {told} {seconds}"
        with open(broker.config, "a") as file:
            file.write("\n".join("    " + line for line in
                                 pool("work", command, f"lease = {lease}").splitlines()) + "\n")
        broker.start()
        wait_for("it is there", lambda: info(broker, "work")["running"] == 1)
        publish(broker, "work", 1)
        wait_for("it has an event", lambda: broker.topic("work")["leased"] == 1)
        [item] = broker.admin(["EVENTS", {"topic": "work"}])[1]["items"]
        broker.cli("pool", "scale", "work", "0")
        wait_for("it was told", lambda: os.path.exists(told) and open(told).read())
        wait_for("it is gone", lambda: info(broker, "work")["leaving"] == 0)
        return float(open(told).read()), item, broker.topic("work")


def test_worker_that_ignores_drain_is_told_term_after_its_lease(binaries):
    told, item, _ = deaf(binaries, "4s", 0)
    assert told * 1000 >= item["deadline"] - 100, (told, item)


def test_worker_whose_lease_is_lengthened_is_let_finish(binaries):
    told, item, topic = deaf(binaries, "2s", 7)
    assert told * 1000 >= item["accepted"] + 6900, (told, item)
    assert (topic["done"], topic["failed"]) == (1, 0), topic


def living(pids):
    found = []
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as file:
                found += [pid] if file.read().rsplit(")", 1)[1].split()[0] != "Z" else []
        except OSError:
            continue
    return found


def zombies(parent):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                state, of = file.read().rsplit(")", 1)[1].split()[:2]
            found += [pid] if state == "Z" and int(of) == parent else []
        except OSError:
            continue
    return found


def test_nothing_is_left_of_a_killed_worker(binaries):
    topics = lambda run: pool("work", "exec sh {}/leaves.sh".format(run.split()[-1].rsplit("/", 1)[0]))
    with scaler(binaries, topics, "true") as broker:
        left = os.path.join(broker.directory, "left")
        script = os.path.join(broker.directory, "leaves.sh")
        with open(script, "w") as file:  # no worker, so that nobody else looks after its children
            file.write(f"sleep 1000 &\necho $! >> {left}\n(trap '' TERM; exec sleep 1000) &\n"
                       f"echo $! >> {left}\necho $$ >> {left}\nexec sleep 1000\n")
        try:
            first = wait_for("all have begun", lambda: (
                lambda pids: pids[-3:] if len(pids) % 3 == 0 else None)(
                    os.path.exists(left) and open(left).read().split() or "-"))
            wait_for("they are there", lambda: len(living(first)) == 3)
            before = info(broker, "work")["restarts"]  # it may have begun before its script was written
            os.kill(int(first[2]), signal.SIGKILL)
            wait_for("all are gone", lambda: not living(first))
            wait_for("its end is known", lambda: info(broker, "work")["restarts"] == before + 1)
            wait_for("it was started again", lambda: info(broker, "work")["starting"] == 1)
            assert "notice.worker_ended" in broker.logged(), broker.logged()
            wait_for("no zombie is left", lambda: not zombies(broker.process.pid))
            wait_for("all have begun again", lambda: len(open(left).read().split()) >= 6)
            rest = open(left).read().split()
            broker.stop()
            wait_for("nothing outlives the broker", lambda: not living(rest))
        finally:
            for pid in living(open(left).read().split()):
                os.kill(int(pid), signal.SIGKILL)


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def children(parent):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                found += [int(pid)] if int(file.read().rsplit(")", 1)[1].split()[1]) == parent else []
        except OSError:
            continue
    return found


def test_killed_workers_leave_nothing_and_lose_nothing(binaries):
    """EVENTFLOW_TEST_SECONDS makes it longer."""
    seconds = float(os.environ.get("EVENTFLOW_TEST_SECONDS", 12))
    dice = random.Random(4711)
    topics = lambda run: pool("work", run, "retry_base = 20ms", "attempts = 1000", min=4, max=8,
                              idle="5s")
    with scaler(binaries, topics, "sleep 0.02") as broker:
        wait_for("they are there", lambda: info(broker, "work")["running"] == 4)
        broker_pid = broker.process.pid
        killed = sent = 0
        sizes = []
        begin = time.monotonic()
        while time.monotonic() < begin + seconds or (killed <= 3 and time.monotonic() < begin + 10 * seconds):
            publish(broker, "work", 40)
            sent += 40
            pids = children(broker_pid)
            if pids and info(broker, "work")["running"] > 1:
                with contextlib.suppress(ProcessLookupError):  # one that was just reaped
                    os.kill(dice.choice(pids), signal.SIGKILL)
                    killed += 1
            wait_for("most are done", lambda: broker.topic("work")["ready"] < 80)
            sizes.append((resident(broker_pid), descriptors(broker_pid)))
        wait_for("all have ended", lambda: sum(broker.topic("work")[s] for s in ("done", "dead")) == sent, 240)
        dead = broker.topic("work")["dead"]  # two workers that die with the same event alone
        third = len(sizes) // 3
        early, late = max(sizes[third:2 * third]), max(sizes[2 * third:])
        print(f"{killed} killed, {sent} events, {dead} dead; resident {early[0] >> 10} KiB, then "
              f"{late[0] >> 10} KiB; descriptors {early[1]}, then {late[1]}")
        assert killed > 3 and dead <= 2
        is_flat = "asan" in binaries or late[0] < early[0] * 1.3 + (4 << 20)  # it keeps what is freed
        assert is_flat and late[1] <= early[1] + 8
        wait_for("no zombie is left", lambda: not zombies(broker_pid))
        left = children(broker_pid)
        broker.stop()
        wait_for("no worker is left", lambda: not living(left))
        broker.start()
        broker.check_law()


def test_worker_finds_programs_and_settings(binaries):
    topics = lambda run: pool("work", run)
    with scaler(binaries, topics, 'env > "$(dirname "$0")/environment"') as broker:
        publish(broker, "work", 1)
        all_done(broker, "work", 1)
        with open(os.path.join(broker.directory, "environment")) as file:
            found = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
        assert found["PATH"].split(":")[0] == os.path.realpath(binaries), found["PATH"]
        assert found["EVENTFLOW_CONFIG"] == os.path.realpath(broker.config)


def test_pool_behind_a_wildcard_address(binaries):
    topics = lambda run: pool("work", run)
    with scaler(binaries, topics, "true", "insecure = 1") as broker:
        broker.stop()
        with open(broker.config) as file:
            text = file.read()
        back = broker.endpoints["back"]
        with open(broker.config, "w") as file:
            file.write(text.replace(back, back.replace("127.0.0.1", "*")))
        broker.start()
        publish(broker, "work", 3)
        all_done(broker, "work", 3)


def test_second_term_ends_the_wait_for_workers(binaries):
    topics = lambda run: pool("work", "trap '' TERM; : > {}/deaf; while true; do sleep 0.1; done".format(
        run.split()[-1].rsplit("/", 1)[0]))
    with scaler(binaries, topics, "true") as broker:
        wait_for("it was started", lambda: info(broker, "work")["starting"] == 1)
        wait_for("it is deaf", lambda: os.path.exists(os.path.join(broker.directory, "deaf")))
        broker.process.send_signal(signal.SIGTERM)
        try:
            broker.process.wait(timeout=1.5)
            raise AssertionError("it didn't wait for its worker")
        except subprocess.TimeoutExpired:
            pass
        begin = time.monotonic()
        broker.process.send_signal(signal.SIGTERM)
        assert broker.process.wait(timeout=60) == 0
        assert time.monotonic() - begin < 9  # the wait is 10 s


def test_reload_takes_other_bounds(binaries):
    topics = lambda run: pool("work", run, max=3)
    with scaler(binaries, topics, "sleep 0.1", "workers_max = 1\nload_max = 0") as broker:
        publish(broker, "work", 100)
        wait_for("the machine is full", lambda: info(broker, "work")["limit"] == "workers_max")
        with open(broker.config) as file:
            text = file.read()
        with open(broker.config, "w") as file:
            file.write(text.replace("workers_max = 1", "workers_max = 3"))
        broker.cli("server", "reload")
        wait_for("it has grown", lambda: info(broker, "work")["running"] == 3)
        all_done(broker, "work", 100)
        check_once(broker, 100)
