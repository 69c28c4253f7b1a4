"""The deployed whole under test: `sam deploy` of our templates with our binaries on an AWS emulator, driven over HTTP.

    "$(tests/tools aws)" tests/aws/e2e.py                      binaries of `cargo build`
    "$(tests/tools aws)" tests/aws/e2e.py --functions FOLDER   FOLDER/<function>/bootstrap, as cargo lambda leaves them

It ends with 0 when every step passed and stops at the first that does not, showing where the logs are. Nothing is left
running. IAM is in force throughout: a call that a role or a policy does not allow fails, as it would on AWS.

What it can't show, since the emulator doesn't do it: throttling, S3's 409 under concurrent puts, expiry by lifecycle or
TTL, indexes that lag, the batching window, bisection, the on-failure destination, alarms that ring alone, arm64.
"""

import argparse
import base64
import concurrent.futures
import datetime
import fcntl
import gzip
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import deploy
from archive import DAY, Archive, check_locks, states, versions
from between import LOST, LOST_S3, SLOW_DOWN, THROTTLED, Between
from deploy import ACCOUNT, FUNCTIONS, NAME, PROJECT, REGION
from emulator import Emulator, bare_environment, free_port
from probe import Probe, make_administrator

MODE = "COMPLIANCE"
EXPORTS = f"{NAME}-exports-{ACCOUNT}-{REGION}"
BUCKET = f"{NAME}-archive-{ACCOUNT}-{REGION}"
EVENTS = PROJECT.parent / "shared" / "data" / "saas-events.ndjson"
WRITES = ("PutItem", "UpdateItem", "TransactWriteItems", "BatchWriteItem")
SEED = 20260501
# API Gateway hands paths on decoded.
NOWHERE = ("/v1/events/no%20id?tenant_id=okta_acme", "/v1/events%3Flimit=1", "/v1/%C3%A4", "/v1/nothing", "/")


class World:
    """One installation, its clients, and what it has acknowledged."""

    def __init__(self, folder, binaries):
        self.folder = folder
        self.between = Between(port := free_port())
        try:
            self.emulator = Emulator(folder / "emulator", port, self.between.endpoint)
        except BaseException:
            self.between.stop()
            raise
        self.port, self.stele = port, binaries.get("stele")
        self.s3, self.sqs, self.lambdas, self.dynamodb, self.logs, self.iam, self.metrics = (
            deploy.client(service, self.emulator.endpoint)
            for service in ("s3", "sqs", "lambda", "dynamodb", "logs", "iam", "cloudwatch"))
        self.archive = Archive(self.s3, BUCKET, folder)
        # What was acknowledged: (tenant, id) → leaf hash, or None as long as nobody has said it.
        self.acknowledged = {}
        self.key = self.api_id = None

    def stop(self):
        self.emulator.stop()
        self.between.stop()

    # ---- as an app does it ----

    def request(self, method, path, body=None, key=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {"Host": f"{self.api_id}.execute-api.localhost:{self.port}"}
        if key != "":
            sent["Authorization"] = f"Bearer {key or self.key}"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        read = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, read

    def get(self, path, expected=200, **more):
        status, _, body = self.request("GET", path, **more)
        assert status == expected, f"GET {path}: {status} {body.decode(errors='replace')[:500]}"
        return json.loads(body)

    def send(self, event, **headers):
        """One event by `POST /v1/events`: status, headers, answer. What is acknowledged is noted."""
        headers.setdefault("Content_Type", "application/json")
        status, answered, body = self.request("POST", "/v1/events", json.dumps(event).encode(), **headers)
        body = json.loads(body)
        if status in (200, 201, 202):
            self.note(event, body["id"], body.get("receipt"))
        return status, answered, body

    def send_batch(self, events, body=None, **headers):
        """Many by `POST /v1/events/batch`: the results, in order."""
        headers.setdefault("Content_Type", "application/json")
        body = body or json.dumps({"events": events}).encode()
        status, _, answer = self.request("POST", "/v1/events/batch", body, **headers)
        assert status == 200, f"{status}: {answer[:500]}"
        results = json.loads(answer)["results"]
        assert [result["index"] for result in results] == list(range(len(events)))
        for event, result in zip(events, results):
            if result["status"] in (200, 201, 202):
                self.note(event, result["id"], result.get("receipt"))
        return results

    def note(self, event, id, receipt):
        tenant = event.get("tenant_id") or event["organization_id"]
        leaf_hash = receipt and receipt["leaf_hash"]
        known = self.acknowledged.get((tenant, id))
        assert not (known and leaf_hash) or known == leaf_hash, f"{tenant}/{id} got a second receipt"
        self.acknowledged[tenant, id] = known or leaf_hash

    # ---- as the tests see it ----

    def sealed(self, seconds=90):
        """Waits until all that was acknowledged is sealed: each once, with the bytes its receipt is of."""
        def missing():
            self.archive.refresh()
            found = self.archive.by_id()
            return [name for name in self.acknowledged if name not in found]

        eventually("all that was acknowledged is sealed", lambda: not missing(), seconds,
                   lambda: f"missing: {missing()[:5]}")
        found = self.archive.by_id()
        for name, leaf_hash in self.acknowledged.items():
            sealed = found[name].hash.hex()
            assert leaf_hash in (None, sealed), f"{name}: the receipt says {leaf_hash}, the leaf's hash is {sealed}"
        return found

    def run_stele(self, *arguments, expected=0):
        """Our command line, used by the operator: no more is allowed than what the policies leave to one."""
        said = subprocess.run(
            [self.stele, *arguments], text=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
            env=bare_environment(AWS_ENDPOINT_URL=self.emulator.endpoint, **self.operator))
        assert said.returncode in (expected if isinstance(expected, tuple) else (expected,)), (
            f"stele {' '.join(arguments)}: {said.returncode}\n{said.stdout}{said.stderr}")
        return said.stdout

    def log_of(self, function):
        pages = self.logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{NAME}-{function}")
        return [event["message"] for page in pages for event in page["events"]]


def eventually(what, holds, seconds=60, otherwise=lambda: ""):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"after {seconds} s it is still not so that {what}; {otherwise()}"
        time.sleep(0.25)


def real_events():
    """The events of other services' audit logs, each with an id of its own so that it can be sent again."""
    counts, events = {}, []
    for line in EVENTS.read_text().splitlines():
        counts[line] = counts.get(line, 0) + 1
        name = hashlib.sha256(f"{line}\0{counts[line]}".encode()).hexdigest()
        events.append({**json.loads(line), "id": f"real-{name[:32]}"})
    assert len(events) == 228
    return events


def made_up(tenant, n, **more):
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
    return {"tenant_id": tenant, "actor": {"id": f"user_{n}"}, "action": "invoice.deleted", "occurred_at": now,
            "resource": {"type": "invoice", "id": f"inv_{n}"}, "metadata": {"n": n}, **more}


# ---- the steps ----


def deployed_as_the_templates_say(world):
    """`sam deploy` of the whole; what the emulator leaves out is set before anything is written."""
    templates = world.folder / "templates"
    templates.mkdir()
    deploy.copies(templates, world.codes)
    for function in FUNCTIONS:
        world.between.know(function, deploy.function_arn(function), deploy.role_arn(function))
    make_administrator(world.iam, "administrator")
    operator = make_administrator(world.iam, "operator")
    session = deploy.client("sts", world.emulator.endpoint).assume_role(
        RoleArn=operator, RoleSessionName="somebody")["Credentials"]
    world.operator = {"AWS_ACCESS_KEY_ID": session["AccessKeyId"], "AWS_SESSION_TOKEN": session["SessionToken"],
                      "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"]}
    stateful = deploy.Stateful()
    world.between.before_s3 = lambda: stateful.complete_bucket(world.s3, BUCKET, MODE)
    deploy.sam_deploy(world.emulator.endpoint, templates, {
        "InstallationName": NAME, "Architecture": "x86_64", "LockMode": MODE, "LogName": "e2e.example/log",
        "KeyEnvironment": "test", "AlarmEmail": "ops@example.com",
        # The key's policy lets nobody outside unwrap the secrets unless it is told who.
        "OperatorRoleArn": operator,
    })
    found = deploy.outputs(world.emulator.endpoint)
    assert world.between.before_s3 is None, "setup never called S3"
    stateful.complete_tables(world.dynamodb)
    stateful.complete_exports(world.s3, EXPORTS)
    world.api_id = found["Api"]["ApiId"]
    world.spill = found["Api"]["SpillQueueUrl"]
    world.parking = found["Api"]["ParkingQueueUrl"]
    world.compaction = found["Api"]["CompactionQueueUrl"]
    world.reconciliation = found["Api"]["ReconciliationQueueUrl"]
    world.export = found["Api"]["ExportQueueUrl"]
    world.public_keys = found["Api"]["PublicKeys"]
    assert found[""]["ArchiveBucketName"] == BUCKET and found[""]["PublicKeys"] == world.public_keys
    # On AWS what fails comes back after minutes, and these tests are shorter.
    for queue in (world.spill, world.parking, world.compaction, world.reconciliation, world.export):
        world.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "6"})
    return f"{len(found)} stacks"


def setup_locked_the_secrets_and_published_the_key(world):
    counts = check_locks(world.s3, BUCKET, MODE)
    assert counts == {"secrets/": 2, "keys/": 3}, counts
    keys = {key for key, _, _ in versions(world.s3, BUCKET)}
    assert {"secrets/master.wrapped", "secrets/signing.wrapped"} < keys, keys
    environment = variables_of(world, "seal")
    assert environment["STELE_SIGNING_SEED"] and "STELE_MASTER_SECRET" not in environment
    # Called again, as a change of the stack does, it finds what is there; when the stack goes, it takes nothing along.
    before = versions(world.s3, BUCKET)
    for request_type in ("Update", "Delete"):
        answer = custom_resource(world, request_type)
        assert answer["Status"] == "SUCCESS", answer
        if request_type == "Update":
            assert answer["Data"]["SigningSeed"] == environment["STELE_SIGNING_SEED"]
            assert answer["Data"]["PublicKeys"] == world.public_keys
    assert versions(world.s3, BUCKET) == before


def variables_of(world, function):
    configuration = world.lambdas.get_function_configuration(FunctionName=f"{NAME}-{function}")
    return configuration["Environment"]["Variables"]


def custom_resource(world, request_type):
    """Calls setup as CloudFormation does, and takes its answer where CloudFormation would."""
    answers = []

    class Taker(BaseHTTPRequestHandler):
        def do_PUT(self):
            answers.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Taker) as server:
        server.timeout = 30
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        request = {"RequestType": request_type, "ResponseURL": f"http://127.0.0.1:{server.server_address[1]}/answer",
                   "StackId": "s", "RequestId": "r", "LogicalResourceId": "Secrets", "PhysicalResourceId": "p",
                   "ResourceType": "Custom::SteleSecrets", "ResourceProperties": {"Version": "2"}}
        done = world.lambdas.invoke(FunctionName=f"{NAME}-setup", Payload=json.dumps(request).encode())
        assert "FunctionError" not in done, done["Payload"].read()
        thread.join()
    return answers[0]


def bootstrapped_key(world):
    printed = world.run_stele("keys", "bootstrap", "--name", "e2e", "--installation", NAME, "--environment", "test")
    [key] = [word for word in printed.split() if word.startswith("stele_test_")]
    return key


def mistyped(key):
    return key[:-1] + ("y" if key[-1] == "x" else "x")


def a_platform_key_is_made(world):
    world.key = bootstrapped_key(world)
    status, _, body = world.request("GET", "/v1/events?tenant_id=nobody", key="")
    assert status == 401 and json.loads(body)["code"] == "missing_key", body
    status, _, body = world.request("GET", "/v1/events?tenant_id=nobody", key=mistyped(world.key))
    assert status == 401 and json.loads(body)["code"] == "invalid_key", body
    assert world.get("/v1/openapi.json", key="")["openapi"].startswith("3.1")


def real_events_are_accepted(world):
    events = world.real = real_events()
    singles, batches = events[:48], [events[at:at + 60] for at in range(48, 228, 60)]
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for status, _, body in pool.map(world.send, singles):
            assert status == 201, body
    rate = len(singles) / (time.monotonic() - started)
    for n, batch in enumerate(batches):
        # JSON, lines of JSON, and packed lines.
        lines = "\n".join(map(json.dumps, batch)).encode()
        body, headers = [
            (None, {}),
            (lines, {"Content_Type": "application/x-ndjson"}),
            (gzip.compress(lines), {"Content_Type": "application/x-ndjson", "Content_Encoding": "gzip"}),
        ][n % 3]
        results = world.send_batch(batch, body, **headers)
        assert all(result["status"] == 201 for result in results), [r for r in results if r["status"] != 201][:3]
    assert len(world.acknowledged) == 228 and all(world.acknowledged.values())
    status, _, body = world.send({**events[0], "action": "another.thing"})
    assert status == 409 and body["code"] == "event_conflict", body
    # API Gateway takes a packed body for text if it is called JSON: that must be said, not guessed.
    packed = gzip.compress(json.dumps(events[0]).encode())
    status, _, body = world.request("POST", "/v1/events", packed, Content_Type="application/json",
                                    Content_Encoding="gzip")
    assert status == 400 and b"application/x-ndjson" in body, (status, body)
    status, _, body = world.send({"tenant_id": "org_bad", "action": "x"})
    assert status == 422 and body["errors"], body
    return f"{rate:.0f} single events/s with 6 clients"


def sent_again_they_are_replays_with_the_same_receipts(world):
    receipts = dict(world.acknowledged)
    for event in world.real[:24]:
        status, headers, body = world.send(event)
        assert status == 200 and headers.get("idempotent-replayed") == "true", (status, headers, body)
    for at in range(24, 228, 68):
        results = world.send_batch(world.real[at:at + 68])
        assert all(result["status"] == 200 for result in results), [r for r in results if r["status"] != 200][:3]
    assert world.acknowledged == receipts


def each_is_in_a_locked_segment_exactly_once(world):
    found = world.sealed()
    assert len(found) == 228 and len({tenant for tenant, _ in found}) == 28, len(found)
    sent = {event["id"]: event for event in world.real}
    for leaf in found.values():
        event = leaf.event
        original = sent.pop(event["external_id"])
        assert event["actor"]["id"] == original["actor"]["id"], (event, original)
        assert event.get("metadata", {}) == original.get("metadata", {}), (event, original)
    assert not sent
    counts = check_locks(world.s3, BUCKET, MODE)
    return ", ".join(f"{count} in {kind}" for kind, count in sorted(counts.items()))


def it_is_read_back_with_its_place_in_the_log(world):
    found = world.archive.by_id()
    for (tenant, id), leaf in list(found.items())[::20]:
        event = world.get(f"/v1/events/{id}?tenant_id={tenant}")
        expected = {"state": "sealed", "leaf_hash": leaf.hash.hex(), "leaf_index": leaf.index}
        assert expected.items() <= event["integrity"].items(), event["integrity"]
    tenant = max({tenant for tenant, _ in found}, key=lambda t: sum(t == other for other, _ in found))
    listed, cursor = [], ""
    while cursor is not None:
        page = world.get(f"/v1/events?tenant_id={tenant}&limit=20{cursor}")
        listed += [event["id"] for event in page["events"]]
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
    assert sorted(listed) == sorted(id for owner, id in found if owner == tenant), tenant
    world.get(f"/v1/events/{id}?tenant_id=okta_other", expected=404)
    status, headers, body = world.request("GET", f"/v1/events/export?tenant_id={tenant}&format=jsonl")
    exported = [json.loads(line)["id"] for line in body.splitlines()]
    assert status == 200 and sorted(exported) == sorted(listed), (status, headers, body[:300])

    def the_export_is_sealed():
        world.archive.refresh()
        return sum(len(leaves) for (owner, _), leaves in world.archive.logs.items() if owner == tenant) > len(listed)
    eventually("the export is an event of the tenant's own log", the_export_is_sealed)
    for path in NOWHERE:
        status, headers, body = world.request("GET", path)
        assert status == 404 and headers["content-type"] == "application/problem+json", (path, status, headers, body)


def every_checkpoint_verifies(world):
    """Those served and those locked, against the leaves and the published key."""
    signed = 0
    published = {}
    for tenant in sorted({tenant for tenant, _ in world.archive.logs}):
        keys = world.get(f"/v1/log/keys?tenant_id={tenant}")
        assert [key["purpose"] for key in keys] == ["checkpoints and manifests", "receipts", "statements"], keys
        published[tenant] = [key["vkey"] for key in keys if key["purpose"] == "checkpoints and manifests"]

        def all_is_signed():
            status, _, note = world.request("GET", f"/v1/log/checkpoint?tenant_id={tenant}")
            assert status == 200, note
            world.archive.refresh()
            sealed = sum(len(leaves) for (owner, _), leaves in world.archive.logs.items() if owner == tenant)
            return world.archive.check_note(tenant, note.decode(), published[tenant]) == sealed

        eventually(f"{tenant}'s checkpoint is of all its leaves", all_is_signed)
        signed += 1
    locked = 0
    for key, version, _ in versions(world.s3, BUCKET, "checkpoints/"):
        if not key.endswith(".manifest"):
            note = world.s3.get_object(Bucket=BUCKET, Key=key, VersionId=version)["Body"].read().decode()
            tenant = key.split("/")[1].removeprefix("tenant_id=")
            assert world.archive.check_note(tenant, note, published[tenant]) == int(key.split("/")[-1]), key
            locked += 1
    assert locked >= len(published), f"{locked} checkpoints are locked, of {len(published)} logs"
    return f"{signed} served, {locked} locked"


def nobody_can_delete_shorten_or_overwrite(world):
    """Root is stopped by the lock; an administrator by the bucket's policy; each function by its own role too."""
    held = [next(v for v in versions(world.s3, BUCKET, prefix)) for prefix in
            ("segments/", "checkpoints/", "keys/", "secrets/")]
    before = versions(world.s3, BUCKET)
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)

    def refused(call, **parameters):
        try:
            call(Bucket=BUCKET, **parameters)
        except world.s3.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] == "AccessDenied", error
            return
        raise AssertionError(f"root could: {parameters}")

    for key, version, _ in before:
        refused(world.s3.delete_object, Key=key, VersionId=version)
        refused(world.s3.delete_object, Key=key, VersionId=version, BypassGovernanceRetention=True)
        refused(world.s3.put_object_retention, Key=key, VersionId=version,
                Retention={"Mode": MODE, "RetainUntilDate": soon})

    far = soon + datetime.timedelta(days=34.5)
    lock = {"ObjectLockMode": MODE, "ObjectLockRetainUntilDate": far.isoformat()}
    probes = {role: Probe(world.lambdas, role, world.emulator.log) for role in (*FUNCTIONS, "administrator")}
    for role, probe in probes.items():
        for key, version, _ in held:
            at = {"Bucket": BUCKET, "Key": key}
            probe.denied("delete", "s3", "delete_object", "NothingIsDeleted", **at, VersionId=version)
            probe.denied("hide", "s3", "delete_object", "NothingIsDeleted", **at)
            probe.denied("overwrite", "s3", "put_object", "NothingIsOverwritten", **at, Body="x", **lock)
            probe.denied("shorten a lock", "s3", "put_object_retention", **at, VersionId=version,
                         Retention={"Mode": MODE, "RetainUntilDate": soon.isoformat()})
            if role != "compact":
                probe.denied("tag for expiry", "s3", "put_object_tagging", "OnlyCompactTagsAndHolds", **at,
                             Tagging={"TagSet": [{"Key": "archived", "Value": "true"}]})
                probe.denied("hold", "s3", "put_object_legal_hold", "OnlyCompactTagsAndHolds", **at, VersionId=version,
                             LegalHold={"Status": "ON"})
        new = {"Bucket": BUCKET, "Body": "x", "IfNoneMatch": "*"}
        segment = {**new, "Key": f"segments/tenant_id=org_x/log=0/{0:020}.parquet"}
        probe.denied("write without a lock", "s3", "put_object", "NothingIsUnlocked", **segment)
        probe.denied("write with a short lock", "s3", "put_object", "SegmentsAreLockedFor35Days", **segment,
                     ObjectLockMode=MODE, ObjectLockRetainUntilDate=soon.isoformat())
        probe.denied("write what can be unlocked", "s3", "put_object", "NothingIsUnlocked", **segment,
                     ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=far.isoformat())
        probe.denied("write elsewhere", "s3", "put_object", "NothingElseIsWritten", **new, Key="other/x", **lock)
        probe.denied("write in the clear", "s3", "put_object", "OnlyOverTls", plain=True, **segment, **lock)
        if role != "seal":
            probe.denied("write a segment", "s3", "put_object", "OnlySealWritesTheLog", **segment, **lock)
        if role != "compact":
            year = (far + datetime.timedelta(days=330)).isoformat()
            probe.denied("write into the archive", "s3", "put_object", "OnlyCompactWritesTheArchive", **new,
                         Key=f"archive/tenant_id=org_x/log=0/month=2026-01/{0:020}.parquet",
                         ObjectLockMode=MODE, ObjectLockRetainUntilDate=year)
        probe.denied("let objects expire", "s3", "put_bucket_lifecycle_configuration", "OnlyDeploymentsChangeSettings",
                     Bucket=BUCKET, LifecycleConfiguration={"Rules": [
                         {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}]})
        if role not in ("seal", "reconcile"):
            probe.denied("park", "sqs", "send_message", QueueUrl=world.parking, MessageBody="x")
    for role in FUNCTIONS:
        probe = probes[role]
        for table in ("events", "control"):
            probe.denied("delete items", "dynamodb", "delete_item", TableName=f"{NAME}-{table}",
                         Key={"pk": {"S": "tenant"}, "sk": {"S": "x"}})
            probe.denied("read whole tables", "dynamodb", "scan", TableName=f"{NAME}-{table}")
        if role != "query":
            probe.denied("make API keys", "dynamodb", "put_item", TableName=f"{NAME}-control",
                         Item={"pk": {"S": "key#" + "0" * 64}, "sk": {"S": "key"}})
        if role != "seal":
            probe.denied("move a log's head", "dynamodb", "put_item", TableName=f"{NAME}-control",
                         Item={"pk": {"S": "head#okta_acme#0"}, "sk": {"S": "head"}})
        if role != "watchdog":
            probe.denied("stop the table from forgetting", "dynamodb", "update_time_to_live", TableName=f"{NAME}-events",
                         TimeToLiveSpecification={"AttributeName": "expires", "Enabled": False})
        if role != "ingest":
            probe.denied("spill", "sqs", "send_message", QueueUrl=world.spill, MessageBody="x")
    secrets = {"master": variables_of(world, "ingest")["STELE_MASTER_SECRET"],
               "signing": variables_of(world, "seal")["STELE_SIGNING_SEED"]}
    allowed = {"ingest": ["master"], "drain": ["master"], "query": ["master"], "reconcile": ["master"],
               "seal": ["signing"], "compact": ["signing"], "setup": ["master", "signing"]}
    for role, probe in probes.items():
        for purpose, wrapped in secrets.items():
            unwrap = {"CiphertextBlob": {"base64": wrapped}, "EncryptionContext": {"stele": purpose}}
            if purpose in allowed.get(role, ()):
                assert probe("kms", "decrypt", **unwrap)["ok"], f"{role} must be able to unwrap {purpose}"
            else:
                probe.denied(f"unwrap {purpose}", "kms", "decrypt", **unwrap)
    # The administrator's refusals are the policies' own: what they don't speak of is allowed.
    assert probes["administrator"]("s3", "get_object", Bucket=BUCKET, Key=held[0][0])["ok"]
    assert versions(world.s3, BUCKET) == before
    return f"{len(before)} objects, {len(probes)} roles"


def an_event_costs_one_write(world):
    """Calls of ingest and seal for single events of known tenants, with warm functions."""
    for n in range(3):
        assert world.send(made_up("org_cost", f"warm{n}"))[0] == 201
    world.sealed()
    since, events = len(world.between.calls()), 20
    for n in range(events):
        assert world.send(made_up("org_cost", n))[0] == 201
    world.sealed()
    made = world.between.count(since)
    ingest = {name: count for (function, name), count in made.items() if function == "ingest"}
    assert ingest == {"dynamodb:PutItem": events}, ingest
    seal = {name: count for (function, name), count in made.items() if function == "seal"}
    segments = sum(1 for call in world.between.calls()[since:] if call.function == "seal"
                   and call.operation == "PutObject" and call.target.startswith("segments/"))
    assert seal["s3:PutObject"] == segments, f"the hour's checkpoint was there already: {seal}"
    shown = ", ".join(f"{count} {name}" for name, count in sorted(seal.items()))
    return f"ingest: 1 PutItem per event; seal, {segments} segments: {shown}"


def asked_for_202_means_queued_and_stored_soon(world):
    status, headers, body = world.send(made_up("org_async", 1), Prefer="respond-async")
    assert status == 202 and body["success"] is True and "receipt" not in body, (status, body)
    assert headers.get("preference-applied", "respond-async") == "respond-async"
    found = world.sealed()
    event = world.get(f"/v1/events/{body['id']}?tenant_id=org_async")
    assert event["integrity"]["leaf_hash"] == found["org_async", body["id"]].hash.hex()


def mapping(world, queue, enabled):
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}"
    [found] = world.lambdas.list_event_source_mappings(EventSourceArn=arn)["EventSourceMappings"]
    world.lambdas.update_event_source_mapping(UUID=found["UUID"], Enabled=enabled)


def all_messages(world, queue):
    """Takes everything out of a queue without deleting it."""
    messages, empty = [], 0
    while empty < 2:
        got = world.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=600,
                                        AttributeNames=["All"]).get("Messages", [])
        messages += got
        empty = 0 if got else empty + 1
    return messages


def deliver(world, function, messages):
    """A batch as the queue's mapping would hand it over; the ids of what failed."""
    records = [{
        "messageId": message["MessageId"], "receiptHandle": message["ReceiptHandle"], "body": message["Body"],
        "attributes": {name: message["Attributes"][name] for name in
                       ("SentTimestamp", "ApproximateReceiveCount", "SenderId", "ApproximateFirstReceiveTimestamp")},
        "messageAttributes": {}, "md5OfBody": message["MD5OfBody"], "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{NAME}-spill", "awsRegion": REGION,
    } for message in messages]
    answer = world.lambdas.invoke(FunctionName=f"{NAME}-{function}", Payload=json.dumps({"Records": records}).encode())
    payload = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, payload
    return {failure["itemIdentifier"] for failure in payload["batchItemFailures"]}


def while_dynamodb_refuses_writes_nothing_is_lost_or_doubled(world):
    """Every message is delivered one to five times in any order, by several drains at once, and then once more."""
    chance = random.Random(SEED)
    mapping(world, f"{NAME}-spill", False)
    refused = lambda call: (call.service == "dynamodb" and call.operation in WRITES
                            and call.function in ("ingest", "drain"))
    world.between.fail(refused, THROTTLED)
    for n in range(10):
        status, _, body = world.send(made_up("org_cost", f"spilled{n}"))
        assert status == 202 and "receipt" not in body, (status, body)
    # A tenant nobody has seen before, ids of the sender's own, and the real events once more.
    results = world.send_batch([made_up("org_new", n, id=f"own-{n}") for n in range(20)])
    results += world.send_batch(world.real[:30])
    assert {result["status"] for result in results} <= {200, 202}, results
    assert all(result["status"] == 202 for result in results[:20]), results[:20]
    # Two that say different things under one name: whoever comes first is right.
    rivals = [made_up("org_new", "rival", id="rival", description=text) for text in ("one", "other")]
    rivals[1]["occurred_at"] = rivals[0]["occurred_at"]
    for rival in rivals:
        status, _, body = world.send(rival)
        assert status == 202, body
        world.acknowledged.pop(("org_new", body["id"]))
    rival_id = body["id"]
    # And one that contradicts what is stored already.
    status, _, body = world.send({**world.real[0], "action": "something.else"})
    assert status in (202, 409), body

    messages = all_messages(world, world.spill)
    assert len(messages) >= 10 + 20 + 2, len(messages)
    few = messages[:5]
    assert deliver(world, "drain", few) == {message["MessageId"] for message in few}, "nothing can be stored yet"
    world.between.mend()

    deliveries = [message for message in messages for _ in range(chance.randint(1, 5))]
    chance.shuffle(deliveries)
    batches = []
    while deliveries:
        size = chance.randint(1, 10)
        batches.append(deliveries[:size])
        deliveries = deliveries[size:]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for batch, failed in zip(batches, pool.map(lambda batch: deliver(world, "drain", batch), batches)):
            assert not failed, f"{len(failed)} of {len(batch)} failed"
    world.sealed()
    for message in messages:
        world.sqs.change_message_visibility(QueueUrl=world.spill, ReceiptHandle=message["ReceiptHandle"],
                                            VisibilityTimeout=0)
    mapping(world, f"{NAME}-spill", True)
    eventually("the queue is empty", lambda: waiting(world, world.spill) == 0)
    found = world.sealed()
    [sealed] = [leaf for name, leaf in found.items() if name == ("org_new", rival_id)]
    [loser] = [rival["description"] for rival in rivals if rival["description"] != sealed.event["description"]]
    listed = [refusal for refusal in world.get("/v1/refused?tenant_id=org_new")["refused"]
              if refusal["code"] == "event_conflict"]
    assert len(listed) == 1 and f'"description":"{loser}"' in json.dumps(listed[0]).replace("\\", "").replace(
        '": "', '":"'), listed
    if status == 202:
        tenant = world.real[0]["organization_id"]
        listed = world.get(f"/v1/refused?tenant_id={tenant}")["refused"]
        assert [refusal["code"] for refusal in listed] == ["event_conflict"], listed
    return f"{len(messages)} messages in {len(batches)} deliveries of up to 10"


def waiting(world, queue):
    attributes = world.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    return sum(int(attributes[name]) for name in
               ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"))


def apps_inside_the_account_may_use_the_queue(world):
    def put(key, event):
        world.sqs.send_message(QueueUrl=world.spill, MessageBody=json.dumps({"api_key": key, "event": event}))

    status, _, body = world.request("POST", "/v1/api-keys", json.dumps(
        {"name": "inside", "tenant_id": "org_direct", "scopes": ["events:write"]}).encode())
    assert status == 201, body
    key = json.loads(body)["key"]
    put(key, made_up("org_direct", 1))
    put(key, {"action": "user.created"})
    put(mistyped(key), made_up("org_direct", 2))
    eventually("the queue is empty", lambda: waiting(world, world.spill) == 0)
    eventually("the event is stored", lambda: world.get("/v1/events?tenant_id=org_direct")["events"])
    [event] = world.get("/v1/events?tenant_id=org_direct")["events"]
    world.acknowledged["org_direct", event["id"]] = event["integrity"]["leaf_hash"]
    world.sealed()
    [refusal] = world.get("/v1/refused?tenant_id=org_direct")["refused"]
    assert refusal["code"] == "validation_failed", refusal
    codes = [refusal["code"] for refusal in world.get("/v1/refused")["refused"]]
    assert codes == ["invalid_key"], codes
    assert key[:-1] not in json.dumps(world.get("/v1/refused")), "a key is kept with what it came with"


def answers_that_get_lost_change_nothing(world):
    """What was done but reported failed: writes of ingest, segments and heads of seal. And what S3 puts off."""
    write = lambda call: call.function == "ingest" and call.operation in WRITES
    world.between.fail(write, LOST, done=True, times=3)
    for n in range(6):
        status, _, body = world.send(made_up("org_lost", n))
        assert status in (200, 201, 202), body
    segment = lambda call: call[:3] == ("seal", "s3", "PutObject") and call.target.startswith("segments/")
    faults = [
        world.between.fail(segment, LOST_S3, done=True, times=2),
        world.between.fail(segment, SLOW_DOWN, times=2),
        world.between.fail(lambda call: call.function == "seal" and call.operation in WRITES, LOST, done=True, times=2),
    ]
    for n in range(12):
        assert world.send(made_up(f"org_lost{n % 3}", n))[0] in (200, 201, 202)
    world.sealed()
    assert all(fault.left == [0] for fault in faults), [fault.left for fault in faults]
    world.between.mend()


def a_tenant_that_cannot_be_sealed_holds_up_nobody(world):
    stuck = lambda call: call[:3] == ("seal", "s3", "PutObject") and "tenant_id=org_stuck/" in call.target
    world.between.fail(stuck, SLOW_DOWN)
    before = dict(world.acknowledged)
    for n in range(4):
        assert world.send(made_up("org_stuck", n))[0] == 201
    waits, world.acknowledged = world.acknowledged, before
    for n in range(4):
        assert world.send(made_up("org_free", n))[0] == 201
    world.sealed()
    assert not [tenant for tenant, _ in world.archive.logs if tenant == "org_stuck"]
    world.acknowledged |= waits
    world.between.mend()
    world.sealed()
    eventually("nothing is parked", lambda: waiting(world, world.parking) == 0)


def what_the_hot_store_forgot_is_found_in_the_log(world):
    """An old event sent again after its item expired is a replay with its first receipt, not a second leaf."""
    tenant, control = world.real[0]["organization_id"], {"TableName": f"{NAME}-control"}
    key = {"pk": {"S": "tenant"}, "sk": {"S": tenant}}
    record = world.dynamodb.get_item(**control, Key=key)["Item"]
    # Remembered for no day at all: what was received until now may be forgotten.
    forgetful = {**json.loads(record["json"]["S"]), "hot_days": 0}
    world.dynamodb.put_item(**control, Item={**record, "json": {"S": json.dumps(forgetful)}})
    ids = {id.removeprefix("evt_") for owner, id in world.acknowledged if owner == tenant}
    gone = 0
    for page in world.dynamodb.get_paginator("scan").paginate(TableName=f"{NAME}-events"):
        for item in page["Items"]:
            if item["sk"]["S"] in ids:
                world.dynamodb.delete_item(TableName=f"{NAME}-events", Key={"pk": item["pk"], "sk": item["sk"]})
                gone += 1
    assert gone == len(ids), (gone, len(ids))
    # What a function remembers of a tenant it forgets when it starts anew.
    for function in ("ingest", "query"):
        world.lambdas.update_function_configuration(FunctionName=f"{NAME}-{function}", MemorySize=768)
    before, since = len(world.archive.logs[tenant, 0]), len(world.between.calls())
    again = [event for event in world.real if event["organization_id"] == tenant][:8]
    for event in again:
        status, headers, body = world.send(event)
        assert status == 200 and headers.get("idempotent-replayed") == "true", (status, body)
    status, _, body = world.send({**again[0], "action": "something.else"})
    assert status == 409 and body["code"] == "event_conflict", body
    world.archive.refresh()
    assert len(world.archive.logs[tenant, 0]) == before
    world.dynamodb.put_item(**control, Item=record)
    asked = world.between.count(since)["ingest", "lambda:Invoke"]
    assert asked == len(again) + 1, asked
    return f"{asked} questions to query for {gone} forgotten events"


def the_stream_once_more_from_its_beginning_changes_nothing(world):
    """With changes in between that are no records: they alone are reported as failed."""
    streams = deploy.client("dynamodbstreams", world.emulator.endpoint)
    arn = world.dynamodb.describe_table(TableName=f"{NAME}-events")["Table"]["LatestStreamArn"]
    [shard] = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
    records, cursor = [], iterator["ShardIterator"]
    while got := (page := streams.get_records(ShardIterator=cursor))["Records"]:
        records, cursor = records + got, page["NextShardIterator"]
    source = {"eventSourceARN": arn, "eventSource": "aws:dynamodb"}
    changes = [json.loads(json.dumps({**record, **source}, default=as_event))
               for record in records if record["eventName"] == "INSERT"]
    assert len(changes) >= len(world.acknowledged)
    broken = json.loads(json.dumps(changes[0]))
    broken["dynamodb"]["SequenceNumber"] = "9" * 20
    for name in list(broken["dynamodb"]["NewImage"]):
        if name not in ("pk", "sk"):
            del broken["dynamodb"]["NewImage"][name]
    before = versions(world.s3, BUCKET)
    for at in range(0, len(changes), 200):
        batch = [*changes[at:at + 100], broken, *changes[at + 100:at + 200]]
        answer = world.lambdas.invoke(FunctionName=f"{NAME}-seal", Payload=json.dumps({"Records": batch}).encode())
        payload = json.loads(answer["Payload"].read())
        assert payload == {"batchItemFailures": [{"itemIdentifier": "9" * 20}]}, payload
    assert versions(world.s3, BUCKET) == before
    return f"{len(changes)} changes"


def logs_that_went_quiet_are_published_by_the_schedule(world):
    """The hour is made to be over for two logs with unpublished ends; the others are left alone."""
    [rule] = deploy.client("events", world.emulator.endpoint).list_rules(NamePrefix=f"{NAME}-publish")["Rules"]
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(1 hour)", "ENABLED"), rule
    pages = world.dynamodb.get_paginator("scan").paginate(TableName=f"{NAME}-control")
    heads = [item for page in pages for item in page["Items"] if item["sk"]["S"] == "head"]
    quiet = [head for head in heads if head["size"] != head["published_size"]]
    assert len(quiet) > 2, "too few logs with an unpublished end"
    for head in quiet[:2]:
        world.dynamodb.update_item(
            TableName=f"{NAME}-control", Key={"pk": head["pk"], "sk": head["sk"]},
            UpdateExpression="SET published_at = :past", ExpressionAttributeValues={":past": {"N": "1"}})
    before = {key for key, *_ in versions(world.s3, BUCKET, "checkpoints/")}
    for new in (4, 0):
        answer = world.lambdas.invoke(FunctionName=f"{NAME}-seal", Payload=b'{"stele_publish":true}')
        assert json.loads(answer["Payload"].read()) == {"batchItemFailures": []}
        after = {key for key, *_ in versions(world.s3, BUCKET, "checkpoints/")}
        assert len(after - before) == new, after - before
        before = after
    return "2 checkpoints and their manifests"


def what_is_sealed_is_proven_over_http(world):
    """A proof, a bundle, tiles and statements through the gateway, each checked by the command line with the pinned key."""
    tenant = sorted({tenant for tenant, _ in world.archive.logs})[0]
    event = world.get(f"/v1/events?tenant_id={tenant}&limit=1&order=asc")["events"][0]
    folder = Path(tempfile.mkdtemp(dir=world.folder))
    status, headers, proof = world.request("GET", f"/v1/events/{event['id']}/proof?tenant_id={tenant}",
                                           accept="application/json")
    assert status == 200, (status, headers, proof)
    (folder / "proof.json").write_bytes(proof)
    said = world.run_stele("verify", "proof", str(folder / "proof.json"), "--public-key", world.public_keys)
    assert "PROVEN" in said, said
    status, headers, bundle = world.request("GET", f"/v1/events/export?format=evidence&tenant_id={tenant}")
    assert status == 200 and headers["content-type"] == "application/zip", (status, headers, bundle[:300])
    (folder / "evidence.zip").write_bytes(bundle)
    said = world.run_stele("verify", "bundle", str(folder / "evidence.zip"), "--public-key", world.public_keys)
    assert "PROVEN" in said, said
    size = json.loads(proof)["tree_size"]
    status, _, tile = world.request("GET", f"/v1/log/tile/0/000.p/{size}?tenant_id={tenant}")
    assert status == 200 and len(tile) == 32 * size, (status, size, len(tile))
    stated = world.get(f"/v1/log/statements?tenant_id={tenant}")["statements"]
    assert len(stated) == 1, stated
    status, _, note = world.request("GET", f"/v1/log/consistency?tenant_id={tenant}&from=1")
    assert status == 200 and json.loads(note)["to"] >= size, note  # the export above is an event too
    return f"{len(bundle)} bytes of evidence"


def exported(world, tenant, **wanted):
    """Asks for an export, waits for it and follows its link: what is told of it, and its bytes."""
    body = json.dumps({"tenant_id": tenant, **wanted}).encode()
    status, headers, answer = world.request("POST", "/v1/exports", body, Content_Type="application/json")
    assert status == 202, f"{status}: {answer[:500]}"
    path, shown = headers["location"], {}

    def finished():
        shown.update(world.get(path))
        return shown["state"] in ("done", "failed")

    eventually("the export is made", finished, 60, lambda: json.dumps(shown))
    assert shown["state"] == "done", shown
    # Whoever has the link, and nothing else.
    with urllib.request.urlopen(shown["file"]["url"], timeout=60) as answer:
        bytes_ = answer.read()
    assert len(bytes_) == shown["file"]["bytes"]
    assert hashlib.sha256(bytes_).hexdigest() == shown["file"]["sha256"]
    return shown, bytes_


def what_is_sealed_is_exported_into_files_behind_links(world):
    """Every event of a tenant once, in the order of the log; and evidence, which the command line verifies."""
    world.archive.refresh()
    (tenant, _), leaves = max(world.archive.logs.items(), key=lambda log: len(log[1]))
    shown, lines = exported(world, tenant, format="jsonl")
    ids = [json.loads(line)["id"] for line in lines.splitlines()]
    assert shown["tree_size"] == shown["file"]["end"] == len(ids), shown
    assert ids == [leaf.id for leaf in leaves][:len(ids)], "another order than the log's"
    again, rest = exported(world, tenant, format="jsonl", since="last")
    assert again["first"] == shown["file"]["end"] and len(rest.splitlines()) == again["tree_size"] - again["first"]
    shown, bundle = exported(world, tenant, format="evidence", covering=True)
    path = world.folder / "evidence.zip"
    path.write_bytes(bundle)
    report = world.run_stele("verify", "bundle", str(path), "--public-key", world.public_keys)
    assert "PROVEN" in report, report
    # The link is all there is: without its signature the file is nobody's, and no other tenant knows of the export.
    bare = shown["file"]["url"].partition("?")[0]
    try:
        urllib.request.urlopen(bare, timeout=60)
        raise AssertionError(f"{bare} can be read by anybody")
    except urllib.error.HTTPError as refused:
        assert refused.code == 403, refused
    other = next(name for name, _ in world.archive.logs if name != tenant)
    world.get(f"/v1/exports/{shown['id']}?tenant_id={other}", 404)
    told = world.get(f"/v1/events?tenant_id={tenant}&action=stele.export.created")["events"]
    assert len(told) >= 3 and {event["metadata"]["format"] for event in told} == {"jsonl", "evidence"}, told
    # Asked for twice under one name it is made once.
    body = json.dumps({"tenant_id": tenant, "format": "csv"}).encode()
    asked = [world.request("POST", "/v1/exports", body, Content_Type="application/json", Idempotency_Key="once")
             for _ in range(2)]
    assert [status for status, _, _ in asked] == [202, 200]
    assert len({json.loads(answer)["id"] for _, _, answer in asked}) == 1
    eventually("nothing waits", lambda: waiting(world, world.export) == 0, 60)
    return f"{len(ids)} events of {tenant}"


def as_event(value):
    """What JSON has no word for, as Lambda events have it."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    raise TypeError(value)


def the_command_line_verifies_the_bucket(world):
    """As far as it is signed; and all of it, once every log has a new checkpoint, which is due once an hour."""
    report = world.run_stele("verify", "--installation", NAME, expected=2)
    assert f"COULD NOT CHECK: {len(world.archive.logs)} logs" in report and " 0 refuted" in report, report
    variables = {**variables_of(world, "seal"), "STELE_PUBLISH_EVERY_SECONDS": "0"}
    world.lambdas.update_function_configuration(FunctionName=f"{NAME}-seal", Environment={"Variables": variables})
    for tenant in sorted({tenant for tenant, _ in world.archive.logs}):
        assert world.send(made_up(tenant, "last"))[0] == 201
    world.sealed()
    logs, leaves = len(world.archive.logs), sum(map(len, world.archive.logs.values()))
    # The segment is there before its checkpoint is.
    eventually("all of it is proven", lambda: f"PROVEN: {logs} logs, {leaves} events" in world.run_stele(
        "verify", "--installation", NAME, "--public-key", world.public_keys, expected=(0, 2)), 30)
    return f"{logs} logs, {leaves} events"


def the_doctor_finds_nothing_wrong_and_what_is_made_wrong(world):
    """Everything is as deployed; then a lifecycle rule is gone, a table's deletion protection, and an alarm rings."""
    def report(expected):
        found = json.loads(world.run_stele("doctor", "--installation", NAME, "--json", expected=expected))
        return {f"{finding['area']}: {finding['check']}": finding for finding in found["findings"]}

    # The emulator judges no alarm by itself.
    alarms = [alarm["AlarmName"] for alarm in world.metrics.describe_alarms()["MetricAlarms"]]
    assert alarms
    for alarm in alarms:
        world.metrics.set_alarm_state(AlarmName=alarm, StateValue="OK", StateReason="told to")
    healthy = report((0, 1, 2))
    wrong = {check: finding for check, finding in healthy.items() if finding["state"] != "ok"}
    # An event must have waited for five minutes to be looked for, and these tests are shorter.
    assert wrong.pop("logs: nothing left out")["state"] == "could_not_check"
    assert not wrong, json.dumps(wrong, indent=1)
    rules = world.s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    world.s3.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": rules[1:]})
    world.dynamodb.update_table(TableName=f"{NAME}-control", DeletionProtectionEnabled=False)
    world.metrics.set_alarm_state(AlarmName=alarms[0], StateValue="ALARM", StateReason="told to")
    sick = [check for check, finding in report(1).items() if finding["state"] == "problem"]
    assert set(sick) == {"archive: lifecycle: segments", "tables: stele-control: deletion protection",
                         f"alarms: {alarms[0]}"}, sick
    world.metrics.set_alarm_state(AlarmName=alarms[0], StateValue="OK", StateReason="told to")
    world.s3.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": rules})
    world.dynamodb.update_table(TableName=f"{NAME}-control", DeletionProtectionEnabled=True)
    return f"{len(healthy)} checks"


def invoked(world, function, payload):
    """What a function answers to its schedule or its alarm."""
    answer = world.lambdas.invoke(FunctionName=f"{NAME}-{function}", Payload=json.dumps(payload).encode())
    said = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, said
    return said


def archive_now(world, *tenants):
    """Sends compact to tenants as if the day were over, and waits until it has been there."""
    for tenant in tenants:
        world.sqs.send_message(QueueUrl=world.compaction,
                               MessageBody=json.dumps({"tenant_id": tenant, "close_today": True}))

    def all_of_it():
        world.archive.refresh()
        archived = world.archive.archived()
        wanted = [name for name in world.archive.logs if name[0] in tenants]
        return all(len(archived.get(name, [])) == len(world.archive.logs[name]) for name in wanted)

    eventually("everything sealed is archived", all_of_it, 120)
    # What stands on the objects is seen to after the file is there.
    eventually("compact has been everywhere", lambda: waiting(world, world.compaction) == 0, 120)


def of_archive(world, kind, tenant):
    return states(world.s3, BUCKET, MODE, f"{kind}/tenant_id={tenant}/")


def what_waits_is_archived_and_its_segments_let_go(world):
    """The hourly plan finds nothing due on the first day. An errand that closes the day archives all that is sealed."""
    world.sealed()
    since = len(world.between.calls())
    assert invoked(world, "compact", {"stele_plan": True}) == {"batchItemFailures": []}
    assert world.between.count(since)["compact", "sqs:SendMessage"] == 0
    assert not versions(world.s3, BUCKET, "archive/")
    tenants = sorted({tenant for tenant, _ in world.archive.logs})
    archive_now(world, *tenants)
    assert world.archive.archived() == world.archive.logs, "the archive says something else than the segments"
    month = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m")
    for tenant in tenants:
        files, tiles = of_archive(world, "archive", tenant), of_archive(world, "tiles", tenant)
        [file], [_] = files, tiles
        assert f"/month={month}/" in file.key and file.tags == {"class": "365"} and not file.hold, file
        for segment in of_archive(world, "segments", tenant):
            assert segment.tags == {"archived": "true"} and not segment.hold, segment
        manifests = [key for key, *_ in versions(world.s3, BUCKET, f"checkpoints/tenant_id={tenant}/")
                     if key.endswith(".archive.manifest")]
        assert len(manifests) == 1, manifests
    counts = check_locks(world.s3, BUCKET, MODE)
    # The same once more is nothing new.
    before = versions(world.s3, BUCKET)
    archive_now(world, *tenants[:3])
    assert versions(world.s3, BUCKET) == before
    return ", ".join(f"{count} in {kind}" for kind, count in sorted(counts.items()))


def what_is_archived_is_read_like_anything_else(world):
    """By id and in lists, with its place in the log; and one that the hot store forgot is still known."""
    found = world.archive.by_id()
    for (tenant, id), leaf in list(found.items())[::40]:
        event = world.get(f"/v1/events/{id}?tenant_id={tenant}")
        expected = {"state": "archived", "leaf_hash": leaf.hash.hex(), "leaf_index": leaf.index}
        assert expected.items() <= event["integrity"].items(), event["integrity"]


def a_longer_class_lengthens_what_is_locked(world):
    tenant = world.real[0]["organization_id"]
    path = f"/v1/retention?tenant_id={tenant}"
    before = of_archive(world, "archive", tenant)
    status, _, body = world.request("PUT", f"{path}&preview=true", json.dumps({"class_days": 731}).encode())
    preview = json.loads(body)
    assert status == 200 and preview["effect"]["locks_lengthened"]["files"] == len(before), (status, body)
    assert of_archive(world, "archive", tenant) == before, "a preview changes nothing"
    status, _, body = world.request("PUT", path, json.dumps({"class_days": 731}).encode())
    assert status == 200, body

    def lengthened():
        return all(now.tags == {"class": "731"} and now.until >= then.until + 366 * DAY
                   for then, now in zip(before, of_archive(world, "archive", tenant), strict=True))

    eventually("every lock is longer", lengthened)
    eventually("the pass is on record", lambda: world.get(path)["enforcement"]["complete"])
    # Shorter is for what comes.
    status, _, body = world.request("PUT", path, json.dumps({"class_days": 365, "applies_to": "new"}).encode())
    assert status == 200, body
    assert lengthened()
    assert world.get(path)["class_days"] == 365
    return f"{len(before)} files"


def a_legal_hold_is_on_every_object_until_it_is_released(world):
    tenant = world.real[0]["organization_id"]
    wanted = {"tenant_id": tenant, "reason": "a case"}
    status, _, body = world.request("POST", "/v1/legal-holds", json.dumps(wanted).encode())
    assert status == 201, body
    path = f"/v1/legal-holds/{json.loads(body)['id']}?tenant_id={tenant}"
    eventually("it is in force", lambda: world.get(path)["state"] == "in_force")
    held = of_archive(world, "archive", tenant)
    assert held and all(file.hold and file.tags == {"class": "hold"} for file in held), held
    for file in held:
        try:
            world.s3.delete_object(Bucket=BUCKET, Key=file.key, VersionId=file.version)
        except world.s3.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] == "AccessDenied", error
        else:
            raise AssertionError(f"root could delete {file.key}")
    # What comes while it is open is held too.
    assert world.send(made_up(tenant, "held"))[0] == 201
    world.sealed()
    archive_now(world, tenant)
    more = of_archive(world, "archive", tenant)
    assert len(more) > len(held) and all(file.hold for file in more), more
    status, _, body = world.request("DELETE", path)
    assert status == 200, body
    eventually("it is off", lambda: world.get(path)["state"] == "released")
    free = of_archive(world, "archive", tenant)
    assert not any(file.hold for file in free), free
    assert {file.tags["class"] for file in free} == {"731", "365"}, free
    # Who did that is in the log.
    world.sealed()
    actions = {leaf.event["action"] for leaf in world.archive.logs[tenant, 0]}
    assert {"stele.retention.changed", "stele.legal_hold.placed", "stele.legal_hold.released"} <= actions, actions
    return f"{len(free)} files"


def dated_back(item, days):
    """An item of the events table as if the event had occurred and been received some days ago; its id and leaf's hash."""
    then = datetime.datetime.now(datetime.timezone.utc) - days * DAY
    leaf = json.loads(item["leaf"]["B"])
    ms = int(then.timestamp() * 1000)
    tail = "".join(random.Random(f"{SEED}{days}{leaf['id']}").choices("0123456789abcdef", k=12))
    leaf["id"] = f"{ms >> 16:08x}-{ms & 0xffff:04x}{leaf['id'][13:24]}{tail}"
    leaf["occurred_at"] = leaf["received_at"] = datetime.datetime.fromtimestamp(
        ms / 1000, datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    # RFC 8785, for names and texts of plain ASCII.
    written = json.dumps(leaf, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    tenant, _, shard = item["pk"]["S"].split("#")
    made = {**item, "pk": {"S": f"{tenant}#{then.date()}#{shard}"}, "sk": {"S": leaf["id"]}, "leaf": {"B": written}}
    return made, f"evt_{leaf['id']}", hashlib.sha256(b"\0" + written).hexdigest()


def every_closed_day_is_proven_and_what_is_missing_is_sealed(world):
    """Two days ago something was received that was sealed, and something that was not: the stream skipped it."""
    tenant, days = "org_cost", 2
    control = {"TableName": f"{NAME}-control"}
    record = world.dynamodb.get_item(**control, Key={"pk": {"S": "tenant"}, "sk": {"S": tenant}})["Item"]
    older = json.loads(record["json"]["S"])
    older["created_ms"] -= 3 * 24 * 60 * 60 * 1000
    world.dynamodb.put_item(**control, Item={**record, "json": {"S": json.dumps(older)}})
    page = world.dynamodb.scan(TableName=f"{NAME}-events", FilterExpression="begins_with(pk, :tenant)",
                               ExpressionAttributeValues={":tenant": {"S": f"{tenant}#"}})
    stored = [item for item in page["Items"] if b'"stele.' not in item["leaf"]["B"]]
    for item, skipped in zip(stored[:2], (False, True), strict=True):
        made, id, leaf_hash = dated_back(item, days)
        stream = next(found for found in world.lambdas.list_event_source_mappings(FunctionName=f"{NAME}-seal")
                      ["EventSourceMappings"] if ":dynamodb:" in found["EventSourceArn"])
        if skipped:
            nothing = {"Filters": [{"Pattern": '{"eventName":["NEVER"]}'}]}
            world.lambdas.update_event_source_mapping(UUID=stream["UUID"], FilterCriteria=nothing)
        world.dynamodb.put_item(TableName=f"{NAME}-events", Item=made)
        if skipped:
            time.sleep(5)
            world.lambdas.update_event_source_mapping(UUID=stream["UUID"], FilterCriteria=stream["FilterCriteria"])
            assert (tenant, id) not in world.archive.by_id()
        world.acknowledged[tenant, id] = leaf_hash
        if not skipped:
            world.sealed()

    def reconciled():
        """The watermark, after everybody was visited."""
        assert invoked(world, "reconcile", {"stele_plan": True}) == {"batchItemFailures": []}
        eventually("reconcile has been everywhere", lambda: waiting(world, world.reconciliation) == 0, 120)
        key = {"pk": {"S": f"policy#{tenant}"}, "sk": {"S": "reconciled"}}
        item = world.dynamodb.get_item(**control, Key=key).get("Item")
        return item and datetime.date.fromisoformat(item["through"]["S"])

    day = datetime.datetime.now(datetime.timezone.utc).date()
    first = reconciled()
    assert first is not None and first < day - days * DAY, f"proven through {first}, though something is missing"
    # What was missing went to seal by the parking queue.
    world.sealed()
    proven = reconciled()
    # Yesterday is closed an hour after it has ended.
    assert proven in (day - DAY, day - 2 * DAY), proven
    world.dynamodb.put_item(**control, Item=record)
    return f"{tenant} through {proven}"


def the_watchdog_stops_the_hot_store_from_forgetting(world):
    """Called as its alarm calls it, once and again; the operator turns it on again."""
    [alarm] = world.metrics.describe_alarms(AlarmNames=[f"{NAME}-days-unproven"])["MetricAlarms"]
    assert any(action.endswith(f":function:{NAME}-watchdog") for action in alarm["AlarmActions"]), alarm["AlarmActions"]
    event = json.loads((PROJECT / "events" / "lambda" / "alarm.json").read_text())
    status = lambda: world.dynamodb.describe_time_to_live(
        TableName=f"{NAME}-events")["TimeToLiveDescription"]["TimeToLiveStatus"]
    assert status() == "ENABLED", status()
    for _ in range(2):
        invoked(world, "watchdog", event)
        assert status() in ("DISABLED", "DISABLING"), status()
    world.dynamodb.update_time_to_live(
        TableName=f"{NAME}-events", TimeToLiveSpecification={"AttributeName": "expires", "Enabled": True})


def the_command_line_verifies_the_archive_too(world):
    """With events of the log's own, which nobody sent and which may still be on their way."""
    world.sealed()
    shown = ""

    def proven():
        nonlocal shown
        world.archive.refresh()
        shown = f"{len(world.archive.logs)} logs, {sum(map(len, world.archive.logs.values()))} events"
        return f"PROVEN: {shown}" in world.run_stele(
            "verify", "--installation", NAME, "--public-key", world.public_keys, expected=(0, 2))

    eventually("all of it is proven", proven, 30)
    return shown


def a_lost_database_is_rebuilt_from_the_bucket(world):
    """Everything in both tables is gone. What was sealed comes back, and the logs go on without a fork."""
    stream = next(found for found in world.lambdas.list_event_source_mappings(FunctionName=f"{NAME}-seal")
                  ["EventSourceMappings"] if ":dynamodb:" in found["EventSourceArn"])["UUID"]
    world.lambdas.update_event_source_mapping(UUID=stream, Enabled=False)
    for table in ("events", "control"):
        name = f"{NAME}-{table}"
        pages = world.dynamodb.get_paginator("scan").paginate(TableName=name)
        for item in [item for page in pages for item in page["Items"]]:
            world.dynamodb.delete_item(TableName=name, Key={"pk": item["pk"], "sk": item["sk"]})
        assert not world.dynamodb.scan(TableName=name)["Items"]
    before = len(versions(world.s3, BUCKET))
    said = world.run_stele("rebuild", "--installation", NAME)
    logs, leaves = len(world.archive.logs), sum(map(len, world.archive.logs.values()))
    assert f"rebuilt {logs} logs" in said and f"{leaves} events are back" in said, said
    assert len(versions(world.s3, BUCKET)) == before, "it writes nothing into the bucket"
    world.lambdas.update_event_source_mapping(UUID=stream, Enabled=True)
    world.key = bootstrapped_key(world)
    receipts = dict(world.acknowledged)
    for event in world.real[:12]:
        status, headers, body = world.send(event)
        assert status == 200 and headers.get("idempotent-replayed") == "true", (status, body)
    assert world.acknowledged == receipts
    for tenant in ("okta_acme", "org_cost"):
        assert world.send(made_up(tenant, "after"))[0] == 201
    world.sealed()
    return said.splitlines()[0]


def no_function_was_denied_anything_or_failed(world):
    """All that the functions called was allowed, and nothing that they logged is an error of theirs."""
    denied = [line for line in world.emulator.log.read_text(errors="replace").splitlines()
              if line.startswith("denied: ") and any(f"/{NAME}-{f}/{NAME}-{f}'" in line for f in FUNCTIONS)]
    assert not denied, "\n".join(denied[:5])
    assert not world.between.errors, world.between.errors
    for function in FUNCTIONS:
        panics = [line for line in world.log_of(function) if "panicked" in line]
        assert not panics, f"{function}: {panics[:3]}"
    calls = world.between.count()
    lines = {function: [f"{name} {calls[of, name]}" for of, name in sorted(calls) if of == function]
             for function in FUNCTIONS}
    return "".join(f"\n       {function}: {', '.join(made)}" for function, made in lines.items())


STEPS = [
    deployed_as_the_templates_say,
    setup_locked_the_secrets_and_published_the_key,
    a_platform_key_is_made,
    real_events_are_accepted,
    sent_again_they_are_replays_with_the_same_receipts,
    each_is_in_a_locked_segment_exactly_once,
    it_is_read_back_with_its_place_in_the_log,
    every_checkpoint_verifies,
    nobody_can_delete_shorten_or_overwrite,
    an_event_costs_one_write,
    asked_for_202_means_queued_and_stored_soon,
    while_dynamodb_refuses_writes_nothing_is_lost_or_doubled,
    apps_inside_the_account_may_use_the_queue,
    answers_that_get_lost_change_nothing,
    a_tenant_that_cannot_be_sealed_holds_up_nobody,
    what_the_hot_store_forgot_is_found_in_the_log,
    the_stream_once_more_from_its_beginning_changes_nothing,
    logs_that_went_quiet_are_published_by_the_schedule,
    the_command_line_verifies_the_bucket,
    the_doctor_finds_nothing_wrong_and_what_is_made_wrong,
    what_waits_is_archived_and_its_segments_let_go,
    what_is_archived_is_read_like_anything_else,
    what_is_sealed_is_proven_over_http,
    what_is_sealed_is_exported_into_files_behind_links,
    a_longer_class_lengthens_what_is_locked,
    a_legal_hold_is_on_every_object_until_it_is_released,
    every_closed_day_is_proven_and_what_is_missing_is_sealed,
    the_watchdog_stops_the_hot_store_from_forgetting,
    the_command_line_verifies_the_archive_too,
    a_lost_database_is_rebuilt_from_the_bucket,
    every_checkpoint_verifies,
    no_function_was_denied_anything_or_failed,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--functions", type=Path, default=PROJECT / "target" / "debug")
    parser.add_argument("--stele", type=Path, default=PROJECT / "target" / "debug" / "stele")
    parser.add_argument("--until", help="the last step to run")
    chosen = parser.parse_args()
    if not EVENTS.exists():
        raise SystemExit(f"{EVENTS} is not here: it is what these tests send")
    # Nothing of whoever runs this may reach the clients made here, and nothing may go through a proxy.
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        del os.environ[name]
    # Told to end, it cleans up first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = PROJECT / "target" / "aws"
    folder.mkdir(parents=True, exist_ok=True)
    only = (folder / "lock").open("w")
    fcntl.flock(only, fcntl.LOCK_EX)
    shutil.rmtree(folder / "run", ignore_errors=True)
    run = folder / "run"
    run.mkdir(parents=True)
    codes = folder / chosen.functions.resolve().name
    started = time.monotonic()
    deploy.code(chosen.functions.resolve(), codes)
    world = World(run, {"stele": str(chosen.stele.resolve())})
    world.codes = codes
    passed = failed = 0
    try:
        for step in STEPS:
            begun = time.monotonic()
            name = step.__name__.replace("_", " ")
            try:
                said = step(world)
            except Exception:
                traceback.print_exc(file=sys.stdout)
                print(f"FAILED {name}; logs: {world.emulator.log}", flush=True)
                failed = 1
                break
            passed += 1
            print(f"ok     {name} ({time.monotonic() - begun:.1f} s){': ' if said else ''}{said or ''}", flush=True)
            if step.__name__ == chosen.until:
                break
    finally:
        world.stop()
    print(f"{time.monotonic() - started:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
