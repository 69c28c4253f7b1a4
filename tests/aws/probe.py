"""What somebody could do who has taken over a function: calls made inside Lambda with the function's own role.

The bootstrap below is deployed beside our functions. It takes {service, operation, parameters} and answers
what AWS said; {"base64": "…"} in a parameter stands for bytes.
"""

import io
import json
import sys
import zipfile

from deploy import NAME, role_arn
from emulator import ACCOUNT

BOOTSTRAP = """#!{python}
import base64, json, os, urllib.request
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

def read(member):
    return base64.b64decode(member["base64"]) if list(member) == ["base64"] else member

def in_the_clear(request, **_):
    request.headers["X-Forwarded-Proto"] = "http"

def client(service, plain):
    config = Config(s3={{"addressing_style": "path"}}, retries={{"max_attempts": 1}})
    made = boto3.client(service, config=config)
    if plain:
        made.meta.events.register("before-send", in_the_clear)
    return made

base = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
clients = {{}}
while True:
    with urllib.request.urlopen(base + "next") as event:
        request_id, asked = event.headers["Lambda-Runtime-Aws-Request-Id"], json.load(event, object_hook=read)
    kind = asked["service"], asked["plain"]
    client_for = clients.get(kind) or clients.setdefault(kind, client(*kind))
    try:
        done = getattr(client_for, asked["operation"])(**asked["parameters"])
        answer = {{"ok": True, "version": done.get("VersionId")}}
    except ClientError as error:
        answer = {{"ok": False, "code": error.response["Error"]["Code"], "message": error.response["Error"]["Message"]}}
    request = urllib.request.Request(base + request_id + "/response", json.dumps(answer).encode(), method="POST")
    urllib.request.urlopen(request).close()
"""


class Probe:
    """Somebody inside a role."""

    def __init__(self, functions, role, emulator_log):
        self.functions, self.name, self.role, self.log = functions, f"probe-{role}", role, emulator_log
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            info = zipfile.ZipInfo("bootstrap")
            info.external_attr = 0o755 << 16
            archive.writestr(info, BOOTSTRAP.format(python=sys.executable))
        functions.create_function(
            FunctionName=self.name, Runtime="provided.al2023", Handler="bootstrap", Role=role_arn(role), Timeout=60,
            Code={"ZipFile": packed.getvalue()}, Architectures=["x86_64"],
        )

    def __call__(self, service, operation, plain=False, **parameters):
        asked = {"service": service, "operation": operation, "plain": plain, "parameters": parameters}
        answer = self.functions.invoke(FunctionName=self.name, Payload=json.dumps(asked).encode())
        payload = json.loads(answer["Payload"].read())
        assert "ok" in payload, f"{self.name}: {payload}"
        return payload

    def denied(self, what, service, operation, by=None, **parameters):
        """The call must be refused for want of a right, and for nothing else; `by` is the statement that denies it."""
        answer = self(service, operation, **parameters)
        codes = ("AccessDenied", "AccessDeniedException")
        assert not answer["ok"] and answer["code"] in codes, f"{self.role} can {what}: {answer}"
        if by:
            lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.startswith("denied: ")]
            assert f"matched_sid='{by}'" in lines[-1], f"{self.role} can't {what}, but not because of {by}: {lines[-1]}"


def make_administrator(iam, name):
    """A role of the account that may do everything, as far as no resource's own policy says otherwise. Its ARN."""
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    trust = {"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com", "AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Action": "sts:AssumeRole"}]}
    iam.create_role(RoleName=f"{NAME}-{name}", AssumeRolePolicyDocument=json.dumps(trust))
    iam.put_role_policy(RoleName=f"{NAME}-{name}", PolicyName="everything",
                        PolicyDocument=json.dumps(everything))
    return role_arn(name)
