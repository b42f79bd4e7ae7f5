"""The running whole: what curl posts on each face arrives in a mailbox and a table. SPDX-License-Identifier: MIT"""
import json
import os
import sqlite3
import subprocess

from http_gateway import Gateway
from mail_server import Mailbox
from support import Broker, wait_for

TOPICS = """defaults
    retry_base = 50ms
api
db
    pool
        command = "eventflow-worker db --config {config}"
        min = 1
email
    on_done = db
    on_dead = db
    pool
        command = "eventflow-worker email --config {config}"
        min = 1"""


class Whole:
    """Broker with pools, gateway with its faces, a mail server, SQLite."""

    def __init__(self, binaries):
        self.mailbox = Mailbox()
        self.broker = Broker(binaries)
        directory = self.broker.directory
        self.table = os.path.join(directory, "events.db")
        workers = os.path.join(directory, "workers.cfg")
        with open(workers, "w") as file:
            file.write(f'worker\n    email\n        server = "{self.mailbox.url()}"\n'
                       f'        from = "shop@example.org"\n        templates = "{directory}"\n'
                       f'    db\n        url = "sqlite:{self.table}"\n')
        with open(os.path.join(directory, "USER_WELCOME.txt"), "w") as file:
            file.write("Subject: Welcome, {{name}}\n\nDear {{name}}, here you are.\n")
        with open(self.broker.config) as file:
            text = file.read()
        topics = TOPICS.format(config=workers)
        with open(self.broker.config, "w") as file:
            file.write(text.rstrip() + "\n" + "".join(f"    {line}\n" for line in topics.splitlines()))

    def __enter__(self):
        self.broker.start()
        self.gateway = Gateway(self.broker, faces=("python", "node", "queue")).ready()
        return self

    def __exit__(self, *_):
        if hasattr(self, "gateway"):
            self.gateway.close()
        self.broker.close()
        self.mailbox.close()

    def curl(self, face, path, *words):
        done = subprocess.run(["curl", "-sS", *words, self.gateway.url(path, face)], text=True,
                              capture_output=True, timeout=90)
        assert done.returncode == 0, done
        return json.loads(done.stdout)

    def post(self, face, path, body):
        return self.curl(face, path, "-X", "POST", "-H", "Content-Type: application/json", "-d", body)

    def mail_to(self, address, count=1):
        def found():
            mails = [m for m in self.mailbox.mails if m.recipients == [address]]
            return mails if len(mails) >= count else None
        return wait_for(f"a mail to {address}", found)

    def rows(self, sql, *values):
        if not os.path.exists(self.table):
            return []
        with sqlite3.connect(self.table, timeout=10) as database:
            try:
                return database.execute(sql, values).fetchall()
            except sqlite3.OperationalError:
                return []  # the table isn't there yet


def test_what_curl_posts_arrives(binaries):
    with Whole(binaries) as whole:
        answer = whole.post("python", "/api/v1/events", '{"user_id":"user-123","event_type":"USER_NOTIFICATION",'
                            '"payload":{"to_email":"test@example.com","message":"Testing my first event-driven app!"}}')
        assert answer["status"] == "queued" and sorted(answer) == ["event_id", "status"], answer
        [mail] = whole.mail_to("test@example.com")
        assert mail.text().strip() == "Testing my first event-driven app!"
        assert mail.message["X-Eventflow-Id"] == answer["event_id"]
        answer = whole.post("node", "/events", '{"type":"USER_SIGNUP","payload":{"userId":"123"}}')
        assert answer["message"] == "Event accepted and queued" and sorted(answer) == ["eventId", "message"]
        wait_for("it is in the table", lambda: whole.rows(
            "SELECT 1 FROM events WHERE id = ? AND topic = 'db'", answer["eventId"]))
        answer = whole.post("queue", "/task", '{"type":"email-notification","payload":"user@example.com"}')
        assert answer["status"] == "queued" and sorted(answer) == ["status", "task_id"], answer
        whole.mail_to("user@example.com")
        whole.post("main", "/api/v1/events", '{"topic":"email","type":"USER_WELCOME",'
                   '"payload":{"name":"Ann","email":"ann@example.com"}}')
        [mail] = whole.mail_to("ann@example.com")
        assert mail.message["Subject"] == "Welcome, Ann" and "Dear Ann" in mail.text()
        for face in ("python", "node", "queue"):
            for path in ("/stats", "/health", "/events", "/failed-events"):
                whole.curl(face, path)
        # three mails were sent, one row of its own was written, and each end of a mail left a copy; the
        # mail of the signup has no recipient
        expected = {"processed": 3 + 1 + 4, "failed": 1, "retried": 0}
        wait_for("the totals", lambda: whole.curl("node", "/metrics") == expected)


def test_one_id_is_followed_through(binaries):
    with Whole(binaries) as whole:
        body = {"topic": "email", "payload": {"to": "bob@example.com", "text": "Hello"}}
        name = whole.post("main", "/api/v1/events", json.dumps(body))["id"]
        [mail] = whole.mail_to("bob@example.com")
        assert mail.message["X-Eventflow-Id"] == name
        wait_for("its copy is kept", lambda: whole.rows("SELECT 1 FROM events WHERE id = ?", name))
        [row] = whole.rows("SELECT topic, state, attempts, result FROM events WHERE id = ?", name)
        assert row[:2] == ("email", "done"), row
        assert json.loads(row[3])["to"] == ["bob@example.com"], row
        shown = whole.broker.cli("event", "show", name, "--topic", "email", "--json")
        assert json.loads(shown)["state"] == "done", shown
        seen = whole.curl("main", f"/api/v1/events/{name}?topic=email")
        assert seen["items"][0]["state"] == "done", seen
        assert seen["items"][0]["payload"] == body["payload"]
