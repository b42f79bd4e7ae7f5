"""The other side of the demo: a mail server and a receiver of webhooks on ports of their own, which
keep what came and now and then refuse. SPDX-License-Identifier: MIT

usage: others.py DIRECTORY

Writes DIRECTORY/ports ("SMTP HTTP"), then a line to DIRECTORY/mails or DIRECTORY/hooks for each event
that was taken: its id. Ends on SIGTERM."""
import asyncio
import collections
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.smtp import SMTP

TRIES_NEEDED = 3  # of what is refused for a while
tries = collections.Counter()
lock = threading.Lock()


def verdict(name):
    """"taken", "later" or "never", by the last digit of an event's number."""
    with lock:
        tries[name] += 1
        if name.endswith("7"):
            return "never"
        return "later" if name.endswith("3") and tries[name] < TRIES_NEEDED else "taken"


class Mailbox:
    def __init__(self, path):
        self.path = path

    async def handle_RCPT(self, server, session, envelope, address, options):
        said = verdict(address.split("@")[0])
        if said == "later":
            return "451 4.2.1 The mailbox is busy, try again later"
        if said == "never":
            return "550 5.1.1 No such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        with open(self.path, "a") as file:
            file.writelines(to + "\n" for to in envelope.rcpt_tos)
        return "250 Message accepted"


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        name = self.headers.get("Idempotency-Key", "")
        said = verdict(name)
        if said == "taken":
            with lock, open(self.server.path, "a") as file:
                file.write(name + "\n")
        self.send_response({"taken": 204, "later": 503, "never": 422}[said])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    directory = sys.argv[1]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    loop = asyncio.new_event_loop()
    box = Mailbox(os.path.join(directory, "mails"))
    mail = loop.run_until_complete(loop.create_server(
        lambda: SMTP(box, loop=loop, enable_SMTPUTF8=True), "127.0.0.1", 0))
    threading.Thread(target=loop.run_forever, daemon=True).start()
    web = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    web.daemon_threads = True
    web.path = os.path.join(directory, "hooks")
    threading.Thread(target=web.serve_forever, daemon=True).start()
    port = mail.sockets[0].getsockname()[1]
    with open(os.path.join(directory, "ports.new"), "w") as file:
        file.write(f"{port} {web.server_address[1]}\n")
    os.rename(file.name, os.path.join(directory, "ports"))
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    web.shutdown()


if __name__ == "__main__":
    main()
