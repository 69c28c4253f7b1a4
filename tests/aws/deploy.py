"""Our templates, deployed by `sam deploy` as anybody would, to the emulator.

Changed on the way, in copies: where the code of the functions lies (their binaries are built already) and nothing else.
What the emulator leaves out of a bucket is asserted in the template and set by API from the template's own values.
"""

import subprocess
import sys
from pathlib import Path

import boto3
from botocore.config import Config
from samcli.yamlhelper import yaml_dump, yaml_parse

from emulator import ACCOUNT, REGION, ROOT, bare_environment

PROJECT = Path(__file__).resolve().parents[2]
INFRA = PROJECT / "infra"
FUNCTIONS = ("ingest", "drain", "seal", "query", "compact", "reconcile", "export", "watchdog", "setup")
NAME = "stele"


def client(service, endpoint, keys=None):
    keys = keys or ("test", "test", None)
    return boto3.client(
        service, endpoint_url=endpoint, region_name=REGION, aws_access_key_id=keys[0], aws_secret_access_key=keys[1],
        aws_session_token=keys[2],
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, read_timeout=120),
    )


def code(binaries, folder):
    """A folder for each function with its `bootstrap`, without debug information."""
    for function in FUNCTIONS:
        built = next((p for p in (binaries / function / "bootstrap", binaries / function) if p.is_file()), None)
        if built is None:
            raise SystemExit(f"{binaries / function} is not there: build it, e.g. cargo build -p stele-{function}")
        bootstrap = folder / function / "bootstrap"
        stamp = folder / f"{function}.made-of"
        made_of = f"{built} {built.stat().st_size} {built.stat().st_mtime_ns}"
        if not stamp.exists() or stamp.read_text() != made_of:
            bootstrap.parent.mkdir(parents=True, exist_ok=True)
            bootstrap.unlink(missing_ok=True)
            subprocess.run(["strip", "-o", bootstrap, built], check=True)
            bootstrap.chmod(0o755)
            stamp.write_text(made_of)


def copies(folder, codes):
    """Copies of the templates whose functions are the given ones."""
    for template in INFRA.glob("*.yaml"):
        parsed = yaml_parse(template.read_text())
        resources = parsed.get("Resources") if isinstance(parsed, dict) else None
        if not resources:
            continue
        for resource in resources.values():
            if resource["Type"] == "AWS::Serverless::Function":
                function = Path(resource["Properties"]["CodeUri"]).name
                assert function in FUNCTIONS, f"{template.name}: a function that is not built: {function}"
                resource["Properties"]["CodeUri"] = str(codes / function)
                resource.pop("Metadata", None)
        (folder / template.name).write_text(yaml_dump(parsed))


def sam_deploy(endpoint, folder, parameters):
    """`sam deploy` of the whole. What it printed, if it failed."""
    store = f"{NAME}-deployment"
    client("s3", endpoint).create_bucket(Bucket=store, CreateBucketConfiguration={"LocationConstraint": REGION})
    command = [
        str(Path(sys.executable).with_name("sam")), "deploy", "--template-file", str(folder / "template.yaml"),
        "--stack-name", NAME, "--s3-bucket", store, "--region", REGION, "--no-confirm-changeset", "--no-progressbar",
        "--capabilities", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND",
        "--parameter-overrides", *(f"{name}={value}" for name, value in parameters.items()),
    ]
    environment = bare_environment(
        **ROOT, AWS_ENDPOINT_URL=endpoint, SAM_CLI_TELEMETRY="0", HOME=str(folder), SAM_CLI_POLL_DELAY="1",
    )
    done = subprocess.run(command, env=environment, cwd=folder, text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    if done.returncode != 0:
        raise AssertionError(f"sam deploy ended with {done.returncode}:\n{done.stdout[-6000:]}")


class Stateful:
    """What the stateful template says of bucket and tables, beyond what the emulator makes of it."""

    def __init__(self):
        resources = yaml_parse((INFRA / "stateful.yaml").read_text())["Resources"]
        self.archive = resources["ArchiveBucket"]["Properties"]
        self.exports = resources["ExportBucket"]["Properties"]
        self.tables = {table: resources[resource]["Properties"]
                       for table, resource in (("events", "EventsTable"), ("control", "ControlTable"))}
        assert self.archive["ObjectLockEnabled"] is True
        assert self.archive["ObjectLockConfiguration"]["ObjectLockEnabled"] == "Enabled"
        assert self.archive["VersioningConfiguration"]["Status"] == "Enabled"
        assert all(self.archive["PublicAccessBlockConfiguration"].values())
        assert all(self.exports["PublicAccessBlockConfiguration"].values())

    def complete_tables(self, dynamodb):
        """Sets the template's expiry and point-in-time recovery by API."""
        for name, table in self.tables.items():
            assert table["TimeToLiveSpecification"] == {"AttributeName": "expires", "Enabled": True}
            dynamodb.update_time_to_live(
                TableName=f"{NAME}-{name}", TimeToLiveSpecification=table["TimeToLiveSpecification"])
            assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
            dynamodb.update_continuous_backups(
                TableName=f"{NAME}-{name}",
                PointInTimeRecoverySpecification=table["PointInTimeRecoverySpecification"])

    def complete_bucket(self, s3, bucket, mode):
        """Sets the template's lock, encryption and lifecycle by API."""
        retention = self.archive["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
        assert retention["Mode"] == {"Ref": "LockMode"}
        s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": mode, "Days": retention["Days"]}},
        })
        complete(s3, bucket, self.archive)

    def complete_exports(self, s3, bucket):
        """The same for the bucket of exports, which has no lock."""
        assert "ObjectLockEnabled" not in self.exports
        complete(s3, bucket, self.exports)


def complete(s3, bucket, template):
    """Sets a template's encryption and lifecycle by API."""
    rules = template["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [
        {"ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"]} for rule in rules
    ]})
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [
        lifecycle_rule(rule) for rule in template["LifecycleConfiguration"]["Rules"]
    ]})


def lifecycle_rule(rule):
    """A rule as the API wants it."""
    prefix, tags = rule.get("Prefix", ""), rule.get("TagFilters", [])
    made = {"ID": rule["Id"], "Status": rule["Status"],
            "Filter": {"And": {"Prefix": prefix, "Tags": tags}} if tags else {"Prefix": prefix}}
    if "ExpirationInDays" in rule:
        made["Expiration"] = {"Days": int(rule["ExpirationInDays"])}
    if rule.get("ExpiredObjectDeleteMarker"):
        made["Expiration"] = {"ExpiredObjectDeleteMarker": True}
    if "NoncurrentVersionExpiration" in rule:
        made["NoncurrentVersionExpiration"] = {
            "NoncurrentDays": int(rule["NoncurrentVersionExpiration"]["NoncurrentDays"])}
    if "AbortIncompleteMultipartUpload" in rule:
        made["AbortIncompleteMultipartUpload"] = rule["AbortIncompleteMultipartUpload"]
    if "Transitions" in rule:
        made["Transitions"] = [
            {"Days": int(t["TransitionInDays"]), "StorageClass": t["StorageClass"]} for t in rule["Transitions"]]
    unknown = set(rule) - {"Id", "Status", "Prefix", "TagFilters", "ExpirationInDays", "ExpiredObjectDeleteMarker",
                           "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload", "Transitions"}
    assert not unknown, f"lifecycle rule {rule['Id']}: {unknown}"
    return made


def outputs(endpoint):
    """The outputs of the stack and of those nested in it, by stack."""
    cloudformation = client("cloudformation", endpoint)
    found = {}
    for stack in cloudformation.describe_stacks()["Stacks"]:
        values = {out["OutputKey"]: out["OutputValue"] for out in stack.get("Outputs", [])}
        name = stack["StackName"].removeprefix(f"{NAME}-").split("-")[0] if stack["StackName"] != NAME else ""
        assert stack["StackStatus"] == "CREATE_COMPLETE", f"{stack['StackName']} is {stack['StackStatus']}"
        found[name] = values
    return found


def function_arn(function):
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{NAME}-{function}"


def role_arn(function):
    return f"arn:aws:iam::{ACCOUNT}:role/{NAME}-{function}"
