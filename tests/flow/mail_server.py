"""A mail server of one's own (aiosmtpd) that records what it takes and misbehaves as told.
SPDX-License-Identifier: MIT"""
import asyncio
import atexit
import email
import email.policy
import logging
import ssl
import threading
import warnings

from aiosmtpd.smtp import SMTP, AuthResult

from web import Authority

logging.getLogger("mail.log").setLevel(logging.CRITICAL)  # it is told to misbehave
warnings.filterwarnings("ignore", module="aiosmtpd")

HANG, DROP = "hang", "drop"  # what a rule may say in place of a reply


class Mail:
    def __init__(self, sender, recipients, content):
        self.sender, self.recipients, self.content = sender, recipients, content
        self.message = email.message_from_bytes(content, policy=email.policy.default)
        self.id = self.message["Message-ID"]

    def text(self, subtype="plain"):
        part = self.message.get_body((subtype,))
        return part.get_content() if part else None


class _Server(SMTP):
    """Asks the mailbox's rule before each command."""

    def __init__(self, mailbox, **options):
        self.mailbox = mailbox
        super().__init__(mailbox, hostname="mail.test", ident="mailbox", **options)

    def connection_made(self, transport):
        if not getattr(self, "is_counted", False):
            self.is_counted = True
            self.mailbox.connections += 1
            self.mailbox.open.add(self)
            self.mailbox.most_open = max(self.mailbox.most_open, len(self.mailbox.open))
        super().connection_made(transport)

    def connection_lost(self, error):
        self.mailbox.open.discard(self)
        super().connection_lost(error)

    async def _handle_client(self):
        if await self.judge("CONNECT", ""):
            await super()._handle_client()

    async def judge(self, command, argument):
        """True: go on as usual."""
        self.mailbox.commands.append((command, argument))
        verdict = self.mailbox.rule(command, argument or "")
        if verdict is None:
            return True
        if verdict == HANG:
            await asyncio.Future()  # for ever
        if verdict == DROP:
            self.transport.abort()
        else:
            await self.push(verdict)
            if verdict.startswith("421"):
                self.transport.close()
        return False

    async def smtp_EHLO(self, argument):
        if await self.judge("EHLO", argument):
            await super().smtp_EHLO(argument)

    async def smtp_NOOP(self, argument):
        if await self.judge("NOOP", argument):
            await super().smtp_NOOP(argument)

    async def smtp_MAIL(self, argument):
        if await self.judge("MAIL", argument):
            await super().smtp_MAIL(argument)

    async def smtp_RCPT(self, argument):
        if await self.judge("RCPT", argument):
            await super().smtp_RCPT(argument)

    async def smtp_RSET(self, argument):
        if await self.judge("RSET", argument):
            await super().smtp_RSET(argument)

    async def smtp_QUIT(self, argument):
        if await self.judge("QUIT", argument):
            await super().smtp_QUIT(argument)

    async def smtp_DATA(self, argument):
        if not await self.judge("DATA", argument):
            return
        if self.mailbox.rule("TEXT", "") == DROP:  # in the middle of it
            await self.push("354 go on")
            await self._reader.readuntil(b"\r\n")
            self.transport.abort()
            return
        await super().smtp_DATA(argument)


class Mailbox:
    """`rule (command, argument)` is asked at CONNECT, EHLO, NOOP, MAIL, RCPT, RSET, DATA, TEXT (DROP
    in its middle), END (it has all of the text: a reply, HANG or DROP, and it is not kept), TAKEN (it
    is kept, but HANG or DROP comes in place of 250) and QUIT. None: as usual."""

    def __init__(self, tls=None, users=None, utf8=True, size=None, pipelining=False, port=0, rule=None):
        self.mails, self.commands, self.open = [], [], set()
        self.connections = self.most_open = 0
        self.rule = rule or (lambda command, argument: None)
        self.pipelining, self.users, self.port = pipelining, users, port
        context = server_context() if tls else None
        self.implicit = context if tls == "smtps" else None
        self.options = dict(enable_SMTPUTF8=utf8, data_size_limit=size or 33554432,
                            tls_context=context if tls == "starttls" else None, loop=None)
        if users:
            self.options.update(authenticator=self.authenticate, auth_required=True,
                                auth_require_tls=tls == "starttls")
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(ready,), daemon=True)
        self.thread.start()
        assert ready.wait(60), "the mail server doesn't start"

    def run(self, ready):
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(lambda loop, context: None)  # of those it hung up on
        self.options["loop"] = self.loop
        self.server = self.loop.run_until_complete(self.loop.create_server(
            lambda: _Server(self, **self.options), "127.0.0.1", self.port, ssl=self.implicit))
        self.port = self.server.sockets[0].getsockname()[1]
        ready.set()
        self.loop.run_forever()

    def url(self):
        return f"smtp{'s' if self.implicit else ''}://127.0.0.1:{self.port}"

    def authenticate(self, server, session, envelope, mechanism, data):
        login = data.login.decode(), data.password.decode()
        is_good = self.users.get(login[0]) == login[1]
        return AuthResult(success=is_good, handled=is_good)

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        self.hello = hostname
        return responses[:-1] + ["250-PIPELINING"] * self.pipelining + responses[-1:]

    async def handle_DATA(self, server, session, envelope):
        verdict = self.rule("END", "")
        if verdict is None:
            self.mails.append(Mail(envelope.mail_from, list(envelope.rcpt_tos), envelope.content))
            verdict = self.rule("TAKEN", "")
        if verdict == HANG:
            await asyncio.Future()  # for ever
        if verdict == DROP:
            server.transport.abort()
        return verdict or "250 2.0.0 taken"

    def hang_up(self):
        """Ends all connections."""
        done = threading.Event()

        def end():
            for each in list(self.open):
                if each.transport:
                    each.transport.abort()
            done.set()

        self.loop.call_soon_threadsafe(end)
        assert done.wait(60)

    def close(self):
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.server.close)
            self.hang_up()
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


_authority = None


def authority():
    """A certificate authority, and the paths of a certificate of 127.0.0.1 and of its key."""
    global _authority
    if _authority is None:
        made = Authority()
        atexit.register(made.__exit__)
        _authority = made, *made.certificate("IP:127.0.0.1,DNS:localhost")
    return _authority


def ca_file():
    return authority()[0].ca


def server_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority()[1:])
    return context
