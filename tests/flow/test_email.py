"""The worker email against a real mail server: what it says, and what it answers to each reply.

With a back socket that shows every answer; tests/flow/test_email_system.py has a broker between.
SPDX-License-Identifier: MIT"""
import base64
import os
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import msgpack

from mail_server import DROP, HANG, Mailbox, ca_file
from support import free_ports, wait_for
from test_answers import Back

SHORT = ("--timeout", "2s")


class Post(Back):
    """A back socket, and a worker that sends to `server`."""

    def __init__(self, binaries, server, *words, **environment):
        url = server if isinstance(server, str) else server.url()
        self.answers = {}
        self.pinged = None  # what the last PING said
        super().__init__(os.path.join(os.path.abspath(binaries), "eventflow-worker"), "email",
                         "--topic", "api", "--server", url, "--from", "shop@example.org", *words,
                         **environment)

    def mail(self, tag, to="ann@example.org", text="Hello", **fields):
        self.deliver(tag, {"to": to, "message": text, **fields})

    def answer(self, tag, seconds=60.0):
        """[ACK or NACK, …] of this tag, its options last."""
        deadline = time.monotonic() + seconds
        while tag not in self.answers:
            header = self.receive_any(("ACK", "NACK"), deadline - time.monotonic())
            for each in header[1]:
                for one in range(each[0], each[1] + 1) if isinstance(each, list) else [each]:
                    self.answers[one] = header
        return self.answers.pop(tag)

    def receive_any(self, wanted, seconds):
        deadline = time.monotonic() + seconds
        while True:
            if not self.socket.poll(max(0, int((deadline - time.monotonic()) * 1000))):
                raise AssertionError(f"no {wanted} within {seconds} s")
            self.worker, header, *body = self.socket.recv_multipart()
            header = msgpack.unpackb(header, strict_map_key=False)
            if header[0] == "PING":
                self.send(["PONG"])
                self.pinged = header[1] if len(header) > 1 else {}
            if header[0] in wanted:
                unpacker = msgpack.Unpacker()
                unpacker.feed(b"".join(body))
                events = list(unpacker)
                return header + [events] if events else header


def only(options):
    """A rule that says something at one command."""
    return lambda command, argument: options.get(command)


def assert_nack(answer, code, text="", dead=False, downstream=None):
    assert answer[0] == "NACK", answer
    assert answer[2] == code and text in answer[3], answer
    assert answer[4].get("dead", False) == dead, answer
    if downstream:
        assert answer[4]["downstream"] == downstream, answer


# ---- What is sent is what was published


def text_of(mail, subtype="plain"):
    text = mail.text(subtype)
    return text if text is None else text.replace("\r\n", "\n").rstrip("\n")


def random_text(dice, lines):
    words = ["word", "wörter", "слово", "語", "😀", "=?utf-8?q?x?=", ".", "..", "--=_x", "a=b", "tab\there",
             "From here", "x" * 90, "<b>&amp;</b>", " ", "trailing  "]
    return "\n".join(" ".join(dice.choice(words) for _ in range(dice.randrange(8)))
                     for _ in range(lines)).rstrip()


def check_random_mails(binaries, mailbox, count):
    seed = random.randrange(10**9)
    dice = random.Random(seed)
    sent = {}
    with Post(binaries, mailbox, "--concurrency", "20") as post:
        for tag in range(1, count + 1):
            name = dice.choice(["Ann", "Jörg Müller", "B, \"Ann\"", "語" * 30, "A. B. C."])
            quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
            payload = {"to": [f"{quoted} <to{tag}@example.org>", "two@example.org"],
                       "subject": random_text(dice, 1).replace("\t", " ")}
            if dice.random() < 0.3:
                payload["cc"] = "cc@example.org"
            if dice.random() < 0.3:
                payload["bcc"] = ["Hidden <bcc@example.org>"]
            if dice.random() < 0.8:
                payload["text"] = random_text(dice, dice.randrange(1, 9))
            if "text" not in payload or dice.random() < 0.4:
                payload["html"] = "<p>" + random_text(dice, 3) + "</p>"
            if dice.random() < 0.4:
                payload["attachments"] = [
                    {"name": dice.choice(["a.bin", "ü b.txt", "long-" * 30 + ".x", 'q"uote']), "type": "image/png",
                     "content": dice.randbytes(dice.randrange(3000))},
                    {"content": base64.b64encode(b"abc").decode(), "encoding": "base64"}]
            sent[tag] = payload, name
            post.deliver(tag, payload)
        for tag in sent:
            assert post.answer(tag)[0] == "ACK", (seed, tag)
    mails = {mail.id: mail for mail in mailbox.mails}
    assert len(mails) == len(mailbox.mails) == count
    for tag, (payload, name) in sent.items():
        mail = mails[f"<e{tag}@example.org>"]
        message = mail.message
        wanted = [f"to{tag}@example.org", "two@example.org"]
        wanted += ["cc@example.org"] * ("cc" in payload) + ["bcc@example.org"] * ("bcc" in payload)
        assert mail.recipients == wanted and mail.sender == "shop@example.org", (seed, mail.recipients)
        first = message["To"].addresses[0]
        # Python 3.11 keeps the space between two encoded words in a name
        assert first.display_name.replace(" ", "") == name.replace(" ", ""), (seed, message["To"])
        assert first.addr_spec == wanted[0], (seed, message["To"])
        assert message["Subject"].rstrip() == (payload["subject"]).rstrip(), (seed, message["Subject"], payload)
        assert b"bcc@" not in mail.content
        for key, kind in (("text", "plain"), ("html", "html")):
            assert text_of(mail, kind) == payload.get(key), (seed, text_of(mail, kind), payload.get(key))
        got = [(part.get_filename(), part.get_content()) for part in message.iter_attachments()]
        assert got == [(each.get("name", "attachment"), each["content"] if "name" in each else b"abc")
                       for each in payload.get("attachments", [])], (seed, payload)
        for line in mail.content.split(b"\r\n"):
            assert len(line) <= 998 and b"\n" not in line and b"\r" not in line, (seed, line)


def test_what_arrives_is_what_was_published(binaries):
    with Mailbox() as mailbox:
        check_random_mails(binaries, mailbox, 60)
        assert mailbox.connections <= 6 and mailbox.most_open <= 5, mailbox.connections


def test_what_arrives_in_one_go_is_the_same(binaries):
    with Mailbox(pipelining=True) as mailbox:
        check_random_mails(binaries, mailbox, 60)


def test_a_large_mail_arrives_whole(binaries):
    with Mailbox(pipelining=True) as mailbox, Post(binaries, mailbox) as post:
        content = random.randbytes(3_000_000)
        post.mail(1, text=".dots\n" * 1000, attachments=[{"name": "big", "content": content}])
        assert post.answer(1)[0] == "ACK"
        [part] = mailbox.mails[0].message.iter_attachments()
        assert part.get_content() == content


def test_a_done_mail_says_who_took_it(binaries):
    with Mailbox() as mailbox, Post(binaries, mailbox) as post:
        post.mail(7, to=["a@example.org", "b@example.org"])
        answer = post.answer(7)
        assert answer[2] == {"seq": 1, "downstream": f"127.0.0.1:{mailbox.port}",
                             "result": {"to": ["a@example.org", "b@example.org"],
                                        "message_id": "<e7@example.org>", "reply": "250 2.0.0 taken"}}
    with Mailbox() as mailbox, Post(binaries, mailbox, "--downstream", "mail") as post:
        post.mail(7)
        assert post.answer(7)[2]["downstream"] == "mail"


def test_a_repeat_bears_the_same_id(binaries):
    with Mailbox() as mailbox, Post(binaries, mailbox) as post:
        mailbox.rule = only({"END": "451 later"})
        post.mail(1)
        assert_nack(post.answer(1), 451, "later")
        mailbox.rule = only({"TAKEN": DROP})
        for _ in range(2):
            post.mail(1)
            assert_nack(post.answer(1), "CONNECTION", "may have been delivered")
        assert {mail.id for mail in mailbox.mails} == {"<e1@example.org>"} and len(mailbox.mails) == 2


# ---- Outcomes


def test_4xx_is_transient_and_5xx_is_not(binaries):
    for pipelining in (False, True):
        with Mailbox(pipelining=pipelining) as mailbox, Post(binaries, mailbox) as post:
            here = f"127.0.0.1:{mailbox.port}"
            tag = 0
            for command in ("MAIL", "RCPT", "DATA", "END"):
                for code in (421, 450, 451, 452, 500, 550, 552, 554):
                    tag += 1
                    mailbox.rule = only({command: f"{code} 5.1.1 because of {command}"})
                    post.mail(tag)
                    assert_nack(post.answer(tag), code, f"because of {command}", code >= 500, here)
            mailbox.rule = only({})
            post.mail(100)
            assert post.answer(100)[0] == "ACK"
            assert len(mailbox.mails) == 1


def test_each_recipient_has_an_outcome_of_its_own(binaries):
    def rule(command, argument):
        return "550 nobody" if "gone" in argument else "451 later" if "full" in argument else None

    for pipelining in (False, True):
        with Mailbox(pipelining=pipelining) as mailbox, Post(binaries, mailbox) as post:
            mailbox.rule = rule
            mail = {"to": ["a@example.org", "full@example.org"], "cc": "gone@example.org", "text": "x",
                    "bcc": ["full2@example.org", "b@example.org"], "subject": "s"}
            post.deliver(1, mail, {"type": "T", "key": "k"})
            answer = post.answer(1)
            assert answer[0] == "ACK" and mailbox.mails[0].recipients == ["a@example.org", "b@example.org"]
            assert answer[2]["result"] == {
                "to": ["a@example.org", "b@example.org"], "message_id": "<e1@example.org>",
                "reply": "250 2.0.0 taken", "rest": ["full@example.org", "full2@example.org"],
                "refused": [{"to": "gone@example.org", "code": 550, "text": "nobody"}]}
            [[topic, event, payload, meta]] = answer[3]
            assert (topic, event, meta) == ("api", "e1/rest", {"type": "T", "key": "k", "delay": 5000})
            assert payload == {**mail, "rest": {"of": "e1", "to": ["full@example.org", "full2@example.org"]}}
            mailbox.rule = only({})
            post.deliver(2, payload, meta)
            assert post.answer(2)[0] == "ACK" and len(mailbox.mails) == 2
            first, second = mailbox.mails
            assert second.recipients == ["full@example.org", "full2@example.org"]
            assert second.id == first.id and second.message["To"] == first.message["To"]
            mailbox.rule = rule
            post.mail(3, to=["gone@example.org", "full@example.org"])
            assert_nack(post.answer(3), 451, "later")
            post.mail(4, to=["gone@example.org", "gone2@example.org"])
            answer = post.answer(4)
            assert_nack(answer, 550, "nobody", dead=True)
            assert answer[4]["trace"] == "gone@example.org: 550 nobody\ngone2@example.org: 550 nobody"
            assert len(mailbox.mails) == 2


def test_many_recipients(binaries):
    """More than a result can hold: those that are left are told all the same."""
    def rule(command, argument):
        return "451 later" if command == "RCPT" and int(argument.split("-")[1]) % 2 else None

    for pipelining in (False, True):
        with Mailbox(pipelining=pipelining, rule=rule) as mailbox, Post(binaries, mailbox) as post:
            everybody = [f"{'x' * 30}-{i}-{'y' * 20}@{'z' * 60}.{'z' * 60}.example.org" for i in range(1000)]
            post.mail(1, to=everybody)
            answer = post.answer(1, 60)
            assert answer[0] == "ACK" and mailbox.mails[0].recipients == everybody[::2]
            [[_, _, payload, _]] = answer[3]
            assert payload["rest"]["to"] == everybody[1::2]
            assert mailbox.mails[0].message["To"].count("@") == 1000
            post.mail(2, to=everybody + ["one-more@example.org"])
            assert_nack(post.answer(2), "TOO_MANY", "to", dead=True)


def test_a_dropped_connection_is_transient(binaries):
    for pipelining in (False, True):
        with Mailbox(pipelining=pipelining) as mailbox, Post(binaries, mailbox) as post:
            for tag, command in enumerate(("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "TEXT", "END"), 1):
                mailbox.rule = only({command: DROP})
                mailbox.hang_up()
                post.mail(tag)
                answer = post.answer(tag)
                assert_nack(answer, "CONNECTION", downstream=f"127.0.0.1:{mailbox.port}")
                assert ("may have been delivered" in answer[3]) == (command in ("TEXT", "END")), answer
            mailbox.rule = only({})
            post.mail(10)
            assert post.answer(10)[0] == "ACK"
            assert [mail.id for mail in mailbox.mails] == ["<e10@example.org>"]


def test_a_server_that_hangs_is_left_after_the_event_s_time(binaries):
    for command in ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "END", "TAKEN"):
        with Mailbox(rule=only({command: HANG})) as mailbox, \
                Post(binaries, mailbox, *SHORT, "--connections", "2") as post:
            post.mail(1)
            answer = post.answer(1)
            assert_nack(answer, "TIMEOUT", downstream=f"127.0.0.1:{mailbox.port}")
            assert ("may have been delivered" in answer[3]) == (command in ("END", "TAKEN")), answer
            mailbox.rule = only({})
            mailbox.hang_up()
            for tag in range(2, 30):  # two seconds may be short for a busy machine
                post.mail(tag)
                if post.answer(tag)[0] == "ACK":
                    break
            else:
                raise AssertionError("nothing is sent any more")


def test_one_that_hangs_holds_up_no_other(binaries):
    """A mail that the server doesn't confirm stands still alone: others go on, heartbeats too."""
    with Mailbox() as mailbox, Post(binaries, mailbox, "--timeout", "60s", "--concurrency", "20") as post:
        def rule(command, argument):
            if command == "END" and not held:
                held.append(1)
                return HANG
            return None
        held = []
        mailbox.rule = rule
        post.mail(1)
        wait_for("one hangs", lambda: held)
        for tag in range(2, 52):
            post.mail(tag)
        for tag in range(2, 52):
            assert post.answer(tag)[0] == "ACK"
        assert post.receive_any(("PING",), 60)[0] == "PING"
        assert len(mailbox.mails) == 50


def test_a_cancelled_mail_is_not_sent(binaries):
    with Mailbox() as mailbox, Post(binaries, mailbox) as post:
        mailbox.rule = only({"DATA": HANG})
        post.mail(1)
        wait_for("it is at DATA", lambda: ("DATA", None) in mailbox.commands)
        post.send(["CANCEL", [1], "an operator took it away"])
        assert post.answer(1)[4].get("release")
        wait_for("its connection is closed", lambda: not mailbox.open)
        assert not mailbox.mails


def test_no_server_is_transient_and_told(binaries):
    [port] = free_ports(1)
    cases = [(f"smtp://127.0.0.1:{port}", "CONNECT"), ("smtp://nowhere.invalid:25", "RESOLVE")]
    for url, code in cases:
        with Post(binaries, url) as post:
            post.mail(1)
            assert_nack(post.answer(1, 60), code, downstream=url[7:])
    with socket.socket() as silent:  # takes connections and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen(10)
        url = f"smtp://127.0.0.1:{silent.getsockname()[1]}"
        with Post(binaries, url, "--ready-timeout", "300ms") as post:
            post.mail(1)
            assert_nack(post.answer(1), "TIMEOUT")
    with socket.socket() as full:  # takes none: its line is full
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(4)]
        for each in others:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        with Post(binaries, f"smtp://127.0.0.1:{full.getsockname()[1]}", "--connect-timeout", "300ms") as post:
            post.mail(1)
            assert_nack(post.answer(1), "TIMEOUT", "no connection")
        for each in others:
            each.close()


class Babbler:
    """A server that says to each command what `says` has for it, in pieces of so many bytes."""

    def __init__(self, piece=1000, **says):
        self.piece = piece
        self.says = {"": "220 hi", "EHLO": "250-x\r\n250 PIPELINING", "MAIL": "250 ok", "RCPT": "250 ok",
                     "DATA": "354 go", ".": "250 taken", **says}
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(20)
        self.url = f"smtp://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.talk, args=(peer,), daemon=True).start()

    def talk(self, peer):
        with peer, peer.makefile("rb") as lines:
            try:
                self.say(peer, "")
                is_text = False
                for line in lines:
                    word = line.split()[0].decode() if line.split() else ""
                    if is_text and word != ".":
                        continue
                    is_text = word == "DATA" and self.says["DATA"].startswith("354")
                    if word in self.says:
                        self.say(peer, word)
            except OSError:
                pass

    def say(self, peer, word):
        said = self.says[word].encode() + b"\r\n"
        for at in range(0, len(said), self.piece):
            peer.sendall(said[at:at + self.piece])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def test_a_server_that_makes_no_sense_is_no_reason_to_end(binaries):
    odd = ({"": "hello"}, {"": "x" * 70000}, {"EHLO": "nothing"}, {"MAIL": "hello"}, {"MAIL": "354 what"},
           {"MAIL": "250-one\r\n251 two"}, {"RCPT": "\0\xff"}, {"DATA": "250 what"}, {"DATA": "x" * 70000},
           {"MAIL": "250 " + "x" * 70000}, {".": "354 what"}, {".": "999 what"}, {"RCPT": "199 wait"})
    for says in odd:
        with Babbler(**says) as babbler, Post(binaries, babbler.url, "--ready-timeout", "2s") as post:
            post.mail(1)
            answer = post.answer(1)
            assert answer[0] == "NACK" and not answer[4].get("dead"), (says, answer)
            babbler.says.update({"": "220 hi", "EHLO": "250 x", "MAIL": "250 ok", "RCPT": "250 ok", "DATA": "354 go",
                                 ".": "250 taken"})
            post.mail(2)
            assert post.answer(2)[0] == "ACK", says
    with Babbler(piece=1, EHLO="250-" + "\r\n250-".join("WORD%d" % i for i in range(20)) + "\r\n250 PIPELINING") \
            as babbler, Post(binaries, babbler.url) as post:
        for tag in range(1, 20):
            post.mail(tag)
        for tag in range(1, 20):
            assert post.answer(tag)[0] == "ACK"
    with Babbler(**{".": "250 taken\r\n250 again"}) as babbler, Post(binaries, babbler.url) as post:
        for tag in range(1, 20):  # what it says too much ends the connection, and counts for no other mail
            post.mail(tag)
        for tag in range(1, 20):
            assert post.answer(tag)[0] == "ACK"


def test_what_cannot_be_sent_dies_at_once_and_names_the_field(binaries):
    with Mailbox() as mailbox, Post(binaries, mailbox) as post:
        cases = [({"text": "x"}, "NO_RECIPIENT", "to_email"),
                 ({"to": "a@b"}, "NO_TEXT", "message"),
                 ({"to": "a@b\r\nRCPT TO:<c@d>", "text": "x"}, "BAD_ADDRESS", "to"),
                 ({"to": "A\r\nBcc: c@d <a@b>", "text": "x"}, "BAD_ADDRESS", "to"),
                 ({"to": "a@b", "cc": "x\0@b", "text": "x"}, "BAD_ADDRESS", "cc"),
                 ({"to": "a@b", "reply_to": "a>@b", "text": "x"}, "BAD_ADDRESS", "reply_to"),
                 ({"to": "a@b", "subject": "x\r\nBcc: c@d", "text": "x"}, "BAD_FIELD", "subject"),
                 ({"to": "a@b", "subject": "x\ny", "text": "x"}, "BAD_FIELD", "subject"),
                 ({"to": "a@b", "text": "x", "attachments": [{"name": "a\r\nX: y", "content": b""}]},
                  "BAD_ATTACHMENT", "name"),
                 ({"to": "a@b", "text": "x", "attachments": [{"type": "a/b\r\nX: y", "content": b""}]},
                  "BAD_ATTACHMENT", "type"), (7, "NO_TEXT", "message")]
        for tag, (payload, code, word) in enumerate(cases, 1):
            post.deliver(tag, payload)
            assert_nack(post.answer(tag), code, word, dead=True)
        assert not [c for c in mailbox.commands if c[0] == "MAIL"]


def test_addresses_past_ascii_go_where_they_can(binaries):
    with Mailbox() as mailbox, Post(binaries, mailbox) as post:
        post.mail(1, to="jörg@bücher.example")
        assert post.answer(1)[0] == "ACK"
        assert mailbox.mails[0].recipients == ["jörg@bücher.example"]
        assert ("MAIL", "FROM:<shop@example.org>") != mailbox.commands[2] and "SMTPUTF8" in mailbox.commands[2][1]
        post.mail(2)
        assert post.answer(2)[0] == "ACK" and "SMTPUTF8" not in [c for c in mailbox.commands if c[0] == "MAIL"][1][1]
    with Mailbox(utf8=False) as mailbox, Post(binaries, mailbox) as post:
        post.mail(1, to="jörg@example.org")
        assert_nack(post.answer(1), "SMTPUTF8", dead=True)
        post.mail(2)
        assert post.answer(2)[0] == "ACK"


def test_a_mail_too_large_for_the_server_is_not_begun(binaries):
    with Mailbox(size=5000) as mailbox, Post(binaries, mailbox) as post:
        post.mail(1, text="x" * 6000)
        assert_nack(post.answer(1), "TOO_LARGE", "5000", dead=True)
        assert not [c for c in mailbox.commands if c[0] == "MAIL"]


# ---- Connections


def test_probes_follow_the_server(binaries):
    def health(post, wanted):
        deadline = time.monotonic() + 90
        while not (post.pinged and post.pinged.get("health") == wanted):
            assert time.monotonic() < deadline, post.pinged
            post.receive_any(("PING",), 60)

    with Mailbox() as mailbox, Post(binaries, mailbox, "--probe", "200ms") as post:
        def said(command):
            return [c[0] for c in mailbox.commands].count(command)

        wait_for("it asks again and again", lambda: said("NOOP") > 2)
        before = said("NOOP")
        mailbox.rule = only({"NOOP": DROP})  # a connection that is gone is no server that is gone
        wait_for("it has lost some", lambda: said("NOOP") > before + 2)
        mailbox.rule = only({"NOOP": "421 going down", "CONNECT": "554 no mail here"})
        health(post, "unhealthy")
        assert "554 no mail here" in post.pinged["reason"]
        mailbox.rule = only({})
        health(post, "ok")
        assert mailbox.most_open <= 2


def test_connections_are_kept_and_bounded(binaries):
    with Mailbox() as mailbox, Post(binaries, mailbox, "--concurrency", "30", "--connections", "3", "--idle",
                                    "1s") as post:
        for tag in range(1, 101):
            post.mail(tag)
        for tag in range(1, 101):
            assert post.answer(tag)[0] == "ACK"
        assert len(mailbox.mails) == 100
        assert mailbox.most_open <= 3 and mailbox.connections <= 3, mailbox.connections
        wait_for("they are closed when not used", lambda: not mailbox.open)
        assert ("QUIT", None) in mailbox.commands


def test_a_connection_that_the_server_closed_meanwhile_costs_nothing(binaries):
    with Mailbox() as mailbox, Post(binaries, mailbox, "--connections", "2") as post:
        for round_ in range(1, 11):
            post.mail(2 * round_)
            post.mail(2 * round_ + 1)
            assert post.answer(2 * round_)[0] == post.answer(2 * round_ + 1)[0] == "ACK"
            mailbox.hang_up()
        wait_for("none is left", lambda: (mailbox.hang_up(), not mailbox.open)[1])
        asked = [c[0] for c in mailbox.commands].count("NOOP")
        with Post(binaries, mailbox, "--probe", "1s") as other:  # one that a probe has opened
            wait_for("it stands, and is asked over", lambda: mailbox.open and
                     [c[0] for c in mailbox.commands].count("NOOP") > asked)
            mailbox.hang_up()
            wait_for("it is closed", lambda: not mailbox.open)
            other.mail(49)
            told = other.answer(49)
            assert told[0] == "ACK", told
        was_busy = [False]

        def rule(command, argument):  # says so only when it is spoken to
            if command == "MAIL" and not was_busy[0]:
                was_busy[0] = True
                return "421 waited too long"
            return None
        post.mail(50)
        assert post.answer(50)[0] == "ACK"
        mailbox.rule = rule
        post.mail(51)
        assert post.answer(51)[0] == "ACK" and was_busy[0]
        assert len(mailbox.mails) == 23


def test_a_server_that_takes_few_connections_gets_all_mails(binaries):
    with Mailbox() as mailbox, Post(binaries, mailbox, "--concurrency", "10", "--connections", "6") as post:
        mailbox.rule = lambda command, argument: "421 too many" if command == "CONNECT" and len(mailbox.open) > 2 \
            else None
        post.mail(1)
        assert post.answer(1)[0] == "ACK"  # the first is open
        for tag in range(2, 62):
            post.mail(tag)
        for tag in range(2, 62):
            assert post.answer(tag)[0] == "ACK"


def test_tls(binaries):
    ca = ("--ca-file", ca_file())
    with Mailbox(tls="starttls") as mailbox:
        with Post(binaries, mailbox, *ca, "--tls", "required") as post:
            for tag in range(1, 31):
                post.mail(tag, text="secret " * 2000)
            for tag in range(1, 31):
                assert post.answer(tag)[0] == "ACK"
        with Post(binaries, mailbox, "--tls", "required") as post:
            post.mail(1)
            assert_nack(post.answer(1), "TLS")
        with Post(binaries, mailbox, "--verify", "0") as post:
            post.mail(1)
            assert post.answer(1)[0] == "ACK"
        with Post(binaries, mailbox, "--tls", "none") as post:
            post.mail(1)
            assert post.answer(1)[0] == "ACK"
    with Mailbox(tls="smtps") as mailbox:
        with Post(binaries, mailbox, *ca) as post:
            post.mail(1, text="x" * 300000)
            assert post.answer(1)[0] == "ACK"
        with Post(binaries, mailbox) as post:
            post.mail(1)
            assert_nack(post.answer(1), "TLS")
    with Mailbox() as mailbox, Post(binaries, mailbox, "--tls", "required") as post:
        post.mail(1)
        assert_nack(post.answer(1), "TLS")
        assert not [c for c in mailbox.commands if c[0] == "MAIL"]


def test_login(binaries):
    ca = ("--ca-file", ca_file(), "--user", "shop")
    users = {"shop": "pass word"}
    with tempfile.NamedTemporaryFile("w", suffix=".secret") as file:
        file.write("pass word\n")
        file.flush()
        with Mailbox(tls="starttls", users=users) as mailbox:
            with Post(binaries, mailbox, *ca, "--password-file", file.name) as post:
                post.mail(1)
                assert post.answer(1)[0] == "ACK"
            with Post(binaries, mailbox, *ca, EVENTFLOW_EMAIL_PASSWORD="pass word") as post:
                post.mail(1)
                assert post.answer(1)[0] == "ACK"
            with Post(binaries, mailbox, *ca, "--password", "wrong") as post:
                post.mail(1)
                answer = post.answer(1)
                assert_nack(answer, 535)
                assert answer[4]["retry"] == 60000
                connections = mailbox.connections
                post.mail(2)  # not tried again before that: servers lock out who guesses
                assert_nack(post.answer(2), 535)
                assert mailbox.connections == connections
            with Post(binaries, mailbox, "--ca-file", ca_file()) as post:  # nobody: 530
                for tag in (1, 2):
                    post.mail(tag)
                    answer = post.answer(tag)
                    assert_nack(answer, 530)
                    assert answer[4]["retry"] == 60000
        with Mailbox(users=users) as mailbox, Post(binaries, mailbox, *ca, "--password-file", file.name) as post:
            post.mail(1)
            assert_nack(post.answer(1), "TLS")  # a password isn't said for everybody to hear
        with Mailbox(users=users) as mailbox, Post(binaries, mailbox, *ca, "--password-file", file.name, "--tls",
                                                   "none") as post:
            post.mail(1)
            assert post.answer(1)[0] == "ACK"  # unless that is what was asked for


def test_templates(binaries):
    directory = tempfile.mkdtemp(prefix="ef-templates-")
    try:
        def write(name, text):
            with open(os.path.join(directory, name), "w") as file:
                file.write(text)
        write("welcome.txt", "Subject: Hallo {{name}}\nReply-To: help@example.org\n\nDear {{name}},\n"
              "you are number {{user.n}} ({{event.type}} {{event.id}}). {{more|}}\n")
        write("welcome.html", "<p>Dear {{name}}</p>")
        with Mailbox() as mailbox, Post(binaries, mailbox, "--templates", directory) as post:
            welcome = {"type": "welcome"}
            post.deliver(1, {"name": "<Jörg>", "email": "j@example.org", "user": {"n": 7}}, welcome)
            assert post.answer(1)[0] == "ACK"
            mail = mailbox.mails[0]
            assert mail.message["Subject"] == "Hallo <Jörg>" and mail.message["Reply-To"] == "help@example.org"
            assert text_of(mail) == "Dear <Jörg>,\nyou are number 7 (welcome e1). "
            assert text_of(mail, "html") == "<p>Dear &lt;Jörg&gt;</p>"
            post.deliver(2, {"name": "Ann", "email": "j@example.org"}, welcome)
            assert_nack(post.answer(2), "MISSING_FIELD", "user.n", dead=True)
            post.deliver(3, {"name": "Ann", "email": "j@example.org"}, {"type": "../welcome"})
            assert_nack(post.answer(3), "NO_TEXT", dead=True)
            post.deliver(4, {"name": "Ann", "email": "j@example.org", "message": "own"}, welcome)
            assert post.answer(4)[0] == "ACK" and text_of(mailbox.mails[-1]) == "own"
            write("welcome.txt", "{{")
            post.deliver(5, {"name": "Ann", "email": "j@example.org"}, welcome)
            assert_nack(post.answer(5), "BAD_TEMPLATE", "welcome.txt: line 1")
            write("welcome.txt", "mended by the operator")
            post.deliver(6, {"name": "Ann", "email": "j@example.org"}, welcome)
            assert post.answer(6)[0] == "ACK" and text_of(mailbox.mails[-1]) == "mended by the operator"
    finally:
        shutil.rmtree(directory)


def test_the_rest_of_a_mail_whose_recipients_a_template_names(binaries):
    directory = tempfile.mkdtemp(prefix="ef-templates-")
    try:
        with open(os.path.join(directory, "T.txt"), "w") as file:
            file.write("Cc: full@example.org\n\nHello\n")
        with open(os.path.join(directory, "U.txt"), "w") as file:
            file.write("To: ann@example.org, full@example.org\n\nHello\n")
        rule = lambda command, argument: "451 later" if "full" in argument else None
        with Mailbox(rule=rule) as mailbox, Post(binaries, mailbox, "--templates", directory) as post:
            post.deliver(1, "ann@example.org", {"type": "T"})
            answer = post.answer(1)
            assert answer[0] == "ACK" and mailbox.mails[0].recipients == ["ann@example.org"]
            [[topic, event, payload, meta]] = answer[3]
            assert (event, meta["type"]) == ("e1/rest", "T")
            assert payload == {"to": "ann@example.org", "rest": {"of": "e1", "to": ["full@example.org"]}}
            mailbox.rule = only({})
            post.deliver(2, payload, meta)
            assert post.answer(2)[0] == "ACK" and mailbox.mails[1].recipients == ["full@example.org"]
            assert mailbox.mails[1].message["Message-ID"] == mailbox.mails[0].message["Message-ID"]
            assert text_of(mailbox.mails[1]) == "Hello"
            mailbox.rule = rule
            for tag, other in enumerate((None, 7, [1, 2], True), 3):
                post.deliver(tag, other, {"type": "U"})
                assert_nack(post.answer(tag), "BAD_ADDRESS", "several recipients", dead=True)
            post.deliver(9, {}, {"type": "U"})
            assert post.answer(9)[0] == "ACK"
    finally:
        shutil.rmtree(directory)


def test_settings_that_cannot_work_are_refused(binaries):
    worker = os.path.join(os.path.abspath(binaries), "eventflow-worker")
    for words, said in ((["--server", "http://x"], "server"), (["--server", "smtp://a@b"], "server"),
                        (["--server", "smtps://x", "--tls", "none"], "tls"), (["--from", "me"], "from"),
                        (["--user", "x"], "password"), (["--helo", "a b"], "helo"),
                        (["--templates", "/nowhere"], "templates"), (["--text", "{{"], "text"),
                        (["--password", "secret"], "user"), (["--password", "secret" * 900], "password"),
                        (["--server", "smtp://me:secret@x"], "server")):
        done = subprocess.run([worker, "email", "--topic", "email", "--check", *words], capture_output=True,
                              text=True, timeout=60)
        assert done.returncode == 2 and said in done.stderr and "secret" not in done.stderr, (words, done.stderr)
    done = subprocess.run([worker, "email", "--check"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
