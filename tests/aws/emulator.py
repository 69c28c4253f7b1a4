"""The AWS emulator (ministack) in a process of its own, on a free port of 127.0.0.1, in a folder of its own.

It runs with IAM in force: every call of a function is decided by the role and the resource policies we deployed. What
ministack 1.5.33 does not know is added here, when this file is run as a program, and nothing else is touched:

* the condition keys our policies ask for: what an S3 put says of locks and preconditions, the leading keys of a
  DynamoDB call, the encryption context of a KMS call, and `aws:PrincipalArn` of a role's session;
* that a request came over TLS, unless it says `X-Forwarded-Proto: http`;
* partial failures of a stream's batch: the batch comes again, as on AWS from the first failure on;
* the SAM transform of nested stacks, named queries as a resource of a stack, numbers that come from parameters,
  the status of a stack's indexes.
"""

import contextvars
import datetime
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

REGION = "eu-central-1"
ACCOUNT = "000000000000"
ROOT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def bare_environment(**more):
    """What a program needs to start, without any AWS setting of whoever runs the tests."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true", **more}


class Emulator:
    """Runs until `stop`. `functions_endpoint` is where its Lambda functions send their calls."""

    def __init__(self, folder, port, functions_endpoint):
        self.port, self.folder = port, folder
        self.endpoint = f"http://127.0.0.1:{port}"
        temporary = folder / "tmp"
        temporary.mkdir(parents=True)
        environment = bare_environment(
            **ROOT,
            TMPDIR=str(temporary),
            GATEWAY_PORT=str(port),
            BIND_HOST="127.0.0.1",
            MINISTACK_REGION=REGION,
            AUTH="true",
            LAMBDA_EXECUTOR="local",
            IOT_MTLS_ENABLED="0",
            SFTP_ENABLED="0",
            # Functions inherit these two.
            AWS_ENDPOINT_URL=functions_endpoint,
            RUST_BACKTRACE="1",
        )
        self.log = folder / "emulator.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, __file__], env=environment, cwd=folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise SystemExit(f"the emulator does not start:\n{self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)

    def _answers(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            connection.request("GET", "/_ministack/health")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def stop(self):
        """Ends it and the functions it started, which are in its process group."""
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, signal_number)
                self.process.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass


# ---- the program ----


def leading_keys(body, table):
    """The partition keys a DynamoDB request names in one table."""
    request = json.loads(body or b"{}")
    names, values = request.get("ExpressionAttributeNames") or {}, request.get("ExpressionAttributeValues") or {}
    keys = []

    def of(part):
        if part.get("TableName") == table:
            keys.append((part.get("Key") or part.get("Item") or {}).get("pk"))

    if "KeyConditionExpression" in request:
        for name, value in re.findall(r"([#\w]+)\s*=\s*(:\w+)", request["KeyConditionExpression"]):
            if names.get(name, name) == "pk":
                keys.append(values[value])
    elif "Key" in request or "Item" in request:
        of(request)
    for item in request.get("TransactItems", []):
        for part in item.values():
            of(part)
    for name, part in (request.get("RequestItems") or {}).items():
        keys.extend(key.get("pk") for key in part.get("Keys", []) if name == table)
    return [next(iter(key.values())) for key in keys if key]


def lock_keys(mode, until):
    """What S3 makes of a lock's two values, however they came."""
    keys = {}
    if mode:
        keys["s3:object-lock-mode"] = mode
    if until:
        end = datetime.datetime.fromisoformat(until.replace("Z", "+00:00"))
        left = end - datetime.datetime.now(datetime.timezone.utc)
        keys["s3:object-lock-retain-until-date"] = until
        keys["s3:object-lock-remaining-retention-days"] = str(left.days)
    return keys


def condition_keys(action, resource, headers, body):
    """The keys of a signed request that the emulator does not know."""
    if action == "s3:PutObject":
        keys = lock_keys(headers.get("x-amz-object-lock-mode"), headers.get("x-amz-object-lock-retain-until-date"))
        for header, key in (
            ("if-none-match", "s3:if-none-match"),
            ("x-amz-server-side-encryption-customer-algorithm", None),
        ):
            if header in headers:
                keys[key or f"s3:{header}"] = headers[header]
        return keys
    if action == "s3:PutObjectRetention":
        text = body.decode()
        found = {tag: re.search(f"<{tag}>([^<]*)<", text) for tag in ("Mode", "RetainUntilDate")}
        return lock_keys(*(match and match[1] for match in found.values()))
    if action.startswith("dynamodb:"):
        table = re.search(r":table/([^/]+)", resource)
        keys = leading_keys(body, table[1]) if table else []
        return {"dynamodb:LeadingKeys": keys} if keys else {}
    if action.startswith("kms:"):
        context = json.loads(body or b"{}").get("EncryptionContext") or {}
        return {f"kms:EncryptionContext:{name}": value for name, value in context.items()}
    return {}


def complete_iam(app, evaluator):
    enforce, resolve, pin_body = evaluator.enforce, evaluator._resolve_condition_key, app.pin_signed_body
    # Theirs is emptied once the signature is checked, before some of the policies are.
    request = contextvars.ContextVar("request", default=None)

    def pin_body_and_keep(body):
        pin_body(body)
        request.set(evaluator._signed_request.get())

    def enforce_with_more(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
        signed = request.get()
        more = condition_keys(iam_action, resource_arn, signed.headers, signed.body) if signed else {}
        context = {**(service_context or {}), **more}
        denied = enforce(access_key_id, iam_action, service, region, resource_arn=resource_arn,
                         service_context=context)
        if denied is not None:
            print(f"denied: {iam_action} on {resource_arn} with {context}: {denied}", file=sys.stderr, flush=True)
        return denied

    def resolve_more(key, context):
        match key.lower():
            case "aws:principalarn":
                session = re.fullmatch(r"arn:aws:sts::(\d+):assumed-role/([^/]+)/.*", context.principal_arn)
                return f"arn:aws:iam::{session[1]}:role/{session[2]}" if session else context.principal_arn
            case "aws:principalisawsservice" | "aws:viaawsservice":
                return "false"
        return resolve(key, context)

    app.pin_signed_body = pin_body_and_keep
    evaluator.enforce, evaluator._resolve_condition_key = enforce_with_more, resolve_more


def complete_streams(functions):
    execute, poll = functions._execute_function, functions._poll_dynamodb_streams
    polling = contextvars.ContextVar("polling", default=False)

    def poll_streams():
        token = polling.set(True)
        try:
            return poll()
        finally:
            polling.reset(token)

    def execute_or_again(function, event):
        result = execute(function, event)
        answer = result.get("body")
        failed = answer.get("batchItemFailures") if isinstance(answer, dict) else None
        if polling.get() and failed and not result.get("error"):
            said = {"errorType": "PartialFailure", "errorMessage": f"{len(failed)} records of {len(event['Records'])}"}
            return {**result, "error": True, "body": said}
        return result

    functions._execute_function, functions._poll_dynamodb_streams = execute_or_again, poll_streams


def complete_nested_stacks(cloudformation):
    # Imported anew by the code for nested stacks alone; everybody else holds the original.
    parse = cloudformation._parse_template
    cloudformation._parse_template = lambda body: cloudformation._apply_transforms(parse(body))


def complete_resources(provisioners, athena):
    types = provisioners._RESOURCE_HANDLERS
    create_mapping = types["AWS::Lambda::EventSourceMapping"]["create"]

    def create_mapping_with_numbers(logical_id, properties, stack_name):
        scaling = properties.get("ScalingConfig")
        if scaling:
            properties = {**properties, "ScalingConfig": {name: int(value) for name, value in scaling.items()}}
        return create_mapping(logical_id, properties, stack_name)

    create_table = types["AWS::DynamoDB::Table"]["create"]

    def create_table_with_indexes(logical_id, properties, stack_name):
        indexes = [{**index, "IndexStatus": "ACTIVE"} for index in properties.get("GlobalSecondaryIndexes", [])]
        return create_table(logical_id, {**properties, "GlobalSecondaryIndexes": indexes}, stack_name)

    def create_named_query(_logical_id, properties, _stack_name):
        _, _, body = athena._create_named_query(properties)
        query_id = json.loads(body)["NamedQueryId"]
        return query_id, {"NamedQueryId": query_id}

    types["AWS::DynamoDB::Table"]["create"] = create_table_with_indexes
    types["AWS::Lambda::EventSourceMapping"]["create"] = create_mapping_with_numbers
    types["AWS::Athena::NamedQuery"] = {
        "create": create_named_query,
        "delete": lambda physical_id, _properties: athena._delete_named_query({"NamedQueryId": physical_id}),
    }


def over_tls(app):
    async def wrapped(scope, receive, send):
        if scope["type"] == "http" and not any(name == b"x-forwarded-proto" for name, _ in scope["headers"]):
            scope = {**scope, "headers": [*scope["headers"], (b"x-forwarded-proto", b"https")]}
        await app(scope, receive, send)

    return wrapped


def end_with_parent(parent):
    """Nobody stops a server whose starter was killed, unless it does so itself, with the functions it started."""
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)


def main():
    if os.getpgid(0) == os.getpid():
        threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    # The modules beside this file must not stand before anybody else's.
    sys.path = [entry for entry in sys.path if entry != os.path.dirname(os.path.abspath(__file__))]
    from ministack import app
    from ministack.core import iam_evaluator
    from ministack.services import athena, lambda_svc
    from ministack.services.cloudformation import changesets, engine, handlers, provisioners, stacks  # noqa: F401

    complete_iam(app, iam_evaluator)
    complete_streams(lambda_svc)
    complete_nested_stacks(engine)
    complete_resources(provisioners, athena)
    app.app = over_tls(app.app)
    sys.argv = ["ministack"]
    app.main()


if __name__ == "__main__":
    main()
