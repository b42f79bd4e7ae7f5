"""The worker email with a broker and a real mail server: what is published arrives, whatever fails.

SPDX-License-Identifier: MIT"""
import collections
import os
import random
import signal
import subprocess
import tempfile
import time

from mail_server import DROP, HANG, Mailbox
from support import Broker, Publisher, free_ports, wait_for

TOPICS = """defaults
    retry_base = 20ms
    retry_cap = 200ms
    attempts = 1000
    retry_jitter = 0
db
email"""


class Mailer:
    """A worker email of a broker."""

    def __init__(self, broker, server, *words):
        url = server if isinstance(server, str) else server.url()
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        self.process = subprocess.Popen(
            [os.path.join(broker.binaries, "eventflow-worker"), "email", "--server", url, "--from",
             "shop@example.org", *words], stderr=self.log,
            env=dict(broker.environment, EVENTFLOW_BACK=broker.endpoints["back"]))

    def logged(self):
        with open(self.log.name) as file:
            return file.read()

    def end(self, how=signal.SIGTERM, seconds=60):
        self.process.send_signal(how)
        code = self.process.wait(seconds)
        assert how == signal.SIGKILL or code == 0, (code, self.logged())

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.kill()
        code = self.process.wait(60)
        log = self.logged()
        self.log.close()
        assert kind or ("AddressSanitizer" not in log and "runtime error" not in log), (code, log)


def publish(broker, mails, topic="email", meta=None):
    """{id: payload}"""
    publisher = Publisher(broker)
    publisher.publish([[topic, name, payload] + ([meta] if meta else []) for name, payload in mails.items()])
    assert publisher.confirm()[2]["accepted"] == len(mails)
    publisher.close()


def mail(number, **fields):
    return {"to_email": f"to{number}@example.org", "message": f"text of {number}", **fields}


def done(broker, count, seconds=120, topic="email"):
    wait_for(f"{count} are done", lambda: broker.topic(topic)["done"] == count, seconds)


def message_id(name):
    return f"<{name}@example.org>"


def assert_arrived(mailbox, sent, exactly=False):
    """Every mail of {id: number} is there, the repeats with the same id and text."""
    got = collections.Counter()
    numbers = {message_id(name): number for name, number in sent.items()}
    for each in list(mailbox.mails):
        number = numbers[each.id]
        assert each.recipients == [f"to{number}@example.org"] and each.text().strip() == f"text of {number}"
        got[each.id] += 1
    assert set(got) == set(numbers), set(numbers) - set(got)
    assert not exactly or set(got.values()) == {1}, got.most_common(3)
    return got


def test_the_example_payloads_arrive_by_their_routes(binaries):
    """Those of the notification service, of the task queue, and one with a template."""
    with tempfile.TemporaryDirectory() as templates, Mailbox() as mailbox, \
            Broker(binaries, TOPICS).start() as broker:
        with open(os.path.join(templates, "USER_SIGNUP.txt"), "w") as file:
            file.write("Subject: Welcome, {{name}}\n\nDear {{name}}, your address is {{email}}.\n")
        with Mailer(broker, mailbox, "--templates", templates) as mailer:
            publisher = Publisher(broker)  # no topic: by the default routes
            publisher.publish([
                [None, "b1", {"to_email": "test@example.com", "message": "Testing my first event-driven app!"},
                 {"type": "USER_NOTIFICATION", "user": "user-123"}],
                [None, "d1", "user@example.com", {"type": "email-notification"}],
                [None, "e1", {"name": "Ann", "email": "ann@example.com"}, {"type": "USER_SIGNUP"}]])
            assert publisher.confirm()[2]["accepted"] == 3
            done(broker, 3)
            mailer.end()
        mails = {each.id: each for each in mailbox.mails}
        assert len(mailbox.mails) == 3
        b1, d1, e1 = (mails[message_id(name)] for name in ("b1", "d1", "e1"))
        assert b1.recipients == ["test@example.com"]
        assert b1.text().strip() == "Testing my first event-driven app!"
        assert d1.recipients == ["user@example.com"] and "email-notification" in d1.text()
        assert e1.recipients == ["ann@example.com"] and e1.message["Subject"] == "Welcome, Ann"
        assert e1.text().strip() == "Dear Ann, your address is ann@example.com."


def misbehave(mailbox, dice, share):
    """A rule: some of everything goes wrong."""
    wrong = ["451 later", "421 closing", DROP]

    def rule(command, argument):
        if command in ("QUIT", "NOOP", "RSET") or dice.random() > share:
            return None
        if command in ("TEXT", "TAKEN"):
            return DROP
        return dice.choice(wrong)
    mailbox.rule = rule


def test_everything_published_arrives_whatever_the_server_does(binaries):
    seed = random.randrange(10**9)
    print("seed", seed)
    sent = {f"m{i}": i for i in range(150)}
    with Mailbox(pipelining=seed % 2 == 0) as mailbox, Broker(binaries, TOPICS).start() as broker:
        misbehave(mailbox, random.Random(seed), 0.05)
        with Mailer(broker, mailbox, "--concurrency", "10", "--probe", "200ms") as mailer:
            publish(broker, {name: mail(number) for name, number in sent.items()})
            done(broker, len(sent), 120)
            mailbox.rule = lambda command, argument: None
            mailer.end()
        assert_arrived(mailbox, sent)
        broker.check_law()


def test_refused_for_good_is_a_dead_letter_with_its_history(binaries):
    with Mailbox() as mailbox, Broker(binaries, TOPICS).start() as broker, Mailer(broker, mailbox):
        tries = []

        def rule(command, argument):
            if command == "RCPT" and "to1@" in argument:
                tries.append(1)
                return "450 4.2.1 mailbox busy" if len(tries) < 3 else "550 5.1.1 no such user"
            return None
        mailbox.rule = rule
        publish(broker, {"one": mail(1), "two": mail(2)})
        done(broker, 1)
        wait_for("it is dead", lambda: broker.topic("email")["dead"] == 1)
        wait_for("its letter is there", lambda: broker.admin(["DLQ.LIST", "email"])[1]["items"])
        letter = broker.admin(["DLQ.SHOW", "email", 1])[1]
        assert [error[0] for error in letter["errors"]] == [450, 450, 550], letter
        assert letter["errors"][2][1] == "5.1.1 no such user"
        assert_arrived(mailbox, {"two": 2}, exactly=True)
        broker.check_law()


def test_each_recipient_gets_it_once_though_some_are_refused(binaries):
    """The follow-up event serves those that were refused for a while, as often as it takes."""
    with Mailbox() as mailbox, Broker(binaries, TOPICS).start() as broker, Mailer(broker, mailbox):
        refusals = collections.Counter()

        def rule(command, argument):
            if command != "RCPT":
                return None
            if "gone" in argument:
                return "550 nobody"
            if "slow" in argument and refusals[argument] < 1:
                refusals[argument] += 1
                return "451 greylisted"
            return None
        mailbox.rule = rule
        everybody = ["a@example.org", "slow1@example.org", "gone@example.org", "slow2@example.org"]
        publish(broker, {"m": {"to": everybody, "text": "to all"}})
        done(broker, 2)
        got = [recipient for each in mailbox.mails for recipient in each.recipients]
        assert sorted(got) == ["a@example.org", "slow1@example.org", "slow2@example.org"]
        assert {each.id for each in mailbox.mails} == {message_id("m")}
        assert {str(each.message["To"]) for each in mailbox.mails} == {", ".join(everybody)}
        broker.check_law()


def test_a_server_that_comes_back_gets_all(binaries):
    sent = {f"m{i}": i for i in range(40)}
    with Broker(binaries, TOPICS).start() as broker:
        [port] = free_ports(1)
        with Mailbox(port=port) as mailbox:
            with Mailer(broker, mailbox, "--probe", "200ms") as mailer:
                publish(broker, {"first": mail(1000)})
                done(broker, 1)
                mailbox.close()

                def worker():
                    return broker.admin(["WORKERS"])[1]["items"][0]
                wait_for("it is unwell", lambda: not worker()["healthy"])
                assert "CONNECT" in worker()["unhealthy"], worker()
                publish(broker, {name: mail(number) for name, number in sent.items()})
                last = list(sent)[-1]
                wait_for("they wait for it", lambda: broker.admin(
                    ["EVENT.EXPLAIN", last])[1]["items"][0]["reason"] == "unhealthy")
                assert broker.topic("email")["done"] == 1
                assert broker.topic("email")["ready"] == len(sent), broker.topic("email")
                with Mailbox(port=port) as again:
                    wait_for("it is well again", lambda: worker()["healthy"])
                    done(broker, 1 + len(sent))
                    assert_arrived(again, sent, exactly=True)
                    mailer.end()


def test_term_in_the_middle_leaves_nothing_half_sent_and_nothing_lost(binaries):
    """Workers are told to end again and again while the server is slow; some are killed."""
    sent = {f"m{i}": i for i in range(120)}
    with Mailbox() as mailbox, Broker(binaries, TOPICS).start() as broker:
        taken = []

        def rule(command, argument):
            if command == "TAKEN":
                taken.append(1)
                time.sleep(0.01)  # everything waits
            return None
        mailbox.rule = rule
        publish(broker, {name: mail(number) for name, number in sent.items()})
        for turn in range(8):
            with Mailer(broker, mailbox, "--concurrency", "5", "--grace", "20s") as mailer:
                before = len(taken)
                wait_for("it has sent some", lambda: len(taken) >= before + 4 or len(taken) >= len(sent))
                started = time.monotonic()
                mailer.end(signal.SIGKILL if turn % 4 == 3 else signal.SIGTERM)
                assert time.monotonic() - started < 25
            count = broker.topic("email")["done"]
            assert count <= len({each.id for each in mailbox.mails}), "done without being sent"
        with Mailer(broker, mailbox) as mailer:
            done(broker, len(sent))
            mailer.end()
        got = assert_arrived(mailbox, sent)
        repeats = sum(got.values()) - len(sent)
        assert repeats <= 2 * 5, repeats  # no more than were in hand of those that were killed
        broker.check_law()


def test_term_while_the_server_hangs_ends_within_the_grace(binaries):
    """What is not confirmed by then goes back uncounted, and is sent by the next one."""
    for command in ("RCPT", "END", "TAKEN"):
        with Mailbox() as mailbox, Broker(binaries, TOPICS).start() as broker:
            mailbox.rule = lambda said, argument, command=command: HANG if said == command else None
            publish(broker, {"m": mail(1)})
            with Mailer(broker, mailbox, "--grace", "1s", "--timeout", "60s") as mailer:
                wait_for("it hangs", lambda: any(c[0] == ("DATA" if command != "RCPT" else "RCPT")
                                                 for c in mailbox.commands))
                started = time.monotonic()
                mailer.end()
                assert time.monotonic() - started < 20
            wait_for("it is back", lambda: broker.topic("email")["ready"] == 1)
            assert broker.topic("email")["done"] == 0
            mailbox.rule = lambda said, argument: None
            mailbox.hang_up()
            with Mailer(broker, mailbox) as mailer:
                done(broker, 1)
                mailer.end()
            assert_arrived(mailbox, {"m": 1}, exactly=command != "TAKEN")
