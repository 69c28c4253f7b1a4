"""Stands between the functions and the emulator: keeps a list of every call, and fails calls when told to.

A call is known by who made it (the function, from its session's key id), the service, the operation and, for S3, the
object's key. It can be failed both ways: refused before anything happened, or done with the answer lost.
"""

import hashlib
import http.client
import json
import re
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import unquote

THROTTLED = (400, "application/x-amz-json-1.0",
             b'{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"told to"}')
LOST = (500, "application/x-amz-json-1.0",
        b'{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"told to"}')
SLOW_DOWN = (503, "application/xml", b"<Error><Code>SlowDown</Code><Message>told to</Message></Error>")
LOST_S3 = (500, "application/xml", b"<Error><Code>InternalError</Code><Message>told to</Message></Error>")


class Call(NamedTuple):
    function: str
    service: str
    operation: str
    # The table, the key of the object or the function, where there is one.
    target: str
    status: int

    @property
    def name(self):
        return f"{self.service}:{self.operation}"


class Fault(NamedTuple):
    """Which calls fail, how (before or after they are done), and how many of them at most."""

    matches: object
    answer: tuple
    done: bool
    left: list


def s3_operation(method, path, query):
    bucket_only = path.count("/") < 2 or path.endswith("/") and path.count("/") == 2
    words = set(re.findall(r"(?:^|&)([^=&]+)", query))
    if bucket_only:
        listing = "ListObjectVersions" if "versions" in words else "ListObjects"
        return listing if method == "GET" else f"{method} bucket"
    for word, operation in (("retention", "ObjectRetention"), ("legal-hold", "ObjectLegalHold"),
                            ("tagging", "ObjectTagging")):
        if word in words:
            return method.capitalize() + operation
    return {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}.get(method, method)


class Between:
    """A forwarding server on 127.0.0.1; `endpoint` is its address."""

    def __init__(self, upstream_port):
        self.upstream_port = upstream_port
        self.lock = threading.Lock()
        self.all_calls, self.faults, self.functions, self.errors = [], [], {}, []
        # Done once, before the first call to S3 goes on.
        self.before_s3 = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_):
                pass

            def handle_any(self):
                outer.forward(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                # A function that is stopped drops its connections.
                error = sys.exc_info()[1]
                if not isinstance(error, ConnectionError):
                    outer.errors.append(error)

        self.server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def know(self, function, function_arn, role_arn):
        """Whose a session's key id is: the emulator derives it from the two ARNs."""
        digest = hashlib.sha256(f"{function_arn}:{role_arn}".encode()).hexdigest()
        self.functions[f"ASIA{digest[:16].upper()}"] = function

    def fail(self, matches, answer, done=False, times=1_000_000):
        """From now on calls for which `matches(call)` fail; with `done` after they were carried out."""
        fault = Fault(matches, answer, done, [times])
        with self.lock:
            self.faults.append(fault)
        return fault

    def mend(self):
        with self.lock:
            self.faults.clear()

    def calls(self):
        with self.lock:
            return list(self.all_calls)

    def count(self, since=0):
        """How often which function did what, from the `since`-th call on."""
        return Counter((call.function, call.name) for call in self.calls()[since:])

    def read(self, request, body):
        path, _, query = request.path.partition("?")
        scope = re.search(r"Credential=([^/]+)/\d+/[^/]+/([^/]+)/", request.headers.get("Authorization", ""))
        key_id, service = scope.groups() if scope else ("", "")
        function = self.functions.get(key_id, key_id)
        target = request.headers.get("X-Amz-Target", "")
        if service == "s3":
            operation = s3_operation(request.command, path, query)
            return Call(function, service, operation, unquote(path.split("/", 2)[-1]), 0)
        if invoked := re.search(r"/functions/([^/]+)/invocations$", path):
            return Call(function, service, "Invoke", unquote(invoked[1]), 0)
        operation = target.partition(".")[2] or request.command
        named = json.loads(body) if target and body else {}
        tables = {part["TableName"] for item in named.get("TransactItems", []) for part in item.values()}
        tables |= set(named.get("RequestItems", {})) | {named.get("TableName", "")}
        return Call(function, service, operation, ",".join(sorted(tables - {""})), 0)

    def forward(self, request):
        length = int(request.headers.get("Content-Length", 0))
        body = request.rfile.read(length) if length else b""
        if "chunked" in request.headers.get("Transfer-Encoding", ""):
            while size := int(request.rfile.readline().split(b";")[0], 16):
                body += request.rfile.read(size)
                request.rfile.readline()
            request.rfile.readline()
        call = self.read(request, body)
        fault = None
        with self.lock:
            if self.before_s3 and call.service == "s3":
                self.before_s3()
                self.before_s3 = None
            for candidate in self.faults:
                if candidate.left[0] > 0 and candidate.matches(call):
                    fault, candidate.left[0] = candidate, candidate.left[0] - 1
                    break
        status, headers, answer = None, [], b""
        if fault is None or fault.done:
            upstream = http.client.HTTPConnection("127.0.0.1", self.upstream_port, timeout=60)
            try:
                upstream.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
                for name, value in request.headers.items():
                    if name.lower() not in ("transfer-encoding", "content-length", "connection", "expect"):
                        upstream.putheader(name, value)
                upstream.putheader("Content-Length", str(len(body)))
                upstream.endheaders(body)
                response = upstream.getresponse()
                status, answer = response.status, response.read()
                headers = [(n, v) for n, v in response.getheaders()
                           if n.lower() not in ("transfer-encoding", "connection", "content-length")]
                content_length = response.getheader("Content-Length")
            finally:
                upstream.close()
        else:
            content_length = None
        with self.lock:
            self.all_calls.append(call._replace(status=status if fault is None else fault.answer[0]))
        if fault is not None:
            status, kind, answer = fault.answer
            headers, content_length = [("Content-Type", kind)], None
        request.send_response_only(status)
        for name, value in headers:
            request.send_header(name, value)
        # The length a HEAD speaks of is the object's.
        length = content_length if request.command == "HEAD" and content_length else str(len(answer))
        request.send_header("Content-Length", length)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(answer)
