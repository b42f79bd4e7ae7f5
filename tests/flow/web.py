"""Web servers of one's own, well-behaved and not: nginx, and one in Python that misbehaves as its paths say.

Both on ephemeral ports, in temporary directories, ended with their `with`. SPDX-License-Identifier: MIT"""
import http.server
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import urllib.parse

from support import free_ports, wait_for

CODES = [200, 201, 202, 204, 206, 226, 304, 400, 401, 402, 403, 404, 405, 406, 409, 410, 411, 412, 413, 415, 418, 422,
         423, 424, 428, 431, 451, 425, 429, 500, 501, 502, 503, 504, 505, 507, 599]
TRANSIENT = [code for code in CODES if code in (425, 429) or code >= 500]


class Authority:
    """A certificate authority of the tests, made by openssl."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="ef-ca-")
        self.ca = self.path("ca.pem")
        self.run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                 "-subj", "/CN=authority of a test", "-keyout", self.path("ca.key"), "-out", self.ca)

    def path(self, name):
        return os.path.join(self.directory, name)

    def run(self, *words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)

    def certificate(self, names):
        """The paths of a certificate for "DNS:…,IP:…" and of its key."""
        base = self.path(str(len(os.listdir(self.directory))))
        with open(base + ".ext", "w") as file:
            file.write(f"subjectAltName={names}\n")
        self.run("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=server",
                 "-keyout", base + ".key", "-out", base + ".csr")
        self.run("x509", "-req", "-in", base + ".csr", "-CA", self.ca, "-CAkey", self.path("ca.key"), "-CAcreateserial",
                 "-days", "2", "-extfile", base + ".ext", "-out", base + ".pem")
        return base + ".pem", base + ".key"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.directory, ignore_errors=True)


class Nginx:
    """Debian's nginx: /status/N answers N, /ok 204; its log tells what came."""

    def __init__(self, certificate=None, logs=True):
        self.directory = tempfile.mkdtemp(prefix="ef-nginx-")
        os.chmod(self.directory, 0o755)
        self.port, self.tls_port = free_ports(2)
        self.log = os.path.join(self.directory, "access.log")
        codes = "".join(f"location = /status/{code} {{ return {code}; }}\n" for code in CODES)
        tls = certificate and (f"listen 127.0.0.1:{self.tls_port} ssl;\nssl_certificate {certificate[0]};\n"
                               f"ssl_certificate_key {certificate[1]};\n")
        user = "user root;\n" if os.getuid() == 0 else ""
        temporary = "".join(f"{kind}_temp_path {self.directory}/{kind};\n" for kind in (
            "client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        log = (f"log_format seen '$http_idempotency_key $request_method $uri $status $content_length';\n"
               f"access_log {self.log} seen;\n") if logs else "access_log off;\n"
        with open(os.path.join(self.directory, "nginx.conf"), "w") as file:
            file.write(f"{user}daemon off;\nworker_processes 1;\npid {self.directory}/pid;\n"
                       f"error_log {self.directory}/error.log;\n"
                       f"events {{ worker_connections 1024; }}\n"
                       f"http {{\n{temporary}{log}keepalive_requests 1000000;\n"
                       f"server {{\nlisten 127.0.0.1:{self.port};\n{tls or ''}"
                       f"location = /ok {{ return 204; }}\n{codes}}}\n}}\n")
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        self.process = subprocess.Popen(["nginx", "-p", self.directory, "-c", "nginx.conf", "-e",
                                         os.path.join(self.directory, "error.log")], stderr=subprocess.DEVNULL)
        wait_for("nginx listens", self.listens)
        return self

    def listens(self):
        assert self.process.poll() is None, open(os.path.join(self.directory, "error.log")).read()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        """Gracefully: at once (TERM) nginx may answer a last round of requests and not log them."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.terminate()
                self.process.wait(timeout=60)

    def seen(self, count):
        """[id, method, path, status] of every request that was answered, once there are so many: a line
        is written behind the answer."""
        return wait_for(f"{count} requests are logged", lambda: (
            lambda lines: lines if len(lines) >= count else None)(self.logged()))

    def logged(self):
        with open(self.log) as file:
            return [line.split()[:4] for line in file]

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class Request:
    def __init__(self, handler, body):
        self.method = handler.command
        self.path = handler.path
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self.names = [name.lower() for name in handler.headers.keys()]
        self.body = body
        self.time = time.time()
        self.id = self.headers.get("idempotency-key")


class Recorder(http.server.ThreadingHTTPServer):
    """Keeps each request, and does what its path says:

    /status/N[?after=VALUE][&times=K]: N (with Retry-After), to the first K requests of an id; then 204
    /slow/SECONDS, /hang, /reset, /truncated, /garbage: once for each id, with ?always=1 each time; then 204
    /to?url=URL&code=N: a redirect; /loop: to itself
    /json, /text, /bytes/N: responses"""
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, certificate=None, address="127.0.0.1"):
        super().__init__((address, 0), Handler)
        self.port = self.server_address[1]
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.port}"
        self.requests = []
        self.counts = {}
        self.lock = threading.Lock()
        self.ended = threading.Event()
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    def handle_error(self, *_):
        pass  # connections that end early are what it is for

    def seen(self, path=""):
        with self.lock:
            return [request for request in self.requests if request.path.startswith(path)]

    def count(self, request):
        """How often this id has come to this path, with this time."""
        with self.lock:
            self.requests.append(request)
            key = (request.id, request.path)
            self.counts[key] = self.counts.get(key, 0) + 1
            return self.counts[key]

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status >= 200 and status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def work(self):
        length = int(self.headers.get("Content-Length") or 0)
        times = self.server.count(Request(self, self.rfile.read(length)))
        parts = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        word, _, value = parts.path.strip("/").partition("/")
        if word == "status":
            if times > int(query.get("times", 1 << 30)):
                return self.answer(204)
            after = {"Retry_After": query["after"]} if "after" in query else {}
            return self.answer(int(value), f"the body of {value}".encode(), **after)
        if word in ("slow", "hang", "reset", "truncated", "garbage") and (times == 1 or "always" in query):
            return self.misbehave(word, value)
        if word == "to":
            return self.answer(int(query.get("code", 302)), Location=query["url"])
        if word == "loop":
            return self.answer(307, Location=self.path)
        if word == "json":
            return self.answer(200, b'{"charge": 17, "ok": true}', Content_Type="application/json")
        if word == "text":
            return self.answer(200, "gr\u00fc\u00dfe".encode())
        if word == "bytes":
            return self.answer(200, b"x" * int(value))
        return self.answer(204)

    def misbehave(self, word, value):
        if word in ("slow", "hang"):
            self.server.ended.wait(float(value) if word == "slow" else 60)
            return self.answer(204)
        self.close_connection = True
        if word == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RD)
            self.rfile.close()
            self.wfile.close()
            return self.connection.close()
        if word == "truncated":
            return self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nnot all")
        return self.wfile.write(b"\x00\x01this is no HTTP\r\n\r\n")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = work
