"""The tool's commands about events, topics' gates and the server: what they ask, print and return.

Against a broker that answers from a table, so that every state can be shown. SPDX-License-Identifier: MIT"""
import json
import os
import subprocess
import threading
import time

import msgpack
import zmq

from support import Broker

HOUR = 3600 * 1000


class Answers:
    """An admin socket that answers each command from a table and keeps what it was asked."""

    def __init__(self, binaries, table):
        self.tool = os.path.join(os.path.abspath(binaries), "eventflow")
        self.table = table
        self.asked = []
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.linger = 0
        port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"tcp://127.0.0.1:{port}"
        self.end = self.context.socket(zmq.PAIR)
        self.end.bind("inproc://end")
        self.thread = threading.Thread(target=self.run)

    def run(self):
        ender = self.context.socket(zmq.PAIR)
        ender.connect("inproc://end")
        poller = zmq.Poller()
        poller.register(self.socket, zmq.POLLIN)
        poller.register(ender, zmq.POLLIN)
        while ender not in dict(poller.poll()):
            *envelope, request = self.socket.recv_multipart()
            request = msgpack.unpackb(request, strict_map_key=False)
            self.asked.append(request)
            answer = self.table.get(request[0], ["ERROR", "BAD_COMMAND", "unknown command"])
            if callable(answer):
                answer = answer(*request[1:])
            self.socket.send_multipart([*envelope, msgpack.packb(answer)])
        ender.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.send(b"")
        self.thread.join()
        self.context.destroy(linger=0)

    def run_tool(self, *words, code=0, zone="UTC"):
        done = subprocess.run([self.tool, *words], capture_output=True, text=True, timeout=60,
                              env=dict(os.environ, EVENTFLOW_ADMIN=self.endpoint, TZ=zone))
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout, done.stderr


def now():
    return int(time.time() * 1000)


def item(n=17, state="retrying", **more):
    event = ["email", "order-17", {"to": "a@example.org"}, {"type": "user.created", "key": "k1"}]
    return {"topic": "email", "n": n, "id": "order-17", "state": state, "attempts": 2,
            "accepted": now() - 2 * HOUR, "due": now() + 3 * HOUR, "segment": 3, "offset": 4096,
            "event": event, **more}


def history():
    then = now() - HOUR
    return [[500, "down", "Traceback", then, "mailer-1",
             {"attempt": 1, "host": "h1", "pid": 77, "start": then - 1500, "delay": 10000, "rule": "5*"}],
            ["LEASE", "", None, then + 20000, "mailer-2"]]


def items(*several):
    return ["OK", {"items": list(several), "next": None}]


def test_show_tells_the_story(binaries):
    shown = item(history=history())
    with Answers(binaries, {"EVENT.SHOW": items(shown)}) as broker:
        out, _ = broker.run_tool("event", "show", "order-17")
        assert broker.asked == [["EVENT.SHOW", "order-17", {}]], broker.asked
        lines = out.splitlines()
        assert lines[0].split(None, 1) == ["event", "email#17, retrying"], out
        assert "(in 2 h)" in out or "(in 3 h)" in out, out
        first = next(line for line in lines if line.startswith("  #1"))
        assert "took 1 s, by mailer-1 on h1 (pid 77): failed, code 500" in first, first
        at = lines.index(first)
        assert lines[at + 1].strip() == "down"
        assert lines[at + 2].strip() == "again after 10 s, by 5*"
        assert "by mailer-2: its lease ran out" in lines[at + 3], out
        assert '{"to":"a@example.org"}' in out


def test_show_as_json_keeps_all_and_gives_the_event_its_form(binaries):
    shown = item(history=history())
    with Answers(binaries, {"EVENT.SHOW": items(shown)}) as broker:
        out, _ = broker.run_tool("event", "show", "email#17", "--json")
        assert broker.asked == [["EVENT.SHOW", {"topic": "email", "n": 17}, {}]]
        got = json.loads(out)
        event = got.pop("event")
        assert got == {k: v for k, v in shown.items() if k != "event"}, got
        assert event["id"] == "order-17" and event["topic"] == "email" and event["key"] == "k1"
        assert event["payload"] == {"to": "a@example.org"} and event["attempts"] == 2
        assert [e["status_code"] for e in event["error"]] == [500, "LEASE"], event
        assert event["error"][0]["stack_trace"] == "Traceback"
        assert event["dispatch_date"].endswith("Z")


def test_an_id_may_hold_a_mark_and_belong_to_a_topic(binaries):
    with Answers(binaries, {"EVENT.SHOW": items(item())}) as broker:
        broker.run_tool("event", "show", "a b#17", "x#", "email#1x")
        broker.run_tool("event", "show", "email#17", "--topic", "db")
        assert [request[1:] for request in broker.asked] == [
            ["a b#17", {}], ["x#", {}], ["email#1x", {}], ["email#17", {"topic": "db"}]], broker.asked


def test_show_says_what_it_cannot_find(binaries):
    table = {"EVENT.SHOW": lambda name, _: items(item()) if name == "here" else
             ["ERROR", "NOT_FOUND", "no event has this id"]}
    with Answers(binaries, table) as broker:
        out, errors = broker.run_tool("event", "show", "gone", "here", code=3)
        assert "gone: NOT_FOUND: no event has this id" in errors and "email#17" in out


def test_explain_is_one_sentence(binaries):
    why = {"topic": "email", "n": 17, "state": "retrying", "reason": "backoff",
           "text": "backoff after attempt 2 of 5, code 500", "until": now() + 3 * 60 * 1000 + 25000}
    with Answers(binaries, {"EVENT.EXPLAIN": items(why)}) as broker:
        out, _ = broker.run_tool("event", "explain", "order-17")
        assert out.startswith("email#17 is retrying: backoff after attempt 2 of 5, code 500; until ")
        assert out.endswith("(in 3 m)\n") and len(out.splitlines()) == 1, out
        out, _ = broker.run_tool("event", "explain", "order-17", "--json")
        assert json.loads(out) == why


def test_list_goes_through_the_pages(binaries):
    def pages(options):
        first = options.get("after", 0)
        rows = [item(n=n) for n in range(first + 1, first + 1 + min(options["limit"], 3))]
        return ["OK", {"items": rows, "next": first + len(rows) if first < 6 else None}]
    with Answers(binaries, {"EVENTS": pages}) as broker:
        before = now()
        out, _ = broker.run_tool("event", "ls", "--topic", "email", "--state", "retrying",
                                 "--type", "user.*", "--since", "1h", "--until",
                                 "2030-01-31T08:00:00Z", "--json")
        assert [json.loads(line)["n"] for line in out.splitlines()] == list(range(1, 10))
        asked = broker.asked[0][1]
        assert before - HOUR <= asked.pop("since") <= now() - HOUR
        assert asked == {"topic": "email", "state": "retrying", "type": "user.*",
                         "until": 1896076800000, "limit": 100}, asked
        assert [request[1].get("after") for request in broker.asked] == [None, 3, 6]
        del broker.asked[:]
        out, errors = broker.run_tool("event", "ls", "--limit", "4")
        assert len(out.splitlines()) == 5 and "--after '4'" in errors, (out, errors)
        assert [request[1]["limit"] for request in broker.asked] == [4, 1]
        broker.run_tool("event", "ls", "--limit", "1", "--after", "4")
        assert broker.asked[-1][1]["after"] == 4


def test_tables_fit_their_content_and_hide_control_characters(binaries):
    event = ["email", "a\x1b[31mb", 1]
    rows = [item(n=1), {**item(n=123456, event=event), "id": event[1]}]
    with Answers(binaries, {"EVENTS": items(*rows)}) as broker:
        out, _ = broker.run_tool("event", "ls")
        assert "\x1b" not in out and "a?[31mb" in out, out
        head, first, second = out.splitlines()
        assert first.index("retrying") == head.index("STATE") == second.index("retrying")
        assert max(map(len, (head, first, second))) <= 80, out
        broker.table["EVENTS"] = ["ERROR", "NOT_FOUND", "no such topic"]
        out, _ = broker.run_tool("event", "ls", code=3)
        assert out == ""


def test_one_breaker_is_shown_by_its_name(binaries):
    with Answers(binaries, {"TOPIC.INFO": info()}) as broker:
        out, _ = broker.run_tool("topic", "breaker", "email", "smtp.example.org")
        assert len(out.splitlines()) == 2 and "smtp.example.org" in out, out
        _, errors = broker.run_tool("topic", "breaker", "email", "nowhere", code=3)
        assert "no breaker of nowhere" in errors


def test_what_operators_do_with_events(binaries):
    done = lambda name, _: (["OK", {"topic": "email", "n": 17}] if name != "gone" else
                            ["ERROR", "NOT_FOUND", "no event has this id"])
    table = {"EVENT." + name: done for name in ("CANCEL", "RUN", "DELAY", "RELEASE")}
    with Answers(binaries, table) as broker:
        _, errors = broker.run_tool("event", "cancel", "a", "gone", "b", code=3)
        assert "cancel: 2 of 3 events" in errors and "gone: NOT_FOUND" in errors
        out, _ = broker.run_tool("event", "run-now", "a", "--json")
        assert json.loads(out) == {"topic": "email", "n": 17}
        broker.run_tool("event", "delay", "a", "b", "5m")
        broker.run_tool("event", "delay", "a", "2030-01-31T08:00:00Z", "--topic", "email")
        broker.run_tool("event", "release", "a", "--to", "w2")
        assert broker.asked == [
            ["EVENT.CANCEL", "a", {}], ["EVENT.CANCEL", "gone", {}], ["EVENT.CANCEL", "b", {}],
            ["EVENT.RUN", "a", {}], ["EVENT.DELAY", "a", {"delay": 300000}],
            ["EVENT.DELAY", "b", {"delay": 300000}],
            ["EVENT.DELAY", "a", {"topic": "email", "at": 1896076800000}],
            ["EVENT.RELEASE", "a", {"to": "w2"}]], broker.asked


def test_dry_run_only_looks(binaries):
    table = {"EVENT.SHOW": lambda name, _: items(item(n=int(name), state="leased" if name == "2" else
                                                      "scheduled"))}
    with Answers(binaries, table) as broker:
        out, errors = broker.run_tool("event", "cancel", "1", "2", "3", "--dry-run")
        assert "would cancel 2 events" in errors and "email#2 is leased" in errors, errors
        assert len(out.splitlines()) == 3
        assert {request[0] for request in broker.asked} == {"EVENT.SHOW"}


def test_wrong_words_are_told_before_anything_is_asked(binaries):
    with Answers(binaries, {}) as broker:
        for words, hint in ((("evnt",), "did you mean event?"),
                            (("event", "explian", "x"), "did you mean explain?"),
                            (("event", "ls", "--stat", "done"), "did you mean --state?"),
                            (("event", "ls", "--state", "redy"), "did you mean ready?"),
                            (("event", "ls", "--since", "soon"), "expected a duration"),
                            (("event", "ls", "--limit", "x"), "expected a whole number"),
                            (("event", "show"), "expected an id"),
                            (("event", "delay", "x"), "expected ids, then"),
                            (("event", "delay", "x", "soon"), "expected a duration"),
                            (("event", "cancel", "x", "--to", "w"), "goes with release"),
                            (("topic", "breaker", "email", "opne"), "did you mean open?"),
                            (("topic", "keys"), "expected a topic"),
                            (("topic", "infos", "email"), "did you mean info?"),
                            (("server", "relaod"), "did you mean reload?"),
                            (("config", "shw"), "did you mean show?")):
            _, errors = broker.run_tool(*words, code=2)
            assert hint in errors, (words, errors)
        assert broker.asked == []
        for command in ("event", "topic", "server", "config", "publish"):
            out, _ = broker.run_tool(command, "--help")
            assert "    eventflow " + command in out or command in ("server", "config"), out


def info():
    return ["OK", {"settings": {"lease": "30s", "attempts": 5, "retry_on": "429 fixed base=10s"},
                   "stats": {"ready": 7}, "quota": {"subjects": 2, "units": 21},
                   "keys": {"busy": 1, "blocked": 2, "parked": 0},
                   "dedupe": {"ids": 10, "bytes": 400},
                   "breakers": [{"downstream": "", "state": "closed", "forced": False, "until": 0,
                                 "calls": 3, "failures": 0, "opened": 0, "waiting": 0},
                                {"downstream": "smtp.example.org", "state": "open", "forced": True,
                                 "until": now() + 5 * 60 * 1000 + 25000, "calls": 10, "failures": 8, "opened": 1,
                                 "waiting": 4}]}]


def test_topic_info_and_breakers(binaries):
    table = {"TOPIC.INFO": lambda name: info() if name == "email" else
             ["ERROR", "UNKNOWN_TOPIC", "no topic emial; did you mean email?"],
             "BREAKER.SET": lambda topic, downstream, state: ["OK", {
                 "downstream": downstream or "", "state": "open", "forced": True, "until": 0,
                 "calls": 0, "failures": 0, "opened": 1, "waiting": 0}]}
    with Answers(binaries, table) as broker:
        out, _ = broker.run_tool("topic", "info", "email")
        assert [line for line in out.splitlines() if line[0] != " "] == [
            "settings", "stats", "quota", "keys", "dedupe", "breakers"], out
        row = next(line for line in out.splitlines() if "smtp" in line).split()
        assert row[:7] == ["smtp.example.org", "open", "hand", "10", "8", "1", "4"], row
        assert "(in 5 m)" in out and "(the topic)" in out
        out, _ = broker.run_tool("topic", "info", "email", "--json")
        assert json.loads(out)["settings"]["attempts"] == 5
        _, errors = broker.run_tool("topic", "info", "emial", code=3)
        assert "did you mean email" in errors
        out, _ = broker.run_tool("topic", "breaker", "email", "--json")
        assert [json.loads(line)["state"] for line in out.splitlines()] == ["closed", "open"]
        del broker.asked[:]
        broker.run_tool("topic", "breaker", "email", "open")
        broker.run_tool("topic", "breaker", "email", "smtp.example.org", "auto", "--json")
        assert broker.asked == [["BREAKER.SET", "email", None, "open"],
                                ["BREAKER.SET", "email", "smtp.example.org", "auto"]]


def test_keys_and_unpark(binaries):
    keys = [{"key": "k1", "n": 5, "state": "parked", "reason": "attempt 2 failed", "since": now() - HOUR,
             "waiting": 12},
            {"key": b"\x00\xff", "n": 9, "state": "blocked", "reason": "backoff", "since": now(),
             "waiting": 1}]
    table = {"TOPIC.KEYS": items(*keys), "TOPIC.UNPARK": ["OK", {"unparked": 13}]}
    with Answers(binaries, table) as broker:
        out, _ = broker.run_tool("topic", "keys", "email")
        assert "(60 m ago)" in out and '{"$bin":"AP8="}' in out and len(out.splitlines()) == 3, out
        out, errors = broker.run_tool("topic", "unpark", "email", "--dry-run")
        assert "k1" in out and "AP8=" not in out
        _, errors = broker.run_tool("topic", "unpark", "email", "k1")
        assert "unparked 13 events of email" in errors
        broker.run_tool("topic", "unpark", "email")
        assert [r for r in broker.asked if r[0] != "TOPIC.KEYS"] == [
            ["TOPIC.UNPARK", "email", "k1"], ["TOPIC.UNPARK", "email", None]]


def test_reload_and_config_show(binaries):
    table = {"RELOAD": ["OK", {"changed": ["topic/email/rate"], "needs_restart": ["server/data"]}],
             "TOPICS": items({"topic": "email"}, {"topic": "$invalid"}), "TOPIC.INFO": info()}
    with Answers(binaries, table) as broker:
        out, errors = broker.run_tool("server", "reload")
        assert out.splitlines() == ["changed topic/email/rate", "needs restart server/data"]
        assert "1 changed, 1 wait" in errors
        out, _ = broker.run_tool("config", "show")
        assert out == ('topic\n    email\n        lease = 30s\n        attempts = 5\n'
                       '        retry_on = "429 fixed base=10s"\n'), out
        broker.table["RELOAD"] = ["ERROR", "BAD_COMMAND", "eventflow.cfg:7: lease: expected a duration"]
        _, errors = broker.run_tool("server", "reload", code=4)
        assert "eventflow.cfg:7" in errors


def test_a_running_broker_reloads_by_the_tool(binaries):
    with Broker(binaries, "work\n    lease = 30s").start() as broker:
        rewritten = open(broker.config).read().replace("lease = 30s", "lease = 7s")
        with open(broker.config, "w") as file:
            file.write(rewritten)
        assert broker.cli("server", "reload").splitlines() == ["changed topic/work/lease"]
        assert broker.topic("work")["lease_ms"] == 7000
        with open(broker.config, "w") as file:
            file.write(rewritten.replace("lease = 7s", "lease = often"))
        broker.cli("server", "reload", code=4)
        assert broker.topic("work")["lease_ms"] == 7000


def test_dates_are_local_for_people(binaries):
    shown = item(state="done", accepted=1700000000000, due=0)
    with Answers(binaries, {"EVENT.SHOW": items(shown)}) as broker:
        out, _ = broker.run_tool("event", "show", "x", zone="Asia/Tokyo")
        assert "2023-11-15 07:13:20 (" in out and "due " not in out, out
