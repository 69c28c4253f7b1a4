"""The templates of infra/ as AWS would see them: translated by SAM's own package, every intrinsic resolved for one
imagined account.

It resolves what the templates use and nothing else: an intrinsic or attribute it does not know is an error, so that no
check ever looks at a half-resolved value.
"""

import copy
import logging
import os
import pathlib

os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")
# It collects figures about templates, which nobody asked for here, and complains that nobody took them.
logging.getLogger("samtranslator.metrics").setLevel(logging.ERROR)

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

INFRA = pathlib.Path(__file__).resolve().parents[2] / "infra"
ACCOUNT = "123456789012"
REGION = "eu-central-1"
NAME = "stele"
STREAM = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{NAME}-events/stream/2026-01-01T00:00:00.000"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
FILES = ["stateful.yaml", "api.yaml", "analytics.yaml", "observability.yaml"]

PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::StackName": NAME,
}
# What other stacks would hand in.
GIVEN = {"EventsStreamArn": STREAM, "KmsKeyArn": KEY, "ApiId": "abc123", "StreamMappingId": "mapping-1"}

NOTHING = object()


class _NoPolicies:
    def load(self):
        return {}


def parsed(file):
    """A template as it is written."""
    return yaml_parse((INFRA / file).read_text(encoding="utf-8"))


def translated(file):
    """A template after SAM's transform. Code is imagined to have been uploaded."""
    template = parsed(file)
    if template.get("Transform") is None:
        return template
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = {"Bucket": "code", "Key": "code.zip"}
    return transform(copy.deepcopy(template), {}, _NoPolicies())


class Stack:
    """A translated template with all values resolved."""

    def __init__(self, file, **parameters):
        self.file = file
        self.template = translated(file)
        self.parameters = {}
        for name, declared in self.template.get("Parameters", {}).items():
            value = parameters.get(name, GIVEN.get(name, declared.get("Default")))
            if value is None:
                raise ValueError(f"{file}: parameter {name} has no value")
            self.parameters[name] = value
        self.conditions = self.template.get("Conditions", {})
        self.resources = {}
        for logical, resource in self.template["Resources"].items():
            if "Condition" in resource and not self._condition(resource["Condition"]):
                continue
            resolved = self._resolve(resource.get("Properties", {}))
            self.resources[logical] = {**resource, "Properties": resolved}

    def of(self, kind):
        """Logical id and properties of all resources of a type."""
        return {k: r["Properties"] for k, r in self.resources.items() if r["Type"] == kind}

    def _condition(self, name):
        return self._resolve(self.conditions[name])

    def _properties(self, logical):
        return self.template["Resources"][logical]["Properties"]

    def _ref(self, name):
        if name == "AWS::NoValue":
            return NOTHING
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.parameters:
            return self.parameters[name]
        kind = self.template["Resources"][name]["Type"]
        named = {
            "AWS::DynamoDB::Table": "TableName",
            "AWS::S3::Bucket": "BucketName",
            "AWS::IAM::Role": "RoleName",
            "AWS::Lambda::Function": "FunctionName",
            "AWS::Athena::WorkGroup": "Name",
        }
        if kind in named:
            return self._resolve(self._properties(name)[named[kind]])
        if kind == "AWS::SQS::Queue":
            queue = self._resolve(self._properties(name)["QueueName"])
            return f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{queue}"
        if kind == "AWS::SNS::Topic":
            return f"arn:aws:sns:{REGION}:{ACCOUNT}:{self._resolve(self._properties(name)['TopicName'])}"
        if kind == "AWS::Glue::Database":
            return self._resolve(self._properties(name)["DatabaseInput"]["Name"])
        return f"<{name}>"

    def _attribute(self, logical, attribute):
        kind = self.template["Resources"][logical]["Type"]
        if (kind, attribute) == ("AWS::DynamoDB::Table", "StreamArn"):
            return STREAM
        if (kind, attribute) == ("AWS::KMS::Key", "Arn"):
            return KEY
        if kind == "Custom::SteleSecrets" or (kind, attribute) == ("AWS::ApiGatewayV2::Api", "ApiEndpoint"):
            return f"<{logical}.{attribute}>"
        if attribute != "Arn":
            raise ValueError(f"{self.file}: attribute {logical}.{attribute}")
        if kind == "AWS::Logs::LogGroup":
            group = self._resolve(self._properties(logical)["LogGroupName"])
            return f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}"
        if kind == "AWS::SQS::Queue":
            queue = self._resolve(self._properties(logical)["QueueName"])
            return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}"
        name = self._ref(logical)
        return {
            "AWS::DynamoDB::Table": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}",
            "AWS::S3::Bucket": f"arn:aws:s3:::{name}",
            "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{name}",
            "AWS::Lambda::Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}",
            "AWS::Events::Rule": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{name}",
        }[kind]

    def _sub(self, text):
        out, rest = "", text
        while True:
            before, opened, rest = rest.partition("${")
            out += before
            if not opened:
                return out
            name, closed, rest = rest.partition("}")
            if not closed:
                raise ValueError(f"{self.file}: unclosed ${{ in {text}")
            if name.startswith("!"):
                out += "${" + name[1:] + "}"
            elif "." in name:
                out += str(self._attribute(*name.split(".", 1)))
            else:
                out += str(self._ref(name))

    def _resolve(self, value):
        if isinstance(value, list):
            resolved = (self._resolve(item) for item in value)
            return [item for item in resolved if item is not NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (key, argument), = value.items()
            if key == "Ref":
                return self._ref(argument)
            if key == "Condition" and isinstance(argument, str):
                return self._condition(argument)
            if key == "Fn::GetAtt":
                parts = argument.split(".", 1) if isinstance(argument, str) else argument
                return self._attribute(*parts)
            if key == "Fn::Sub":
                if not isinstance(argument, str):
                    raise ValueError(f"{self.file}: Fn::Sub with a map")
                return self._sub(argument)
            if key == "Fn::If":
                condition, then, otherwise = argument
                return self._resolve(then if self._condition(condition) else otherwise)
            if key == "Fn::Equals":
                left, right = (self._resolve(item) for item in argument)
                return str(left) == str(right)
            if key == "Fn::Not":
                return not self._resolve(argument[0])
            if key == "Fn::Join":
                separator, items = argument
                return separator.join(self._resolve(items))
            if key == "Fn::Split":
                separator, text = argument
                return self._resolve(text).split(separator)
            if key.startswith("Fn::"):
                raise ValueError(f"{self.file}: intrinsic {key}")
        resolved = {key: self._resolve(item) for key, item in value.items()}
        return {key: item for key, item in resolved.items() if item is not NOTHING}


def listed(value):
    """A policy's string or list, as a list."""
    return value if isinstance(value, list) else [value]
