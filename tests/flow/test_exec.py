"""exec: persistent children, batches, where and as whom commands run. SPDX-License-Identifier: MIT"""
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time

import msgpack

from support import Broker, wait_for
from test_answers import Back, exec_worker

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
# A persistent child of the tests: what the payload says is what it does.
CHILD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "child.py")


class Skip(Exception):
    pass


class Persistent(Back):
    """A worker with persistent children, which tell what they hold."""

    def __init__(self, binaries, *words, **environment):
        self.directory = tempfile.mkdtemp(prefix="ef-test-")
        self.path = os.path.join(self.directory, "told")
        open(self.path, "w").close()
        super().__init__(*exec_worker(binaries, "--persistent", *words, "--", sys.executable, CHILD),
                         TELL=self.path, **environment)

    def told(self, count):
        """So many events are in children's hands: which, and whose."""
        def lines():
            with open(self.path) as file:
                return [json.loads(line) for line in file if line.endswith("\n")]
        return wait_for(f"{count} are held", lambda: lines() if len(lines()) >= count else None)

    def __exit__(self, *_):
        super().__exit__()
        shutil.rmtree(self.directory)


def answers(back, count, kinds=("ACK", "NACK")):
    """The next answers by their tags, ranges taken apart."""
    found = {}
    while len(found) < count:
        header = back.receive(kinds)
        for item in header[1]:
            first, last = item if isinstance(item, list) else (item, item)
            found.update({tag: header[0:1] + header[2:] for tag in range(first, last + 1)})
    return found


def test_persistent_child_answers_in_every_way(binaries):
    for words in ((), ("--format", "msgpack")):
        with Persistent(binaries, "--children", "1", *words, FORMAT="".join(words[1:])) as back:
            said = {}
            for tag, answer in enumerate([
                    {"result": "done", "value": {"n": [1, None]}, "downstream": "smtp"},
                    {"result": "done", "emit": [{"topic": "db", "payload": 7}, ["db", "e", 8]]},
                    {"result": "retry", "code": "LATE", "text": "not now", "trace": "a\nb", "retry": 1500},
                    {"result": "dead", "code": 550}, {"result": "release"}], 1):
                back.deliver(tag, {"answer": answer}, {"key": "k"})
                said.update(answers(back, 1))
                said[tag][-1].pop("seq", None) if isinstance(said[tag][-1], dict) else None
            assert said[1] == ["ACK", {"downstream": "smtp", "result": {"n": [1, None]}}], said
            assert said[2][-1] == [["db", None, 7], ["db", "e", 8]], said
            assert said[3] == ["NACK", "LATE", "not now", {"retry": 1500, "trace": "a\nb"}], said
            assert said[4] == ["NACK", 550, "", {"dead": True}], said
            assert said[5] == ["NACK", 0, "", {"release": True}], said


def test_persistent_children_share_the_events(binaries):
    with Persistent(binaries, "--children", "2", "--per-child", "3", "--concurrency", "6") as back:
        assert back.ready[2]["credit"] == 6
        for tag in range(1, 7):
            back.deliver(tag, {"held": True})
        got = back.told(6)
        pids = {item["pid"] for item in got}
        assert len(pids) == 2 and {item["tag"] for item in got} == set(range(1, 7)), got
        for pid in pids:
            assert sum(item["pid"] == pid for item in got) == 3, got
        back.deliver(7, {"answer": {"result": "done"}})  # more than was asked for: it waits
        back.send(["CANCEL", [7], "not wanted"])
        assert answers(back, 1)[7][-1].get("release")


def test_persistent_child_that_ends_fails_what_it_had(binaries):
    with Persistent(binaries, "--children", "1", "--per-child", "5", "--concurrency", "5") as back:
        back.deliver(1, {"exit": 3, "say": "first\nno good"})
        header = back.receive("NACK")
        assert header[1:4] == [[1], "EXIT_3", "no good"], header
        assert header[4]["trace"] == "first\nno good\n", header
        back.deliver(2, {"kill": 9})
        header = back.receive("NACK")
        assert header[1:4] == [[2], "SIGNAL_9", "the command ended without an answer to this event"]
        for tag in (3, 4):
            back.deliver(tag, {"held": True})
        back.told(2)
        back.deliver(5, {"exit": 0})
        failed = answers(back, 3)
        assert {words[1] for words in failed.values()} == {"EXIT_0"}, failed
        back.deliver(6, {"answer": {"result": "done"}})  # another one is started
        assert answers(back, 1)[6][0] == "ACK"


def test_persistent_child_that_never_lives_makes_the_worker_unwell(binaries):
    with Broker(binaries, "defaults\n    retry_base = 10ms\n    attempts = 100").start() as broker:
        bad = os.path.join(broker.directory, "bad")
        open(bad, "w").close()
        worker = broker.worker_process(
            "--persistent", "--", "sh", "-c",
            f'[ -e "{bad}" ] && echo "no such thing" >&2 && exit 4; exec "{sys.executable}" "{CHILD}"', topic="api")
        broker.cli("publish", '{"answer": {"result": "done"}}', "--topic", "api", "--count", "5")
        wait_for("it says that it isn't well", lambda: any(
            "no such thing" in item["unhealthy"] for item in broker.admin(["WORKERS"])[1]["items"]), 120)
        os.remove(bad)
        wait_for("it is well again, and all is done", lambda: broker.topic("api")["done"] == 5, 120)
        worker.terminate()
        assert worker.wait(timeout=60) == 0


def test_persistent_child_that_says_nonsense_is_stopped(binaries):
    with Persistent(binaries, "--children", "1", "--per-child", "2", "--concurrency", "2") as back:
        back.deliver(1, {"held": True})
        first = back.told(1)[0]["pid"]
        back.deliver(2, {"write": "what do you mean?\n"})
        failed = answers(back, 2)
        for tag in (1, 2):
            assert failed[tag][1] == "OUTPUT", failed
            assert failed[tag][2].startswith("standard output: expected ") and (
                failed[tag][2].endswith(": what do you mean?")), failed
        wait_for("it is gone", lambda: not os.path.exists(f"/proc/{first}"))
        back.deliver(3, {"answer": {"result": "done", "tag": 99}})  # not an event of its own
        assert answers(back, 1)[3][1] == "OUTPUT"
        back.deliver(4, {"answer": {"result": "done"}})
        assert answers(back, 1)[4][0] == "ACK"


def test_persistent_child_that_takes_too_long_is_ended(binaries):
    with Persistent(binaries, "--children", "1", "--per-child", "3", "--concurrency", "3",
                    "--timeout", "12s") as back:
        back.deliver(1, {"held": True})
        back.told(1)
        end = time.monotonic() + 3
        wait_for("most of its time is over", lambda: time.monotonic() > end)
        back.deliver(2, {"held": True})
        said = answers(back, 2)
        assert said[1][1] == "TIMEOUT" and "release" not in said[1][-1], said
        assert said[2][-1].get("release"), said
        back.deliver(3, {"answer": {"result": "done"}})
        assert answers(back, 1)[3][0] == "ACK"


def test_persistent_child_is_told_what_is_cancelled(binaries):
    with Persistent(binaries, "--children", "1", "--per-child", "3", "--concurrency", "3") as back:
        back.deliver(1, {"held": True})
        pid = back.told(1)[0]["pid"]
        back.send(["CANCEL", [1], "released by an operator"])
        assert answers(back, 1)[1][-1].get("release")  # it answers at once: retry
        back.deliver(2, {"held": True, "deaf": True})
        back.deliver(3, {"held": True})
        back.told(3)
        back.send(["CANCEL", [2], "released by an operator"])
        assert os.path.exists(f"/proc/{pid}")
        said = answers(back, 2)  # after a while it is ended
        assert said[2][-1].get("release") and said[3][-1].get("release"), said


def test_persistent_children_are_replaced_after_so_many_events(binaries):
    with Persistent(binaries, "--children", "1", "--max-events", "3") as back:
        pids = []
        for tag in range(1, 8):
            back.deliver(tag, {"answer": {"result": "done"}, "pid": True})
            pids.append(answers(back, 1)[tag][-1]["result"])
        assert len(set(pids)) == 3 and pids == sorted(pids, key=pids.index), pids
        assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1], pids
        wait_for("those before are gone", lambda: not any(
            os.path.exists(f"/proc/{pid}") for pid in pids[:6]))


def test_persistent_errors_are_passed_on(binaries):
    with Broker(binaries).start() as broker:
        log = os.path.join(broker.directory, "worker.log")
        shell = f'exec "{os.path.abspath(binaries)}/eventflow-worker" exec --topic api --persistent -- ' \
                f'"{sys.executable}" "{CHILD}" 2>"{log}"'
        worker = subprocess.Popen(["sh", "-c", shell],
                                  env=dict(broker.environment, EVENTFLOW_BACK=broker.endpoints["back"]))
        broker.programs.append(worker)
        broker.cli("publish", '{"answer": {"result": "done"}, "say": "one\\ntwo"}', "--topic", "api")
        wait_for("it is done", lambda: broker.topic("api")["done"] == 1)
        wait_for("it was passed on", lambda: re.search(
            r"^child \d+: one\nchild \d+: two\n", open(log).read(), re.M))
        worker.terminate()
        assert worker.wait(timeout=60) == 0


def readme(name):
    with open(os.path.join(ROOT, "workers", "exec", "README.md")) as file:
        return re.search(r"```\w*\n# readme: %s\n(.*?)```" % name, file.read(), re.S)[1]


def test_persistent_examples_work_as_shown(binaries):
    with Broker(binaries, "defaults\n    attempts = 1").start() as broker:
        python = broker.worker_process("--persistent", "--", sys.executable, "-c", readme("persistent"), topic="api")
        shell = broker.worker_process("--persistent", "--chdir", broker.directory, "--concurrency", "1", "--", "sh",
                                      "-c", readme("persistent_shell"), topic="email")
        for n in range(20):
            broker.cli("publish", '{"n": %d}' % n, "--topic", "api", "--id", f"n{n}")
            broker.cli("publish", '"back\\\\slash \\"%d\\""' % n, "--topic", "email")
        broker.cli("publish", '{}', "--topic", "api")
        wait_for("all are done", lambda: broker.topic("api")["done"] == broker.topic("email")["done"] == 20)
        wait_for("one has failed", lambda: broker.topic("api")["dead"] == 1)
        letter = wait_for("it is listed", lambda: broker.cli("dlq", "ls", "api", "--json"))
        assert json.loads(letter)["error"][0] == "BAD_NUMBER"
        with open(os.path.join(broker.directory, "seen.jsonl")) as file:
            seen = [json.loads(line)["event"]["payload"] for line in file]
        assert seen == [f'back\\slash "{n}"' for n in range(20)], seen
        for worker in (python, shell):
            worker.terminate()
        assert [worker.wait(timeout=60) for worker in (python, shell)] == [0, 0]


def test_batch_is_one_command_for_many(binaries):
    script = 'cat > in; n=$(wc -l < in); echo "$n" >&2; grep -q bad in && exit 65; grep -q later in && exit 75; exit 0'
    with Back(*exec_worker(binaries, "--batch", "4", "--concurrency", "8", "--children", "1", "--chdir", "/tmp",
                           "--", "sh", "-c", "cd $(mktemp -d) || exit 1; " + script)) as back:
        def batch(first, *payloads):
            back.send(["EVENTS"], b"".join(msgpack.packb([first + i, 1, ["api", None, payload]])
                                           for i, payload in enumerate(payloads)))
            return answers(back, len(payloads))
        assert {words[0] for words in batch(1, "a", "b", "c").values()} == {"ACK"}
        said = batch(11, "a", "bad")
        assert [said[tag][1:3] for tag in (11, 12)] == [[65, "2"]] * 2, said
        assert all(words[-1]["dead"] for words in said.values()), said
        said = batch(21, "later", "b", "c", "d", "e", "f")  # more than one batch
        assert [said[tag][0:3] for tag in range(21, 25)] == [["NACK", 75, "4"]] * 4, said
        assert said[25][0] == said[26][0] == "ACK", said


def test_batch_with_answers_for_each(binaries):
    script = """import json, sys
for line in sys.stdin:
    request = json.loads(line)
    if request["event"]["payload"] != "silent":
        print(json.dumps({"tag": request["tag"], "result": request["event"]["payload"]}))
"""
    with Back(*exec_worker(binaries, "--batch", "10", "--concurrency", "10", "--answers", "--", sys.executable, "-c",
                           script)) as back:
        back.send(["EVENTS"], b"".join(msgpack.packb([i, 1, ["api", None, payload]]) for i, payload in enumerate(
            ["done", "retry", "dead", "silent"], 1)))
        said = answers(back, 4)
        assert said[1][0] == "ACK" and said[2][1] == 0 and said[3][-1]["dead"], said
        assert said[4][1] == "UNANSWERED" and "dead" not in said[4][-1], said


def test_exec_refuses_settings_that_do_not_go_together(binaries):
    for words, text in ((["--persistent", "--batch", "3"], "not both"), (["--result", "--emit"], "not both"),
                        (["--answers"], "--answers needs --batch"), (["--per-child", "3"], "need --persistent"),
                        (["--persistent", "--whole"], "--whole is for"), (["--env", "novalue"], "NAME=VALUE"),
                        (["--concurrency", "10", "--persistent", "--children", "2", "--per-child", "3"],
                         "concurrency of at most 6"), (["--batch", "9"], "concurrency of at least 9"),
                        (["--concurrency", "1001"], "at most 1000"), (["--user", "nobody-knows"], "there is no user"),
                        (["--format", "xml", "--persistent"], "json|msgpack")):
        done = subprocess.run(exec_worker(binaries, *words, "--", "true"), capture_output=True, text=True, timeout=20)
        assert done.returncode == 2 and text in done.stderr, (words, done)
    done = subprocess.run(exec_worker(binaries), capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and "expected a command" in done.stderr, done


def test_command_has_its_directory_environment_and_limits(binaries):
    script = 'cd . && echo "{\\"cwd\\": \\"$(pwd)\\", \\"a\\": \\"$A\\", \\"b\\": \\"$B\\", ' \
             '\\"home\\": \\"$HOMELESS\\", \\"files\\": $(ulimit -n), \\"memory\\": $(ulimit -v), ' \
             '\\"cpu\\": $(ulimit -t), \\"nice\\": $(nice), \\"topic\\": \\"$EVENTFLOW_TOPIC\\"}"'
    words = ["--result", "--chdir", "/usr", "--env", "A=1=2", "--env", "B=x", "--env", "B=y", "--files", "77",
             "--memory", "512MiB", "--cpu", "7s", "--nice", "3"]
    with Back(*exec_worker(binaries, *words, "--", "sh", "-c", script), HOMELESS="here") as back:
        back.deliver(1, 1)
        result = back.receive("ACK")[2]["result"]
        assert result == {"cwd": "/usr", "a": "1=2", "b": "y", "home": "here", "files": 77, "memory": 524288,
                          "cpu": 7, "nice": os.nice(0) + 3, "topic": "api"}, result
    with Back(*exec_worker(binaries, "--result", "--clear-env", "--env", "A=1", "--", "/usr/bin/env")) as back:
        back.deliver(1, 1)
        names = {line.split("=")[0] for line in back.receive("ACK")[2]["result"].splitlines()}
        assert names == {"A"} | {"EVENTFLOW_" + name for name in (
            "ID", "TOPIC", "TYPE", "ATTEMPT", "TAG", "DEADLINE", "KEY", "USER", "DOWNSTREAM")}, names


def test_settings_come_from_the_file_and_the_environment(binaries):
    with Broker(binaries).start() as broker:
        with open(broker.config, "a") as file:
            file.write('worker\n    exec\n        command = "echo $A-$B"\n        result = 1\n'
                       '        env = "A=file"\n        chdir = "/nowhere"\n')
        with Back(*exec_worker(binaries, "--env", "B=flag"), EVENTFLOW_CONFIG=broker.config,
                  EVENTFLOW_EXEC_CHDIR="/tmp") as back:
            back.deliver(1, 1)
            assert back.receive("ACK")[2]["result"] == "file-flag"


def test_command_that_cannot_run_says_why(binaries):
    for words, text in ((["--chdir", "/nowhere", "--", "true"], "/nowhere: No such file or directory"),
                        (["--", "/nowhere/command"], "/nowhere/command: No such file or directory")):
        with Back(*exec_worker(binaries, *words)) as back:
            back.deliver(1, 1)
            assert back.receive("NACK")[2:4] == [127, text]


def test_processor_time_is_bounded(binaries):
    for spin in ("while :; do :; done", f'"{sys.executable}" -c "while True: pass"; exit $?'):
        with Back(*exec_worker(binaries, "--cpu", "1s", "--", "sh", "-c", spin)) as back:
            back.deliver(1, 1)
            assert back.receive("NACK", 60)[2] == "CPU_LIMIT"


def test_command_runs_as_another_user(binaries):
    if os.geteuid() != 0:
        raise Skip("only root can become somebody else")
    nobody = pwd.getpwnam("nobody")
    script = 'echo "$(id -u) $(id -g) $(id -G) $USER $(grep -c PDEATH /proc/self/status)"; exec sleep ${1:-0}'
    with Back(*exec_worker(binaries, "--result", "--user", "nobody", "--", "sh", "-c", script)) as back:
        back.deliver(1, 1)
        said = back.receive("ACK")[2]["result"].split()
        assert said[:4] == [str(nobody.pw_uid), str(nobody.pw_gid), str(nobody.pw_gid), "nobody"], said
    with Back(*exec_worker(binaries, "--result", "--user", "nobody:root", "--", "sh", "-c", "id -g")) as back:
        back.deliver(1, 1)
        assert back.receive("ACK")[2]["result"] == 0


def test_a_slow_reader_holds_up_nobody(binaries):
    """Events of more bytes than a pipe takes, and answers of as many."""
    code = """import json, sys, time
for line in sys.stdin:
    time.sleep(0.02)
    request = json.loads(line)
    answer = {"tag": request["tag"], "result": "retry", "code": "LONG", "trace": "x" * 300000}
    if request["event"]["payload"] != "y" * 200000:
        answer["result"] = "dead"
    print(json.dumps(answer), flush=True)
"""
    with Back(*exec_worker(binaries, "--persistent", "--children", "2", "--per-child", "10", "--concurrency", "20",
                           "--", sys.executable, "-c", code)) as back:
        for tag in range(1, 21):
            back.deliver(tag, "y" * 200000)
        for tag, words in answers(back, 20).items():
            assert words[1] == "LONG" and "dead" not in words[-1] and len(words[-1]["trace"]) == 4000, (tag, words)


def test_a_child_that_closes_its_pipes_is_replaced(binaries):
    for number in (0, 1):
        with Back(*exec_worker(binaries, "--persistent", "--children", "1", "--concurrency", "1", "--", sys.executable,
                               "-c", f"import os, time; os.read(0, 9); os.close({number}); time.sleep(600)")) as back:
            for tag in (1, 2) if number else (1,):
                back.deliver(tag, 1)
                if number == 0:
                    back.send(["CANCEL", [1], "so that more is written"])
                assert answers(back, 1)[tag][-1].get("release")


def test_a_batch_that_takes_too_long_is_ended(binaries):
    with Back(*exec_worker(binaries, "--batch", "3", "--concurrency", "3", "--timeout", "500ms", "--", "sleep",
                           "600")) as back:
        batch = b"".join(msgpack.packb([tag, 1, ["api", None, tag]]) for tag in (1, 2, 3))
        back.send(["EVENTS"], batch + msgpack.packb([4, 1, ["api", None, 4]]))  # the last waits for its turn until its time is over: it wasn't begun
        said = answers(back, 4)
        assert {said[tag][1] for tag in (1, 2, 3)} == {"TIMEOUT"}, said
        assert said[4][-1] == {"seq": said[4][-1]["seq"], "release": True}, said
    with Back(*exec_worker(binaries, "--batch", "3", "--concurrency", "3", "--", "sleep", "600")) as back:
        back.send(["EVENTS"], batch)
        for tag in (1, 2, 3):  # nobody wants any of them
            back.send(["CANCEL", [tag], "of the test"])
        assert all(words[-1].get("release") for words in answers(back, 3).values())


def test_no_room_for_a_command_burns_no_attempt(binaries):
    for words in (["--", "sleep", "0.1"], ["--persistent", "--", sys.executable, CHILD]):
        with Broker(binaries).start() as broker:
            shell = f'ulimit -n 40; exec "{os.path.abspath(binaries)}/eventflow-worker" exec --topic api ' \
                    '--concurrency 20 "$@"'
            worker = subprocess.Popen(["sh", "-c", shell, "sh", *words],
                                      env=dict(broker.environment, EVENTFLOW_BACK=broker.endpoints["back"]))
            broker.programs.append(worker)
            broker.cli("publish", '{"answer": {"result": "done"}}', "--topic", "api", "--count", "60")
            wait_for("all are done", lambda: broker.topic("api")["done"] == 60, 120)
            assert broker.topic("api")["failed"] == 0
            worker.terminate()
            assert worker.wait(timeout=60) == 0


def test_persistent_children_are_fast(binaries):
    """The floor is for busy machines: one child in Python takes 70,000 events/s on an idle one."""
    if "asan" in binaries:
        raise Skip("asan says nothing of speed")
    count, code = 20000, "import sys\nfor line in sys.stdin:\n    if '\"event\"' in line:\n        " \
        "print('{\"tag\":' + line[7:line.index(',')] + ',\"result\":\"done\"}', flush=True)\n"
    with Broker(binaries).start() as broker:
        broker.cli("publish", '{"to": "a@example.org"}', "--topic", "api", "--count", str(count))
        worker = broker.worker_process("--persistent", "--children", "1", "--concurrency", "200", "--", sys.executable,
                                       "-c", code, topic="api")
        wait_for("it begins", lambda: broker.topic("api")["done"])
        start, before = time.monotonic(), broker.topic("api")["done"]
        wait_for("all are done", lambda: broker.topic("api")["done"] == count, 120)
        rate = (count - before) / (time.monotonic() - start)
        print(f"persistent: {rate:.0f} events/s")
        assert rate > 2000 and broker.topic("api")["failed"] == 0
        worker.terminate()
        assert worker.wait(timeout=60) == 0
