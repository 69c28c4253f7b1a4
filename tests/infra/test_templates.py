"""Rules that the templates must keep, over what SAM makes of them.

Each table here is the other copy of something that must not change by accident: what a function may call, what its
environment holds, how long a class is locked.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import unittest

import yaml

from stack import FILES, INFRA, KEY, Stack, listed, parsed, translated

CLASSES = [90, 180, 365, 731, 1096, 2192, 2557, 3653]
SEGMENT_LOCK_DAYS = 35

READ_OBJECTS = {"s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectRetention", "s3:ListBucketVersions"}
WRITE_OBJECTS = READ_OBJECTS | {"s3:PutObject", "s3:PutObjectRetention"}
TAKE = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility"}
LOG = {"logs:CreateLogStream", "logs:PutLogEvents"}
STREAM = {
    "dynamodb:DescribeStream",
    "dynamodb:GetRecords",
    "dynamodb:GetShardIterator",
    "dynamodb:ListStreams",
}
ACCEPT = LOG | {"dynamodb:GetItem", "dynamodb:PutItem", "kms:Decrypt"}
ACTIONS = {
    "ingest": ACCEPT | {"sqs:SendMessage", "lambda:InvokeFunction"},
    "drain": ACCEPT | READ_OBJECTS | {"dynamodb:Query", "s3:ListBucket"} | TAKE,
    "seal": LOG
    | STREAM
    | WRITE_OBJECTS
    | TAKE
    | {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "kms:Decrypt", "s3:ListBucket", "sqs:SendMessage"},
    "query": LOG
    | READ_OBJECTS
    | {
        "dynamodb:BatchGetItem",
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "dynamodb:Query",
        "dynamodb:UpdateItem",
        "kms:Decrypt",
        "s3:ListBucket",
        "sqs:GetQueueAttributes",
        "sqs:SendMessage",
    },
    "compact": LOG
    | WRITE_OBJECTS
    | TAKE
    | {
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "dynamodb:Query",
        "dynamodb:UpdateItem",
        "kms:Decrypt",
        "s3:GetObjectLegalHold",
        "s3:GetObjectTagging",
        "s3:GetObjectVersionTagging",
        "s3:ListBucket",
        "s3:PutObjectLegalHold",
        "s3:PutObjectTagging",
        "s3:PutObjectVersionTagging",
        "sqs:SendMessage",
    },
    "reconcile": LOG
    | READ_OBJECTS
    | TAKE
    | {
        "dynamodb:BatchGetItem",
        "dynamodb:DeleteItem",
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "dynamodb:Query",
        "kms:Decrypt",
        "s3:GetObjectLegalHold",
        "s3:GetObjectTagging",
        "s3:GetObjectVersionTagging",
        "s3:ListBucket",
        "s3:PutObjectRetention",
        "sqs:SendMessage",
    },
    "export": LOG
    | READ_OBJECTS
    | TAKE
    | {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "s3:ListBucket", "s3:PutObject"},
    "watchdog": LOG | {"dynamodb:DescribeTimeToLive", "dynamodb:UpdateTimeToLive"},
    "setup": LOG | WRITE_OBJECTS | {"kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext"},
}

ENVIRONMENT = {
    "ingest": "EVENTS_TABLE CONTROL_TABLE QUERY_FUNCTION SPILL_QUEUE_URL LOG_NAME MASTER_SECRET",
    "drain": "EVENTS_TABLE CONTROL_TABLE ARCHIVE_BUCKET LOG_NAME MASTER_SECRET",
    "seal": "CONTROL_TABLE ARCHIVE_BUCKET PARKING_QUEUE_URL LOCK_MODE PUBLISH_EVERY_SECONDS SIGNING_SEED WITNESSES",
    "query": "EVENTS_TABLE CONTROL_TABLE ARCHIVE_BUCKET SPILL_QUEUE_URL PARKING_QUEUE_URL COMPACTION_QUEUE_URL "
    "EXPORT_QUEUE_URL EXPORT_BUCKET LOG_NAME ENV MASTER_SECRET PUBLIC_KEYS",
    "compact": "CONTROL_TABLE ARCHIVE_BUCKET LOCK_MODE COMPACTION_QUEUE_URL SIGNING_SEED",
    "reconcile": "EVENTS_TABLE CONTROL_TABLE ARCHIVE_BUCKET LOCK_MODE RECONCILIATION_QUEUE_URL COMPACTION_QUEUE_URL "
    "PARKING_QUEUE_URL MASTER_SECRET",
    "export": "CONTROL_TABLE ARCHIVE_BUCKET EXPORT_BUCKET",
    "watchdog": "EVENTS_TABLE",
    "setup": "ARCHIVE_BUCKET KMS_KEY_ID LOCK_MODE",
}

# What answers requests. Of those that succeed Lambda logs nothing here: our own line of metrics says it.
QUIET = {"ingest", "query"}

# Within an object key or a log group, a wildcard is unavoidable. These are all of them.
WILDCARDS = re.compile(
    r"(/segments|/archive|/tiles|/checkpoints|/key-changes|/statements|/secrets|/keys|/exports|/aws/lambda)/\*|:log-group:/aws/lambda/stele-[a-z]+:\*"
)
FORBIDDEN = re.compile(r"\*|Delete|Bypass|Update|BatchWrite|Purge|PartiQL|Tagging|LegalHold|Policy|Acl|CreateGrant", re.I)
# What sounds like it and is not. Who does what else is forbidden, and why that is safe: taking a message off its queue is
# how it is acknowledged; progress is counted in place; tags and holds are compact's; the index of segments is a cache; what
# the watchdog changes it changes to «never forget».
HARMLESS = {
    "drain": {"sqs:DeleteMessage"},
    "seal": {"sqs:DeleteMessage"},
    "query": {"dynamodb:UpdateItem"},
    "compact": {
        "sqs:DeleteMessage",
        "dynamodb:UpdateItem",
        "s3:GetObjectLegalHold",
        "s3:GetObjectTagging",
        "s3:GetObjectVersionTagging",
        "s3:PutObjectLegalHold",
        "s3:PutObjectTagging",
        "s3:PutObjectVersionTagging",
    },
    "reconcile": {
        "sqs:DeleteMessage",
        "dynamodb:DeleteItem",
        "s3:GetObjectLegalHold",
        "s3:GetObjectTagging",
        "s3:GetObjectVersionTagging",
    },
    "export": {"sqs:DeleteMessage"},
    "watchdog": {"dynamodb:UpdateTimeToLive"},
}


def function_of(logical):
    return re.sub("(Role|Function|Logs)$", "", logical).lower()


class Templates(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.stacks = {file: Stack(file) for file in FILES}
        cls.stateful, cls.api = cls.stacks["stateful.yaml"], cls.stacks["api.yaml"]
        cls.analytics, cls.observability = cls.stacks["analytics.yaml"], cls.stacks["observability.yaml"]

    # ---- roles ----

    def test_a_role_has_exactly_the_actions_of_its_function(self):
        roles = self.api.of("AWS::IAM::Role")
        self.assertEqual({function_of(name) for name in roles}, set(ACTIONS))
        for name, role in roles.items():
            function = function_of(name)
            with self.subTest(function):
                self.assertEqual(role["RoleName"], f"stele-{function}")
                self.assertNotIn("ManagedPolicyArns", role)
                (inline,) = role["Policies"]
                statements = inline["PolicyDocument"]["Statement"]
                actions = {action for statement in statements for action in listed(statement["Action"])}
                self.assertEqual(actions, ACTIONS[function])
                self.assertTrue(all(statement["Effect"] == "Allow" for statement in statements))
                (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
                self.assertEqual(trust["Principal"], {"Service": "lambda.amazonaws.com"})

    def test_no_role_deletes_unlocks_or_reaches_everything(self):
        for name, role in self.api.of("AWS::IAM::Role").items():
            sounds_like_it = set()
            for statement in role["Policies"][0]["PolicyDocument"]["Statement"]:
                self.assertLessEqual(set(statement), {"Sid", "Effect", "Action", "Resource", "Condition"}, name)
                sounds_like_it |= {action for action in listed(statement["Action"]) if FORBIDDEN.search(action)}
                for resource in listed(statement["Resource"]):
                    self.assertTrue(resource.startswith("arn:aws:"), f"{name}: {resource}")
                    self.assertNotIn("*", WILDCARDS.sub("", resource), f"{name}: {resource}")
                    self.assertTrue("stele-" in resource or resource == KEY, f"{name}: {resource}")
            self.assertEqual(sounds_like_it, HARMLESS.get(function_of(name), set()), name)

    def test_what_reconcile_deletes_is_the_index_of_segments_alone(self):
        (inline,) = self.api.of("AWS::IAM::Role")["ReconcileRole"]["Policies"]
        (statement,) = [s for s in inline["PolicyDocument"]["Statement"] if "dynamodb:DeleteItem" in listed(s["Action"])]
        self.assertEqual(listed(statement["Action"]), ["dynamodb:DeleteItem"])
        self.assertEqual(statement["Condition"]["ForAllValues:StringLike"], {"dynamodb:LeadingKeys": ["segments#*"]})

    def test_policies_are_short_enough_for_aws(self):
        sizes = {
            name: len(json.dumps(role["Policies"][0]["PolicyDocument"], separators=(",", ":")))
            for name, role in Stack("api.yaml", InstallationName="s" * 20).of("AWS::IAM::Role").items()
        }
        # IAM allows 10,240 characters without white space, S3 20 KB. Regions and partitions may have longer names.
        self.assertLess(max(sizes.values()), 9_000, sizes)
        policy = Stack("stateful.yaml", InstallationName="s" * 20).of("AWS::S3::BucketPolicy")["ArchivePolicy"]
        self.assertLess(len(json.dumps(policy["PolicyDocument"], separators=(",", ":"))), 18_000)

    def test_each_function_runs_with_its_own_role_log_and_environment(self):
        functions = self.api.of("AWS::Lambda::Function")
        self.assertEqual({function_of(name) for name in functions}, set(ENVIRONMENT))
        for name, function in functions.items():
            own = function_of(name)
            with self.subTest(own):
                self.assertEqual(function["FunctionName"], f"stele-{own}")
                self.assertTrue(function["Role"].endswith(f":role/stele-{own}"))
                self.assertEqual(
                    set(function["Environment"]["Variables"]), {f"STELE_{key}" for key in ENVIRONMENT[own].split()}
                )
                self.assertEqual((function["Runtime"], function["Handler"]), ("provided.al2023", "bootstrap"))
                self.assertEqual(function["Architectures"], ["arm64"])
                logging = {"LogFormat": "JSON", **({"SystemLogLevel": "WARN"} if own in QUIET else {})}
                self.assertEqual(function["LoggingConfig"], logging)
                logs = self.api.of("AWS::Logs::LogGroup")[f"{own.capitalize()}Logs"]
                self.assertEqual(logs["LogGroupName"], f"/aws/lambda/stele-{own}")
                # The group is made first: Lambda would make one that keeps everything for ever.
                self.assertIn(f"{own.capitalize()}Logs", listed(self.api.resources[name]["DependsOn"]))

    def test_ingest_asks_query_which_is_deployed_before_it(self):
        ingest = self.api.of("AWS::Lambda::Function")["IngestFunction"]
        self.assertEqual(ingest["Environment"]["Variables"]["STELE_QUERY_FUNCTION"], "stele-query")
        written = parsed("api.yaml")["Resources"]["IngestFunction"]["Properties"]
        self.assertEqual(written["Environment"]["Variables"]["STELE_QUERY_FUNCTION"], {"Ref": "QueryFunction"})

    def test_the_architecture_is_a_parameter(self):
        other = Stack("api.yaml", Architecture="x86_64")
        for function in other.of("AWS::Lambda::Function").values():
            self.assertEqual(function["Architectures"], ["x86_64"])

    def test_each_function_is_built_from_the_folder_and_binary_of_its_name(self):
        functions = {
            name: resource
            for name, resource in parsed("api.yaml")["Resources"].items()
            if resource["Type"] == "AWS::Serverless::Function"
        }
        self.assertEqual(len(functions), len(ACTIONS))
        for name, resource in functions.items():
            own = function_of(name)
            self.assertEqual(resource["Properties"]["CodeUri"], f"../functions/{own}")
            self.assertEqual(
                resource["Metadata"], {"BuildMethod": "rust-cargolambda", "BuildProperties": {"Binary": own}}
            )

    # ---- what must last ----

    def test_tables_can_be_recovered_and_not_deleted(self):
        tables = self.stateful.of("AWS::DynamoDB::Table")
        self.assertEqual({table["TableName"] for table in tables.values()}, {"stele-events", "stele-control"})
        for table in tables.values():
            self.assertIs(table["DeletionProtectionEnabled"], True)
            self.assertEqual(table["PointInTimeRecoverySpecification"], {"PointInTimeRecoveryEnabled": True})
            self.assertEqual(table["TimeToLiveSpecification"], {"AttributeName": "expires", "Enabled": True})
            self.assertEqual(table["BillingMode"], "PAY_PER_REQUEST")
            self.assertEqual(
                table["KeySchema"],
                [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            )
        self.assertEqual(tables["EventsTable"]["StreamSpecification"], {"StreamViewType": "NEW_IMAGE"})
        self.assertNotIn("StreamSpecification", tables["ControlTable"])

    def test_the_indexes_are_those_of_the_code(self):
        source = (INFRA.parent / "functions/adapters/src/dynamodb/tables.rs").read_text(encoding="utf-8")
        (table,) = re.findall(r"INDEXES[^=]*=\s*\[(.*?)\];", source, re.S)
        wanted = dict(re.findall(r'\("(\w+)", "(\w+)"\)', table))
        self.assertEqual(len(wanted), 3)
        made = self.stateful.of("AWS::DynamoDB::Table")["EventsTable"]["GlobalSecondaryIndexes"]
        self.assertEqual({index["IndexName"]: index["KeySchema"][0]["AttributeName"] for index in made}, wanted)
        for index in made:
            self.assertEqual(index["Projection"], {"ProjectionType": "KEYS_ONLY"})
            self.assertEqual(index["KeySchema"][1], {"AttributeName": "sk", "KeyType": "RANGE"})

    def test_what_holds_data_stays_when_the_stack_goes(self):
        kept = {"AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::S3::BucketPolicy", "AWS::KMS::Key", "AWS::KMS::Alias"}
        for file, stack in self.stacks.items():
            for name, resource in stack.resources.items():
                if resource["Type"] in kept:
                    self.assertEqual(resource.get("DeletionPolicy"), "Retain", f"{file}: {name}")
                    self.assertEqual(resource.get("UpdateReplacePolicy"), "Retain", f"{file}: {name}")
        for resource in self.stateful.resources.values():
            self.assertIn(resource["Type"], kept)
        root = parsed("template.yaml")["Resources"]["Stateful"]
        self.assertEqual((root["DeletionPolicy"], root["UpdateReplacePolicy"]), ("Retain", "Retain"))

    def test_buckets_are_private_versioned_and_encrypted_by_s3(self):
        buckets = {**self.stateful.of("AWS::S3::Bucket"), **self.analytics.of("AWS::S3::Bucket")}
        self.assertEqual(len(buckets), 4)
        for name, bucket in buckets.items():
            with self.subTest(name):
                self.assertEqual(bucket["VersioningConfiguration"], {"Status": "Enabled"})
                self.assertEqual(set(bucket["PublicAccessBlockConfiguration"].values()), {True})
                self.assertEqual(len(bucket["PublicAccessBlockConfiguration"]), 4)
                (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
                self.assertEqual(rule["ServerSideEncryptionByDefault"], {"SSEAlgorithm": "AES256"})
                self.assertEqual(bucket["OwnershipControls"]["Rules"], [{"ObjectOwnership": "BucketOwnerEnforced"}])
                self.assertIn("AbortIncompleteMultipartUpload", json.dumps(bucket["LifecycleConfiguration"]))

    def test_the_archive_locks_in_the_mode_that_was_chosen(self):
        for mode in ("COMPLIANCE", "GOVERNANCE"):
            bucket = Stack("stateful.yaml", LockMode=mode).of("AWS::S3::Bucket")["ArchiveBucket"]
            self.assertIs(bucket["ObjectLockEnabled"], True)
            lock = bucket["ObjectLockConfiguration"]
            self.assertEqual(lock["ObjectLockEnabled"], "Enabled")
            self.assertEqual(lock["Rule"]["DefaultRetention"], {"Mode": mode, "Days": SEGMENT_LOCK_DAYS})
            functions = Stack("api.yaml", LockMode=mode).of("AWS::Lambda::Function")
            for name in ("SealFunction", "SetupFunction", "CompactFunction", "ReconcileFunction"):
                self.assertEqual(functions[name]["Environment"]["Variables"]["STELE_LOCK_MODE"], mode)
        self.assertEqual(self.stateful.parameters["LockMode"], "COMPLIANCE")

    def test_nothing_expires_before_its_lock(self):
        rules = self.stateful.of("AWS::S3::Bucket")["ArchiveBucket"]["LifecycleConfiguration"]["Rules"]
        by_class = {}
        for rule in rules:
            self.assertEqual(rule["Status"], "Enabled")
            tags = {tag["Key"]: tag["Value"] for tag in rule.get("TagFilters", [])}
            if "class" in tags:
                self.assertEqual((rule["Prefix"], set(tags)), ("archive/", {"class"}))
                by_class[int(tags["class"])] = rule
            elif "ExpirationInDays" in rule:
                # What proofs need has no rule: it outlives what they prove. Nor has what is under a legal hold.
                self.assertEqual((rule["Prefix"], tags), ("segments/", {"archived": "true"}))
                self.assertGreater(rule["ExpirationInDays"], SEGMENT_LOCK_DAYS)
            else:
                self.assertIs(rule["ExpiredObjectDeleteMarker"], True)
                self.assertIn("NoncurrentVersionExpiration", rule)
        self.assertEqual(sorted(by_class), CLASSES)
        limits = (INFRA.parent / "functions/stele/src/limits.rs").read_text(encoding="utf-8")
        (ours,) = re.findall(r"CLASSES_DAYS: [^=]*= \[([\d, ]+)\];", limits)
        self.assertEqual(sorted(by_class), [int(days) for days in ours.split(", ")])
        for days, rule in by_class.items():
            self.assertEqual(rule["ExpirationInDays"], days + 1)
            cold = [{"StorageClass": "GLACIER_IR", "TransitionInDays": 90}]
            self.assertEqual(rule.get("Transitions"), cold if days >= 365 else None)
        self.assertEqual(len(rules), len(CLASSES) + 2)

    def test_exported_files_go_after_the_days_the_code_tells(self):
        rules = self.stateful.of("AWS::S3::Bucket")["ExportBucket"]["LifecycleConfiguration"]["Rules"]
        limits = (INFRA.parent / "functions/stele/src/limits.rs").read_text(encoding="utf-8")
        (days,) = re.findall(r"EXPORT_KEPT_DAYS: u32 = (\d+);", limits)
        self.assertEqual([rule["ExpirationInDays"] for rule in rules if "ExpirationInDays" in rule], [int(days)])
        self.assertTrue(all(rule["Status"] == "Enabled" and "Prefix" not in rule for rule in rules))
        self.assertNotIn("ObjectLockEnabled", self.stateful.of("AWS::S3::Bucket")["ExportBucket"])

    def test_the_policy_allows_the_locks_that_the_code_sets(self):
        limits = (INFRA.parent / "functions/stele/src/limits.rs").read_text(encoding="utf-8")
        days = dict(re.findall(r"pub const (\w+_LOCK_DAYS): \w+ = ([\d_]+);", limits))
        self.assertEqual(
            {name: int(value) for name, value in days.items()},
            {"SEGMENT_LOCK_DAYS": SEGMENT_LOCK_DAYS, "CHECKPOINT_LOCK_DAYS": max(CLASSES) + 1},
        )

    # ---- queues, logs, triggers ----

    def test_every_queue_is_encrypted_kept_long_and_has_a_dead_letter_queue(self):
        queues = self.api.of("AWS::SQS::Queue")
        arn = lambda name: f"arn:aws:sqs:eu-central-1:123456789012:{queues[name]['QueueName']}"
        self.assertEqual(len(queues), 10)
        policies = [policy for policy in self.api.of("AWS::SQS::QueuePolicy").values()]
        for name, queue in queues.items():
            with self.subTest(name):
                self.assertIs(queue["SqsManagedSseEnabled"], True)
                # An errand is sent again by the next hour or day, or by whoever looks: old ones only repeat each other.
                errand = queue["QueueName"] in ("stele-compaction", "stele-reconciliation", "stele-exports")
                self.assertEqual(queue["MessageRetentionPeriod"], (1 if errand else 14) * 24 * 60 * 60)
                self.assertEqual(sum(queue["QueueName"] == p["Queues"][0].split("/")[-1] for p in policies), 1)
                if queue["QueueName"].endswith("-dead"):
                    source = name.replace("Dead", "")
                    self.assertEqual(
                        queue["RedriveAllowPolicy"],
                        {"redrivePermission": "byQueue", "sourceQueueArns": [arn(source)]},
                    )
                else:
                    redrive = queue["RedrivePolicy"]
                    self.assertEqual(redrive["deadLetterTargetArn"], arn(name.replace("Queue", "DeadQueue")))
                    if errand:
                        # All its tries fit into the day it is kept, and Lambda's own throttling does not use them up.
                        self.assertGreaterEqual(redrive["maxReceiveCount"], 5)
                        tries = redrive["maxReceiveCount"] * queue["VisibilityTimeout"]
                        self.assertLess(tries, queue["MessageRetentionPeriod"])
                    else:
                        self.assertGreaterEqual(redrive["maxReceiveCount"], 100)

    def test_queues_wait_longer_than_the_functions_that_read_them(self):
        queues, functions = self.api.of("AWS::SQS::Queue"), self.api.of("AWS::Lambda::Function")
        for queue, function in (
            ("SpillQueue", "DrainFunction"),
            ("ParkingQueue", "SealFunction"),
            ("CompactionQueue", "CompactFunction"),
            ("ReconciliationQueue", "ReconcileFunction"),
            ("ExportsQueue", "ExportFunction"),
        ):
            self.assertGreaterEqual(queues[queue]["VisibilityTimeout"], 6 * functions[function]["Timeout"])

    def test_the_doctor_judges_the_policy_that_is_deployed(self):
        judged = json.loads((INFRA.parent / "clients/cli/src/doctor/policy.json").read_text(encoding="utf-8"))
        deployed = self.stateful.of("AWS::S3::BucketPolicy")["ArchivePolicy"]["PolicyDocument"]

        def plain(value):
            """What IAM takes for the same: one value or a list of it, in any order."""
            if isinstance(value, dict):
                return {key: plain(item) for key, item in value.items()}
            return sorted(item.replace("audit-", "stele-") for item in listed(value))

        self.assertEqual(plain_statements(judged, plain), plain_statements(deployed, plain))

    def test_compact_and_export_have_room_for_a_file_and_all_have_time(self):
        functions = self.api.of("AWS::Lambda::Function")
        self.assertGreaterEqual(functions["CompactFunction"]["EphemeralStorage"]["Size"], 1024)
        limits = (INFRA.parent / "functions/stele/src/limits.rs").read_text(encoding="utf-8")
        (gib,) = re.findall(r"EXPORT_FILE_BYTES_MAX: u64 = (\d+) << 30;", limits)
        # A bundle lies there twice: its events, and all of it.
        self.assertGreaterEqual(functions["ExportFunction"]["EphemeralStorage"]["Size"], 2 * 1024 * int(gib))
        for name in ("CompactFunction", "ReconcileFunction", "ExportFunction"):
            self.assertEqual(functions[name]["Timeout"], 900)
            self.assertGreaterEqual(functions[name]["MemorySize"], 512)

    def test_every_log_group_forgets(self):
        groups = self.api.of("AWS::Logs::LogGroup")
        self.assertEqual(len(groups), len(ACTIONS) + 1)
        for group in groups.values():
            self.assertEqual(group["RetentionInDays"], 30)

    def test_the_stream_is_sealed_in_order_and_nothing_blocks_it(self):
        mapping = self.api.of("AWS::Lambda::EventSourceMapping")["StreamMapping"]
        self.assertEqual(mapping["FunctionName"], "stele-seal")
        self.assertTrue(mapping["EventSourceArn"].startswith("arn:aws:dynamodb:"))
        self.assertEqual(mapping["StartingPosition"], "TRIM_HORIZON")
        self.assertEqual(mapping["ParallelizationFactor"], 1)
        self.assertEqual(mapping["MaximumBatchingWindowInSeconds"], 30)
        self.assertGreaterEqual(mapping["BatchSize"], 1000)
        self.assertEqual(mapping["FunctionResponseTypes"], ["ReportBatchItemFailures"])
        self.assertIs(mapping["BisectBatchOnFunctionError"], True)
        self.assertTrue(0 < mapping["MaximumRetryAttempts"] <= 1000)
        self.assertTrue(3600 <= mapping["MaximumRecordAgeInSeconds"] < 24 * 3600)
        (given_up,) = self.stateful.of("AWS::S3::Bucket")["FailedBucket"]["BucketName"].split()
        self.assertEqual(mapping["DestinationConfig"]["OnFailure"]["Destination"], f"arn:aws:s3:::{given_up}")
        (only,) = mapping["FilterCriteria"]["Filters"]
        self.assertEqual(json.loads(only["Pattern"]), {"eventName": ["INSERT"]})
        # Its alarm reads a metric that exists only when asked for.
        self.assertEqual(mapping["MetricsConfig"], {"Metrics": ["EventCount"]})

    def test_queues_are_read_with_partial_answers(self):
        mappings = self.api.of("AWS::Lambda::EventSourceMapping")
        read = {}
        for name, mapping in mappings.items():
            self.assertEqual(mapping["FunctionResponseTypes"], ["ReportBatchItemFailures"], name)
            read[mapping["EventSourceArn"].split(":")[-1]] = mapping["FunctionName"]
            if ":sqs:" in mapping["EventSourceArn"]:
                self.assertLessEqual(mapping["BatchSize"], 10)
                self.assertIn("MaximumConcurrency", mapping["ScalingConfig"])
        self.assertEqual(read["stele-spill"], "stele-drain")
        self.assertEqual(read["stele-parking"], "stele-seal")
        for queue, function in (("compaction", "compact"), ("reconciliation", "reconcile"), ("exports", "export")):
            self.assertEqual(read[f"stele-{queue}"], f"stele-{function}")
            mapping = mappings[f"{queue.capitalize()}Mapping"]
            self.assertEqual(mapping["BatchSize"], 1)
            self.assertLessEqual(mapping["ScalingConfig"]["MaximumConcurrency"], 5)
        self.assertEqual(len(mappings), 6)

    # ---- HTTP ----

    def test_routes_are_those_of_the_code_and_each_is_throttled(self):
        source = (INFRA.parent / "functions/stele/src/routes.rs").read_text(encoding="utf-8")
        ours = re.findall(r'Method::(\w+),\s*"([^"]+)",\s*(?:Some\(\w+\)|None),\s*Ingest,', source)
        self.assertEqual(len(ours), 3)
        routes = self.api.of("AWS::ApiGatewayV2::Route")
        targets = {"integrations/<IngestIntegration>": "ingest", "integrations/<QueryIntegration>": "query"}
        made = {route["RouteKey"]: targets[route["Target"]] for route in routes.values()}
        self.assertEqual(made, {**{f"{method} {path}": "ingest" for method, path in ours}, "$default": "query"})
        stage = self.api.of("AWS::ApiGatewayV2::Stage")["HttpStage"]
        self.assertEqual(set(stage["RouteSettings"]), set(made) - {"$default"})
        for settings in [stage["DefaultRouteSettings"], *stage["RouteSettings"].values()]:
            self.assertGreater(settings["ThrottlingRateLimit"], 0)
            self.assertGreater(settings["ThrottlingBurstLimit"], 0)
        self.assertEqual(set(self.api.resources["HttpStage"]["DependsOn"]), set(routes))
        integrations = self.api.of("AWS::ApiGatewayV2::Integration")
        for integration in integrations.values():
            self.assertEqual((integration["IntegrationType"], integration["PayloadFormatVersion"]), ("AWS_PROXY", "2.0"))

    def test_requests_are_logged_without_what_people_search_for(self):
        stage = self.api.of("AWS::ApiGatewayV2::Stage")["HttpStage"]
        logged = json.loads(stage["AccessLogSettings"]["Format"])
        self.assertLessEqual({"request_id", "status", "route", "path"}, set(logged))
        self.assertNotRegex(json.dumps(logged), r"(?i)query|header|authorization|body")

    def test_each_function_is_called_by_the_api_its_schedule_or_its_alarm_alone(self):
        permissions = self.api.of("AWS::Lambda::Permission")
        callers = {
            ("stele-ingest", "apigateway.amazonaws.com", "<HttpApi>/*"),
            ("stele-query", "apigateway.amazonaws.com", "<HttpApi>/*"),
            ("stele-seal", "events.amazonaws.com", "rule/<PublishSchedule>"),
            ("stele-compact", "events.amazonaws.com", "rule/<CompactSchedule>"),
            ("stele-reconcile", "events.amazonaws.com", "rule/<ReconcileSchedule>"),
            ("stele-watchdog", "lambda.alarms.cloudwatch.amazonaws.com", "alarm:stele-tenant-behind"),
            ("stele-watchdog", "lambda.alarms.cloudwatch.amazonaws.com", "alarm:stele-days-unproven"),
        }
        made = {
            (p["FunctionName"], p["Principal"], p["SourceArn"].partition(":123456789012:")[2])
            for p in permissions.values()
        }
        self.assertEqual(made, callers)
        self.assertEqual(len(permissions), len(callers))
        for permission in permissions.values():
            if permission["FunctionName"] == "stele-watchdog":
                self.assertEqual(permission["SourceAccount"], "123456789012")

    def test_each_schedule_says_what_it_wants(self):
        wanted = {
            "seal": ("rate(1 hour)", {"stele_publish": True}),
            "compact": ("rate(1 hour)", {"stele_plan": True}),
            # Half past midnight, UTC.
            "reconcile": ("cron(30 1 * * ? *)", {"stele_plan": True}),
        }
        rules = self.api.of("AWS::Events::Rule")
        self.assertEqual(len(rules), len(wanted))
        for rule in rules.values():
            (target,) = rule["Targets"]
            when, says = wanted.pop(target["Arn"].rpartition(":function:stele-")[2])
            self.assertEqual((rule["ScheduleExpression"], rule["State"]), (when, "ENABLED"))
            self.assertEqual(json.loads(target["Input"]), says)

    # ---- analytics ----

    def test_a_query_must_name_its_tenant_and_has_a_limit(self):
        (table,) = self.analytics.of("AWS::Glue::Table").values()
        given = table["TableInput"]
        self.assertEqual(given["Parameters"]["projection.tenant_id.type"], "injected")
        self.assertEqual(given["Parameters"]["projection.month.type"], "date")
        self.assertEqual(given["Parameters"]["projection.log.type"], "integer")
        archive = self.stateful.of("AWS::S3::Bucket")["ArchiveBucket"]["BucketName"]
        self.assertEqual(
            given["Parameters"]["storage.location.template"],
            f"s3://{archive}/archive/tenant_id=${{tenant_id}}/log=${{log}}/month=${{month}}/",
        )
        self.assertEqual([key["Name"] for key in given["PartitionKeys"]], ["tenant_id", "log", "month"])
        (group,) = self.analytics.of("AWS::Athena::WorkGroup").values()
        settings = group["WorkGroupConfiguration"]
        self.assertIs(settings["EnforceWorkGroupConfiguration"], True)
        self.assertGreater(settings["BytesScannedCutoffPerQuery"], 0)
        self.assertEqual(settings["ResultConfiguration"]["EncryptionConfiguration"], {"EncryptionOption": "SSE_S3"})

    def test_the_template_holds_the_text_of_each_query(self):
        files = sorted(INFRA.glob("athena/[0-9][0-9]_*.sql"))
        self.assertEqual(len(files), 10)
        queries = self.analytics.of("AWS::Athena::NamedQuery")
        self.assertEqual(len(queries), len(files))
        for file in files:
            query = queries[f"Query{file.name[:2]}"]
            self.assertEqual(query["QueryString"], file.read_text(encoding="utf-8"), file.name)
            self.assertEqual(query["Name"], f"stele {file.stem.replace('_', ' ', 1)}")
            self.assertLessEqual(len(query["Description"]), 1024)
            self.assertIn("tenant_id = ?", query["QueryString"])
        run = subprocess.run([sys.executable, INFRA / "athena/embed.py", "--check"], check=False)
        self.assertEqual(run.returncode, 0)

    def test_a_name_with_hyphens_makes_a_database_that_athena_takes(self):
        (database,) = Stack("analytics.yaml", InstallationName="stele-eu-2").of("AWS::Glue::Database").values()
        self.assertEqual(database["DatabaseInput"]["Name"], "stele_eu_2")

    # ---- alarms ----

    def test_every_alarm_has_a_line_in_the_runbook(self):
        runbook = (INFRA / "runbook.md").read_text(encoding="utf-8")
        sections = dict(re.findall(r"^## ([a-z-]+)\n\n(.*?)(?=^## |\Z)", runbook, re.S | re.M))
        names = set()
        for logical, alarm in self.observability.of("AWS::CloudWatch::Alarm").items():
            name = alarm["AlarmName"].removeprefix("stele-")
            with self.subTest(name):
                names.add(name)
                self.assertEqual(logical, "".join(word.capitalize() for word in name.split("-")))
                self.assertTrue(alarm["AlarmDescription"].endswith(f" infra/runbook.md#{name}"))
                for part in ("**Means** ", "**Look at** ", "**Do** "):
                    self.assertEqual(sections.get(name, "").count(part), 1, f"{name}: {part}")
                topic, *functions = alarm["AlarmActions"]
                self.assertEqual((topic, alarm["OKActions"]), ("arn:aws:sns:eu-central-1:123456789012:stele-alarms", [topic]))
                self.assertEqual(bool(functions), name in ("days-unproven", "tenant-behind"))
                self.assertEqual(alarm["TreatMissingData"], "breaching" if name == "days-unproven" else "notBreaching")
                # CloudWatch looks back a day, or seven where a period has an hour at least.
                back = alarm["Period"] * alarm["EvaluationPeriods"]
                self.assertLessEqual(back, 604_800 if alarm["Period"] >= 3600 else 86_400)
                self.assertLessEqual(alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"])
        self.assertEqual(set(sections), names)
        linked = set(re.findall(r"\]\(#([a-z-]+)\)", runbook))
        self.assertLessEqual(linked, names)

    def test_a_week_without_proof_stops_the_hot_store_from_forgetting(self):
        limits = (INFRA.parent / "functions/stele/src/limits.rs").read_text(encoding="utf-8")
        (days,) = re.findall(r"RECONCILE_MISSED_DAYS_MAX: \w+ = (\d+);", limits)
        alarm = self.observability.of("AWS::CloudWatch::Alarm")["DaysUnproven"]
        self.assertEqual(alarm["Period"] * alarm["EvaluationPeriods"], int(days) * 86_400)
        self.assertEqual(alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"])
        self.assertEqual((alarm["Threshold"], alarm["ComparisonOperator"]), (1, "LessThanThreshold"))
        watchdog = self.api.of("AWS::Lambda::Function")["WatchdogFunction"]["FunctionName"]
        for name in ("DaysUnproven", "TenantBehind"):
            action = self.observability.of("AWS::CloudWatch::Alarm")[name]["AlarmActions"][1]
            self.assertEqual(action, f"arn:aws:lambda:eu-central-1:123456789012:function:{watchdog}")
        # The first night comes within a day.
        self.assertGreaterEqual(alarm["WarmUpConfiguration"]["WarmUpPeriodDurationInMinutes"], 24 * 60)

    def test_alarms_watch_what_is_there(self):
        there = {
            "FunctionName": {f["FunctionName"] for f in self.api.of("AWS::Lambda::Function").values()},
            "QueueName": {q["QueueName"] for q in self.api.of("AWS::SQS::Queue").values()},
            "TableName": {t["TableName"] for t in self.stateful.of("AWS::DynamoDB::Table").values()},
            "ApiId": {"abc123"},
            "EventSourceMappingUUID": {"mapping-1"},
            "Function": {f"stele-{name}" for name in ACTIONS},
        }
        watched = set()
        for alarm in self.observability.of("AWS::CloudWatch::Alarm").values():
            (dimension,) = alarm["Dimensions"]
            self.assertIn(dimension["Value"], there[dimension["Name"]])
            watched.add((alarm["MetricName"], dimension["Value"]))
        for queue in there["QueueName"]:
            self.assertTrue(any(value == queue for _, value in watched), queue)
        for function in there["FunctionName"] - {"stele-setup"}:
            self.assertIn(("Errors", function), watched)
        self.assertIn(("IteratorAge", "stele-seal"), watched)

    def test_our_own_metrics_are_those_the_functions_report(self):
        sources = {
            f"stele-{path.parent.parent.name}": path.read_text(encoding="utf-8")
            for path in INFRA.parent.glob("functions/*/src/main.rs")
        }
        dashboard = json.loads(self.observability.of("AWS::CloudWatch::Dashboard")["Dashboard"]["DashboardBody"])
        used = {
            (alarm["MetricName"], alarm["Dimensions"][0]["Value"])
            for alarm in self.observability.of("AWS::CloudWatch::Alarm").values()
            if alarm["Namespace"] == "Stele"
        }
        self.assertEqual(len(used), 8)
        for widget in dashboard["widgets"]:
            used |= {(m[1], m[3]) for m in spelt_out(widget["properties"]["metrics"]) if m[0] == "Stele"}
        self.assertGreater(len(used), 17)
        for metric, function in used:
            if function in sources:
                self.assertRegex(sources[function], rf'\("{metric}", Unit::', f"{function} reports no {metric}")

    def test_an_email_address_is_optional(self):
        self.assertEqual(self.observability.of("AWS::SNS::Subscription"), {})
        told = Stack("observability.yaml", AlarmEmail="ops@example.com").of("AWS::SNS::Subscription")
        self.assertEqual(told["AlarmSubscription"]["Endpoint"], "ops@example.com")

    # ---- the whole ----

    def test_the_root_passes_on_what_the_stacks_need(self):
        root = parsed("template.yaml")
        stacks = root["Resources"]
        self.assertEqual(sorted(s["Properties"]["TemplateURL"] for s in stacks.values()), sorted(FILES))
        for name, stack in stacks.items():
            child = parsed(stack["Properties"]["TemplateURL"])
            given = stack["Properties"]["Parameters"]
            self.assertLessEqual(set(given), set(child["Parameters"]), name)
            for parameter, declared in child["Parameters"].items():
                self.assertIn("Description", declared, f"{name}: {parameter}")
                if "Default" not in declared:
                    self.assertIn(parameter, given, f"{name}: {parameter}")
                ours = root["Parameters"].get(parameter)
                if ours is not None:
                    self.assertEqual(ours["Default"], declared["Default"], f"{name}: {parameter}")
                    self.assertEqual(given.get(parameter), {"Ref": parameter}, f"{name}: {parameter}")
            for value in given.values():
                if "Fn::GetAtt" in value:
                    other, output = value["Fn::GetAtt"]
                    source = parsed(stacks[other]["Properties"]["TemplateURL"])
                    self.assertIn(output.removeprefix("Outputs."), source["Outputs"])
        for parameter in root["Parameters"]:
            self.assertTrue(any(parameter in s["Properties"]["Parameters"] for s in stacks.values()), parameter)

    def test_every_parameter_is_in_the_readme_and_warned_of(self):
        readme = (INFRA / "README.md").read_text(encoding="utf-8")
        parameters = parsed("template.yaml")["Parameters"]
        rows = {
            name
            for row in re.findall(r"^\| ([A-Z][A-Za-z, ]+) \|", readme, re.M)
            for name in row.split(", ")
        }
        self.assertEqual(rows, set(parameters))
        self.assertLess(readme.index("what can't be undone"), readme.index("sam deploy --guided  "))
        for file in ("template.yaml", "stateful.yaml"):
            text = parsed(file)["Parameters"]["LockMode"]["Description"]
            self.assertIn("can't be undone", text)
            self.assertIn("trials only", text)

    def test_cloudformation_reads_the_templates_as_they_are(self):
        for file in [*FILES, "template.yaml"]:
            text = (INFRA / file).read_text(encoding="utf-8")
            # CloudFormation's YAML has no aliases, and takes a template of 1 MB from a bucket.
            self.assertIsNone(re.search(r"(?m)^[^#\"']*: [&*]\w", text), file)
            self.assertLess(len(text), 500_000)
            # No account and no region but the one it is deployed to.
            self.assertIsNone(re.search(r"arn:(?!\$)|\b[a-z]{2}-[a-z]+-\d\b", text), file)
            if file != "template.yaml":
                self.assertIn("Resources", translated(file))

    def test_sam_is_told_what_the_templates_need(self):
        config = (INFRA / "samconfig.toml").read_text(encoding="utf-8")
        self.assertRegex(config, r'capabilities = "CAPABILITY_NAMED_IAM CAPABILITY_AUTO_EXPAND"')
        self.assertRegex(config, r"disable_rollback = true")


def plain_statements(policy, plain):
    return {statement["Sid"]: plain(statement) for statement in policy["Statement"]}


def spelt_out(metrics):
    """A dashboard's metrics without its abbreviations."""
    before = []
    for metric in metrics:
        parts = [part for part in metric if not isinstance(part, dict)]
        if parts and parts[0] == "...":
            parts = before[: len(before) - len(parts) + 1] + parts[1:]
        parts = [before[i] if part == "." else part for i, part in enumerate(parts)]
        before = parts
        yield parts


class Linters(unittest.TestCase):
    def test_cfn_lint_has_no_word_to_say(self):
        lint = pathlib.Path(sys.executable).with_name("cfn-lint")
        files = [INFRA / file for file in [*FILES, "template.yaml"]]
        run = subprocess.run([lint, *files], capture_output=True, text=True, check=False)
        self.assertEqual((run.returncode, run.stdout), (0, ""))

    def test_checkov_fails_nothing_but_what_is_listed_with_a_reason(self):
        checkov = os.environ.get("CHECKOV")
        if not checkov:
            self.fail("CHECKOV must name the program; tests/infra/run does")
        text = (INFRA / "checkov.yaml").read_text(encoding="utf-8")
        listed_checks = yaml.safe_load(text)["skip-check"]
        for check in listed_checks:
            self.assertRegex(text, rf"(?m)^  # .*\n  - {check}$")
        command = [checkov, "--directory", INFRA, "--framework", "cloudformation", "--skip-download", "--output", "json"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        report = json.loads(run.stdout)
        self.assertGreater(report["summary"]["passed"], 50)
        self.assertEqual(report["summary"]["parsing_errors"], 0)
        failed = sorted({check["check_id"] for check in report["results"]["failed_checks"]})
        self.assertEqual(failed, sorted(listed_checks))


if __name__ == "__main__":
    unittest.main()
