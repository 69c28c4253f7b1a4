"""Requests against the policies of infra/, and mutations of those policies. The tests are in test_policies.py."""

import copy
import json
import pathlib
import subprocess

from stack import ACCOUNT, KEY, NAME, REGION, STREAM, Stack, listed

HERE = pathlib.Path(__file__).resolve().parent
FUNCTIONS = ["ingest", "drain", "seal", "query", "compact", "reconcile", "export", "watchdog", "setup"]
QUEUES = ["spill", "parking", "compaction", "reconciliation", "exports"]

ARCHIVE = f"arn:aws:s3:::{NAME}-archive-{ACCOUNT}-{REGION}"
FAILED = f"arn:aws:s3:::{NAME}-failed-{ACCOUNT}-{REGION}"
EXPORTS = f"arn:aws:s3:::{NAME}-exports-{ACCOUNT}-{REGION}"
RESULTS = f"arn:aws:s3:::{NAME}-results-{ACCOUNT}-{REGION}"
OTHER_BUCKET = "arn:aws:s3:::payroll"
EVENTS = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{NAME}-events"
CONTROL = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{NAME}-control"
OTHER_TABLE = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/payroll"
OTHER_STREAM = f"{OTHER_TABLE}/stream/2026-01-01T00:00:00.000"
OTHER_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/99999999-2222-3333-4444-555555555555"
OTHER_ACCOUNT = "999999999999"


def queue(name):
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{NAME}-{name}"


def invocable(name):
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{NAME}-{name}"


def role(name):
    return f"arn:aws:iam::{ACCOUNT}:role/{NAME}-{name}"


def log_stream(function):
    group = f"log-group:/aws/lambda/{NAME}-{function}"
    return f"arn:aws:logs:{REGION}:{ACCOUNT}:{group}:log-stream:2026/01/01/[1]abc"


ROOT = f"arn:aws:iam::{ACCOUNT}:root"
ADMIN = f"arn:aws:iam::{ACCOUNT}:role/Admin"
OPERATOR = f"arn:aws:iam::{ACCOUNT}:role/Operator"
DEPLOYER = f"arn:aws:iam::{ACCOUNT}:role/Deployer"
STRANGER = f"arn:aws:iam::{OTHER_ACCOUNT}:role/Admin"

# A role whose own policy allows everything: what it still can't do, the resource's policy denies.
EVERYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Sid": "Everything", "Effect": "Allow", "Action": "*", "Resource": "*"}],
}

_stateful = Stack("stateful.yaml")
_trial = Stack("stateful.yaml", LockMode="GOVERNANCE")
_staffed = Stack("stateful.yaml", OperatorRoleArn=OPERATOR, DeploymentRoleArn=DEPLOYER)
_api = Stack("api.yaml")
_api_staffed = Stack("api.yaml", OperatorRoleArn=OPERATOR)
_analytics = Stack("analytics.yaml")


def _policy(stack, logical):
    return stack.resources[logical]["Properties"]["PolicyDocument"]


DOCUMENTS = {
    "everything": EVERYTHING,
    "archive": _policy(_stateful, "ArchivePolicy"),
    "archive-trial": _policy(_trial, "ArchivePolicy"),
    "archive-staffed": _policy(_staffed, "ArchivePolicy"),
    "failed": _policy(_stateful, "FailedPolicy"),
    "exported": _policy(_stateful, "ExportPolicy"),
    "results": _policy(_analytics, "ResultsPolicy"),
    # The policy a key has when nothing is said: the account's own policies decide.
    "open key": {
        "Version": "2012-10-17",
        "Statement": [
            {"Sid": "Account", "Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:*", "Resource": "*"}
        ],
    },
    "key": _stateful.resources["SecretsKey"]["Properties"]["KeyPolicy"],
    "key-staffed": _staffed.resources["SecretsKey"]["Properties"]["KeyPolicy"],
    "parking-staffed": _policy(_api_staffed, "ParkingQueuePolicy"),
}
for _queue in QUEUES:
    DOCUMENTS[_queue] = _policy(_api, f"{_queue.capitalize()}QueuePolicy")
    DOCUMENTS[f"{_queue}-dead"] = _policy(_api, f"{_queue.capitalize()}DeadQueuePolicy")
for _function in FUNCTIONS:
    (_inline,) = _api.resources[f"{_function.capitalize()}Role"]["Properties"]["Policies"]
    DOCUMENTS[_function] = _inline["PolicyDocument"]


def attached(resource):
    """The policy of the resource itself, by name."""
    for prefix, name in [
        (ARCHIVE, "archive"),
        (FAILED, "failed"),
        (EXPORTS, "exported"),
        (RESULTS, "results"),
        (KEY, "key"),
        *((queue(f"{name}-dead"), f"{name}-dead") for name in QUEUES),
        *((queue(name), name) for name in QUEUES),
    ]:
        if resource.startswith(prefix):
            return name
    return None


def request(principal, action, resource, context, identity, policy="attached"):
    """One request with the context AWS gives every one of its kind; `context` adds to it, None takes away."""
    everyday = {
        "aws:SecureTransport": "true",
        "aws:PrincipalArn": principal,
        "aws:PrincipalAccount": principal.split(":")[4],
    }
    everyday.update(context)
    return {
        "principal": principal,
        "action": action,
        "resource": resource,
        "account": ACCOUNT,
        "context": {key: value for key, value in everyday.items() if value is not None},
        "identity": [identity],
        "policy": attached(resource) if policy == "attached" else policy,
    }


def shown(case):
    who = case["principal"].split(":")[-1]
    extra = {k: v for k, v in case["context"].items() if k not in ("aws:PrincipalArn", "aws:PrincipalAccount")}
    return f"{who} {case['action']} {case['resource'].split(':::')[-1]} {json.dumps(extra)} under {case['policy']}"


def simulate(requests, mutants=(), keys=()):
    """Asks the simulator. A context key it does not know for an action is a mistake of the request's."""
    question = {
        "documents": DOCUMENTS,
        "requests": requests,
        "mutants": [{"name": n, "actions": actions, "documents": d} for n, actions, d in mutants],
        "keys": list(keys),
    }
    run = subprocess.run(
        ["node", "simulate.mjs"], cwd=HERE, input=json.dumps(question), capture_output=True, text=True, check=False
    )
    if run.returncode != 0:
        raise AssertionError(run.stderr)
    return json.loads(run.stdout)


# ---- mutations ----


def _with(document, index, change):
    mutated = copy.deepcopy(document)
    change(mutated["Statement"][index], mutated["Statement"])
    return mutated


def _shortened(statement, field):
    """Each way to lose one element of a list in a statement."""
    values = listed(statement.get(field, []))
    if len(values) < 2:
        return
    for value in values:
        def change(target, _, value=value):
            target[field] = [kept for kept in values if kept != value]
        yield f"{field} without {value}", change


def _conditions(statement):
    """Each way to lose a condition, one of its values, or a day of a number."""
    for operator, tests in statement.get("Condition", {}).items():
        for key, expected in tests.items():
            def drop(target, _, operator=operator, key=key):
                del target["Condition"][operator][key]
                if not target["Condition"][operator]:
                    del target["Condition"][operator]
                if not target["Condition"]:
                    del target["Condition"]
            yield f"without {operator} {key}", drop
            values = listed(expected)
            for value in values if len(values) > 1 else []:
                def narrow(target, _, operator=operator, key=key, value=value):
                    target["Condition"][operator][key] = [v for v in values if v != value]
                yield f"{operator} {key} without {value}", narrow
            for step in (-1, 1) if operator.startswith("Numeric") else ():
                def shift(target, _, operator=operator, key=key, step=step):
                    target["Condition"][operator][key] = str(int(expected) + step)
                yield f"{operator} {key} {step:+d}", shift


def mutants(name, only=None):
    """(what was done, which actions it can matter to, the mutated documents) for each thing a policy could lose or
    loosen."""
    document = DOCUMENTS[name]
    for index, statement in enumerate(document["Statement"]):
        sid = statement["Sid"]
        if only is not None and sid not in only:
            continue

        actions = listed(statement["Action"])

        def mutant(what, change, actions=actions):
            return f"{name}/{sid}: {what}", actions, {name: _with(document, index, change)}

        yield mutant("dropped", lambda target, statements: statements.remove(target))
        for field in ("Action", "Resource", "NotResource"):
            for what, change in _shortened(statement, field):
                yield mutant(what, change)
        for what, change in _conditions(statement):
            yield mutant(what, change)
        if statement["Effect"] == "Allow" and "Principal" not in statement:
            yield mutant("any resource", lambda target, _: target.update(Resource="*"))
            every = actions[0].split(":")[0] + ":*"
            yield mutant("any action", lambda target, _: target.update(Action=every), [every])
