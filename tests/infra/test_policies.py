"""What each role may do, and what nobody may, asked of a published IAM simulator.

Every line is one request as AWS would see it. A policy counts as tested when each single loss or loosening of it (a
statement, an action, a resource, a condition, a value, a day) changes the answer to at least one line.
"""

import unittest

import policies
from policies import (
    ADMIN,
    ARCHIVE,
    CONTROL,
    DEPLOYER,
    EVENTS,
    EXPORTS,
    FAILED,
    FUNCTIONS,
    KEY,
    OPERATOR,
    OTHER_BUCKET,
    OTHER_KEY,
    OTHER_STREAM,
    OTHER_TABLE,
    QUEUES,
    RESULTS,
    ROOT,
    STRANGER,
    STREAM,
    invocable,
    listed,
    log_stream,
    queue,
    request,
    role,
    shown,
    simulate,
)

ALLOWED, IMPLICIT, EXPLICIT = "Allowed", "ImplicitlyDenied", "ExplicitlyDenied"

# Keys are shorter than real ones: the simulator's time grows with the square of their length.
SEGMENT = f"{ARCHIVE}/segments/tenant_id=a/log=0/0.parquet"
CHECKPOINT = f"{ARCHIVE}/checkpoints/tenant_id=a/log=0/1"
MANIFEST = f"{ARCHIVE}/checkpoints/tenant_id=a/log=0/1.manifest"
PUBLIC_KEY = f"{ARCHIVE}/keys/0a.json"
SECRET = f"{ARCHIVE}/secrets/master.wrapped"
ARCHIVED = f"{ARCHIVE}/archive/tenant_id=a/log=0/month=2026-01/0.parquet"
TILE = f"{ARCHIVE}/tiles/a"
KEY_CHANGE = f"{ARCHIVE}/key-changes/a"
STATEMENT = f"{ARCHIVE}/statements/a"
ELSEWHERE = f"{ARCHIVE}/notes.txt"
EXPORTED = f"{EXPORTS}/exports/tenant_id=a/e.csv"
FAILED_BATCH = f"{FAILED}/aws/lambda/m/s/2026/01/01/b.json"

INDEXES = [f"{EVENTS}/index/{index}" for index in ("by_actor", "by_resource", "by_action")]
# One key of each partition of `control`.
PARTITIONS = {
    "tenant": "tenant",
    "key": "key#9f86d081",
    "keys": "keys",
    "late": "late#org_acme",
    "remember": "remember#org_acme",
    "head": "head#org_acme#0",
    "segments": "segments#org_acme#0",
    "archive": "archive#org_acme#0",
    "holds": "holds#org_acme",
    "policy": "policy#org_acme",
    "settings": "settings",
    "exports": "exports#org_acme",
    "export names": "export-names#org_acme",
    "refused of": "refused#org_acme",
    "refused": "refused",
}


def leading(key):
    return {"dynamodb:LeadingKeys": [key]}


def put(days, mode="COMPLIANCE", **more):
    """The headers of a commit."""
    return {
        "s3:if-none-match": "*",
        "s3:object-lock-mode": mode,
        "s3:object-lock-remaining-retention-days": str(days),
        **more,
    }


def lock(days, mode="COMPLIANCE"):
    return {"s3:object-lock-mode": mode, "s3:object-lock-remaining-retention-days": str(days)}


def context_of(purpose):
    return {"kms:EncryptionContext:stele": purpose, "kms:EncryptionContextKeys": ["stele"]}


def listing(prefix):
    return {"s3:prefix": prefix}


class Table:
    """Expectations in the order they are written."""

    def __init__(self):
        self.requests, self.expected = [], []

    def add(self, expected, case):
        self.requests.append(case)
        self.expected.append(expected)


def roles():
    """What functions do, and what they can't."""
    table = Table()

    def may(function, action, resource, **context):
        table.add((ALLOWED, None), request(role(function), action, resource, context, function))

    def cannot(function, action, resource, **context):
        table.add(("Denied", None), request(role(function), action, resource, context, function))

    # -- each its own log, and no other --
    for function in FUNCTIONS:
        for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
            may(function, action, log_stream(function))
            cannot(function, action, log_stream("ingest" if function != "ingest" else "query"))
        cannot(function, "logs:DeleteLogStream", log_stream(function))

    # -- tables --
    events = {
        "ingest": {"GetItem", "PutItem"},
        "drain": {"GetItem", "PutItem"},
        "seal": set(),
        "query": {"GetItem", "BatchGetItem", "Query", "PutItem"},
        "compact": set(),
        "reconcile": {"BatchGetItem", "PutItem", "Query"},
        "export": set(),
        "watchdog": set(),
        "setup": set(),
    }
    calls = ["GetItem", "PutItem", "BatchGetItem", "Query", "Scan", "UpdateItem", "DeleteItem", "BatchWriteItem"]
    for function in FUNCTIONS:
        for call in calls:
            # A scan names no key.
            key = {} if call == "Scan" else leading("org_acme#2026-01-01#0")
            (may if call in events[function] else cannot)(function, f"dynamodb:{call}", EVENTS, **key)
            cannot(function, f"dynamodb:{call}", OTHER_TABLE, **key)
        for index in INDEXES:
            (may if function == "query" else cannot)(
                function, "dynamodb:Query", index, **leading("org_acme#user#alice")
            )
            cannot(function, "dynamodb:Scan", index)
        for call in ("DeleteTable", "UpdateTable", "UpdateContinuousBackups"):
            cannot(function, f"dynamodb:{call}", EVENTS)
            cannot(function, f"dynamodb:{call}", CONTROL)
        for call in ("DescribeTimeToLive", "UpdateTimeToLive"):
            (may if function == "watchdog" else cannot)(function, f"dynamodb:{call}", EVENTS)
            cannot(function, f"dynamodb:{call}", CONTROL)

    policy = {"archive", "holds", "policy"}
    reads = {
        "ingest": {"tenant", "key", "settings"},
        "drain": {"tenant", "key", "settings", "head", "segments", "archive"},
        "seal": {"tenant", "head", "segments", "archive"},
        "query": {"tenant", "key", "keys", "settings", "late", "head", "segments", "refused", "refused of"}
        | policy
        | {"exports"},
        "compact": {"tenant", "head", "segments"} | policy,
        "reconcile": {"tenant", "late", "head", "segments", "archive", "policy"},
        "export": {"tenant", "head", "segments", "archive", "exports"},
        "watchdog": set(),
        "setup": set(),
    }
    writes = {
        "ingest": {"tenant", "late", "remember"},
        "drain": {"tenant", "late", "remember", "refused", "refused of"},
        "seal": {"head", "segments"},
        "query": {"key", "keys", "tenant", "settings", "late", "holds", "exports", "export names"},
        "compact": {"archive"},
        "reconcile": {"late", "archive", "policy"},
        "export": {"exports"},
        "watchdog": set(),
        "setup": set(),
    }
    updates = {"query": {"policy"}, "compact": {"policy"}}
    # The one thing that any role deletes: a cache's lines.
    deletes = {"reconcile": {"segments"}}
    for function in FUNCTIONS:
        for partition, key in PARTITIONS.items():
            for call in ("GetItem", "Query"):
                # Ingest knows the whole key of what it reads.
                allowed = partition in reads[function] and (function, call) != ("ingest", "Query")
                (may if allowed else cannot)(
                    function, f"dynamodb:{call}", CONTROL, **leading(key)
                )
            (may if partition in writes[function] else cannot)(
                function, "dynamodb:PutItem", CONTROL, **leading(key)
            )
            for call, of in (("UpdateItem", updates), ("DeleteItem", deletes)):
                allowed = partition in of.get(function, set())
                (may if allowed else cannot)(function, f"dynamodb:{call}", CONTROL, **leading(key))
            for call in ("BatchWriteItem", "PartiQLDelete"):
                cannot(function, f"dynamodb:{call}", CONTROL, **leading(key))
            for call in ("GetItem", "Query", "PutItem", "UpdateItem", "DeleteItem"):
                cannot(function, f"dynamodb:{call}", OTHER_TABLE, **leading(key))
        # Without a key, or with one that is allowed beside one that is not.
        for call in ("GetItem", "Query", "PutItem", "UpdateItem", "DeleteItem", "Scan"):
            cannot(function, f"dynamodb:{call}", CONTROL)
        for call in ("GetItem", "Query", "PutItem", "UpdateItem", "DeleteItem"):
            for key in ("head#org_acme#0", "segments#org_acme#0", "policy#org_acme"):
                cannot(function, f"dynamodb:{call}", CONTROL, **{"dynamodb:LeadingKeys": [key, "elsewhere"]})
            cannot(function, f"dynamodb:{call}", CONTROL, **leading("tenants"))

    # -- the stream --
    for function in FUNCTIONS:
        # ListStreams is not here: IAM knows no resource for it, and so nothing that a policy with one allows. Lambda
        # asks for it when it makes the mapping, and is content with it on the stream.
        for call in ("DescribeStream", "GetRecords", "GetShardIterator"):
            (may if function == "seal" else cannot)(function, f"dynamodb:{call}", STREAM)
            cannot(function, f"dynamodb:{call}", OTHER_STREAM)

    # -- objects --
    readable = {
        "ingest": {},
        "drain": {SEGMENT, ARCHIVED},
        "seal": {SEGMENT, ARCHIVED, TILE, CHECKPOINT, MANIFEST, KEY_CHANGE, STATEMENT},
        "query": {SEGMENT, ARCHIVED, TILE, CHECKPOINT, MANIFEST, KEY_CHANGE, STATEMENT, PUBLIC_KEY},
        "compact": {SEGMENT, ARCHIVED, TILE, CHECKPOINT, MANIFEST},
        "reconcile": {SEGMENT, ARCHIVED},
        "export": {SEGMENT, ARCHIVED, TILE, CHECKPOINT, MANIFEST, KEY_CHANGE, STATEMENT, PUBLIC_KEY},
        "watchdog": {},
        "setup": {SECRET, PUBLIC_KEY},
    }
    writable = {
        "ingest": {},
        "drain": {},
        "seal": {SEGMENT: 35, CHECKPOINT: 3654, MANIFEST: 3654, KEY_CHANGE: 3654, STATEMENT: 3654},
        "query": {},
        "compact": {ARCHIVED: 365, TILE: 3654, CHECKPOINT: 3654, MANIFEST: 3654},
        "reconcile": {},
        "export": {},
        "watchdog": {},
        "setup": {SECRET: 3654, PUBLIC_KEY: 3654},
    }
    # Locks of segments that wait for the archive.
    lengthens = {"compact": {SEGMENT}, "reconcile": {SEGMENT}}
    # Tags and legal holds.
    marks = {"compact": {SEGMENT, ARCHIVED}}
    sees_marks = {"compact", "reconcile"}
    objects = [SEGMENT, CHECKPOINT, MANIFEST, PUBLIC_KEY, SECRET, ARCHIVED, TILE, KEY_CHANGE, STATEMENT, ELSEWHERE]
    for function in FUNCTIONS:
        for key in objects:
            for call in ("GetObject", "GetObjectVersion", "GetObjectRetention"):
                (may if key in readable[function] else cannot)(function, f"s3:{call}", key)
            days = writable[function].get(key)
            verb = cannot if days is None else may
            verb(function, "s3:PutObject", key, **put(days or 3654))
            # S3 asks for this right too when a put brings a lock.
            verb = may if days or key in lengthens.get(function, ()) else cannot
            verb(function, "s3:PutObjectRetention", key, **lock(days or (35 if key == SEGMENT else 3654)))
            verb = may if key in marks.get(function, ()) else cannot
            # And for the first of these when it brings a tag.
            for call in ("PutObjectTagging", "PutObjectVersionTagging"):
                verb(function, f"s3:{call}", key)
            for hold in ("ON", "OFF"):
                verb(function, "s3:PutObjectLegalHold", key, **{"s3:object-lock-legal-hold": hold})
            for call in ("GetObjectLegalHold", "GetObjectTagging", "GetObjectVersionTagging"):
                sees = function in sees_marks and key in readable[function]
                (may if sees else cannot)(function, f"s3:{call}", key)
            for call in (
                "DeleteObject",
                "DeleteObjectVersion",
                "DeleteObjectTagging",
                "DeleteObjectVersionTagging",
                "PutObjectAcl",
                "BypassGovernanceRetention",
                "UpdateObjectEncryption",
                "RestoreObject",
            ):
                cannot(function, f"s3:{call}", key)
        for call in ("GetObject", "GetObjectVersion", "GetObjectRetention", "PutObject", "PutObjectRetention"):
            cannot(function, f"s3:{call}", f"{OTHER_BUCKET}/segments/x")
        for call in (
            "PutBucketPolicy",
            "DeleteBucketPolicy",
            "PutLifecycleConfiguration",
            "PutBucketObjectLockConfiguration",
            "PutBucketVersioning",
            "DeleteBucket",
        ):
            cannot(function, f"s3:{call}", ARCHIVE)

    # Listings, each within what the function works on.
    listable = {
        "ingest": {},
        "drain": {"segments/", "archive/"},
        "seal": {"segments/", "checkpoints/", "archive/", "tiles/", "key-changes/", "statements/"},
        "query": {"segments/", "archive/", "tiles/", "checkpoints/", "key-changes/", "statements/", "keys/"},
        "compact": {"segments/", "archive/", "tiles/", "checkpoints/"},
        "reconcile": {"segments/", "archive/"},
        "export": {"segments/", "archive/", "tiles/", "checkpoints/", "key-changes/", "statements/", "keys/"},
        "watchdog": {},
        "setup": {"secrets/", "keys/"},
    }
    told = {"drain", "seal", "query", "compact", "reconcile", "export"}
    for function in FUNCTIONS:
        for prefix in ("segments/", "checkpoints/", "secrets/", "keys/", "archive/", "tiles/", "key-changes/", "statements/"):
            (may if prefix in listable[function] else cannot)(
                function, "s3:ListBucketVersions", ARCHIVE, **listing(f"{prefix}tenant_id=org_acme/")
            )
            allowed = function in told and prefix in listable[function]
            (may if allowed else cannot)(function, "s3:ListBucket", ARCHIVE, **listing(prefix))
            for call in ("ListBucket", "ListBucketVersions"):
                cannot(function, f"s3:{call}", OTHER_BUCKET, **listing(prefix))
        # To read a key that is free and be told so.
        (may if function in told else cannot)(function, "s3:ListBucket", ARCHIVE)
        cannot(function, "s3:ListBucket", OTHER_BUCKET)

    # Exported files: one writes them and finds them, one signs links to them.
    for function in FUNCTIONS:
        verb = may if function == "export" else cannot
        verb(function, "s3:PutObject", EXPORTED, **{"s3:if-none-match": "*"})
        verb(function, "s3:ListBucket", EXPORTS)
        (may if function in ("export", "query") else cannot)(function, "s3:GetObject", EXPORTED)
        for call in ("DeleteObject", "DeleteObjectVersion", "PutObjectAcl", "PutObjectTagging", "GetObjectVersion"):
            cannot(function, f"s3:{call}", EXPORTED)
        cannot(function, "s3:PutObject", f"{EXPORTS}/elsewhere", **{"s3:if-none-match": "*"})
        cannot(function, "s3:GetObject", f"{EXPORTS}/elsewhere")
        cannot(function, "s3:ListBucketVersions", EXPORTS)

    # What the stream's mapping gives up on.
    for function in FUNCTIONS:
        verb = may if function == "seal" else cannot
        verb(function, "s3:PutObject", FAILED_BATCH)
        verb(function, "s3:ListBucket", FAILED)
        cannot(function, "s3:PutObject", f"{FAILED}/elsewhere")
        for call in ("GetObject", "DeleteObject", "DeleteObjectVersion"):
            cannot(function, f"s3:{call}", FAILED_BATCH)
        cannot(function, "s3:ListBucketVersions", FAILED)
        for call in ("GetObject", "PutObject"):
            cannot(function, f"s3:{call}", f"{RESULTS}/x.csv")

    # -- one function asks another --
    for function in FUNCTIONS:
        for other in (*FUNCTIONS, "payroll"):
            allowed = (function, other) == ("ingest", "query")
            invoked = invocable(other)
            (may if allowed else cannot)(function, "lambda:InvokeFunction", invoked)
            # Not a version or an alias that somebody keeps, either.
            cannot(function, "lambda:InvokeFunction", f"{invoked}:1")
            for call in (
                "InvokeAsync",
                "InvokeFunctionUrl",
                "UpdateFunctionCode",
                "UpdateFunctionConfiguration",
                "GetFunction",
                "AddPermission",
            ):
                cannot(function, f"lambda:{call}", invoked)

    # -- queues --
    take = {"ReceiveMessage", "DeleteMessage", "GetQueueAttributes", "ChangeMessageVisibility"}
    queues = {
        "ingest": {"spill": {"SendMessage"}},
        "drain": {"spill": take},
        "seal": {"parking": take | {"SendMessage"}},
        "query": {
            "spill": {"GetQueueAttributes"},
            "parking": {"GetQueueAttributes"},
            "compaction": {"SendMessage"},
            "exports": {"SendMessage"},
        },
        "compact": {"compaction": take | {"SendMessage"}},
        "reconcile": {
            "reconciliation": take | {"SendMessage"},
            "compaction": {"SendMessage"},
            "parking": {"SendMessage"},
        },
        "export": {"exports": take},
        "watchdog": {},
        "setup": {},
    }
    for function in FUNCTIONS:
        for name in (*QUEUES, *(f"{name}-dead" for name in QUEUES)):
            for call in sorted(take | {"SendMessage", "PurgeQueue", "DeleteQueue", "SetQueueAttributes", "AddPermission"}):
                allowed = call in queues[function].get(name, set())
                (may if allowed else cannot)(function, f"sqs:{call}", queue(name))
        for call in sorted(take | {"SendMessage"}):
            cannot(function, f"sqs:{call}", queue("payroll").replace("stele-", ""))

    # -- secrets --
    unwraps = {
        "ingest": {"master"},
        "drain": {"master"},
        "seal": {"signing"},
        "query": {"master"},
        "compact": {"signing"},
        "reconcile": {"master"},
        "export": set(),
        "watchdog": set(),
        "setup": {"master", "signing"},
    }
    # Under the key's own policy, and under one that leaves everything to roles: either alone must do.
    for function in FUNCTIONS:
        for policy in ("key", "open key"):

            def may_use(action, **context):
                table.add((ALLOWED, None), request(role(function), action, KEY, context, function, policy))

            def cannot_use(action, key=KEY, **context):
                table.add(("Denied", None), request(role(function), action, key, context, function, policy))

            for purpose in ("master", "signing", "payroll"):
                (may_use if purpose in unwraps[function] else cannot_use)("kms:Decrypt", **context_of(purpose))
                making = function == "setup" and purpose != "payroll"
                (may_use if making else cannot_use)("kms:GenerateDataKeyWithoutPlaintext", **context_of(purpose))
                for call in ("GenerateDataKey", "Encrypt", "ReEncryptFrom"):
                    cannot_use(f"kms:{call}", **context_of(purpose))
                for call in ("Decrypt", "GenerateDataKeyWithoutPlaintext"):
                    cannot_use(f"kms:{call}", OTHER_KEY, **context_of(purpose))
            for call in (
                "Decrypt",
                "GenerateDataKeyWithoutPlaintext",
                "CreateGrant",
                "ScheduleKeyDeletion",
                "DisableKey",
                "PutKeyPolicy",
            ):
                cannot_use(f"kms:{call}")
    return table


def archive():
    """What the bucket policy leaves to principals whose own policies allow everything."""
    table = Table()

    def may(who, action, resource, policy="archive", **context):
        table.add((ALLOWED, None), request(who, action, resource, context, "everything", policy))

    def refused(who, action, resource, by, policy="archive", **context):
        table.add((EXPLICIT, by), request(who, action, resource, context, "everything", policy))

    seal, compact, reconcile, setup = role("seal"), role("compact"), role("reconcile"), role("setup")
    good = {
        SEGMENT: (seal, 35),
        CHECKPOINT: (seal, 3654),
        ARCHIVED: (compact, 3653),
        TILE: (compact, 3654),
        KEY_CHANGE: (seal, 3654),
        STATEMENT: (seal, 3654),
        PUBLIC_KEY: (setup, 3654),
        SECRET: (setup, 3654),
    }

    # -- writing as it is meant --
    for key, (writer, days) in good.items():
        may(writer, "s3:PutObject", key, **put(days))
        may(writer, "s3:PutObject", key, **put(days, **{"s3:x-amz-server-side-encryption": "AES256"}))
        may(writer, "s3:PutObjectRetention", key, **lock(days))
    may(compact, "s3:PutObject", CHECKPOINT, **put(3654))
    may(compact, "s3:PutObjectRetention", CHECKPOINT, **lock(3654))
    for who in (compact, reconcile):
        may(who, "s3:PutObjectRetention", SEGMENT, **lock(35))
        refused(who, "s3:PutObject", SEGMENT, "OnlySealWritesTheLog", **put(35))
    may(compact, "s3:PutObject", ARCHIVED, **put(90))
    # A class's lock counts from sealing, which may be weeks ago.
    may(compact, "s3:PutObject", ARCHIVED, **put(55))
    # What a hold has kept may get a class that ends tomorrow.
    may(compact, "s3:PutObjectRetention", ARCHIVED, **lock(1))
    may(compact, "s3:PutObjectTagging", SEGMENT)
    may(compact, "s3:PutObjectVersionTagging", ARCHIVED)
    may(compact, "s3:PutObjectLegalHold", ARCHIVED, **{"s3:object-lock-legal-hold": "ON"})
    # S3 may count the day that has just begun, or not.
    may(seal, "s3:PutObject", SEGMENT, **put(34))
    may(seal, "s3:PutObject", CHECKPOINT, **put(3653))
    may(seal, "s3:PutObject", CHECKPOINT, **put(3660))

    # -- reading is for the roles' own policies to allow --
    for who in (seal, role("query"), ADMIN, ROOT):
        may(who, "s3:GetObjectVersion", SEGMENT)
        may(who, "s3:ListBucketVersions", ARCHIVE, **listing("segments/"))
        may(who, "s3:GetBucketPolicy", ARCHIVE)

    # -- nothing is deleted, by anybody --
    for who in (seal, compact, setup, ADMIN, ROOT, DEPLOYER):
        for key in (SEGMENT, CHECKPOINT, ARCHIVED, PUBLIC_KEY, SECRET, TILE, ELSEWHERE):
            for call in ("DeleteObject", "DeleteObjectVersion", "DeleteObjectTagging", "DeleteObjectVersionTagging"):
                refused(who, f"s3:{call}", key, "NothingIsDeleted")
    refused(ADMIN, "s3:ReplicateDelete", SEGMENT, "NothingIsDeleted")

    # -- nor changed in place --
    for who in (seal, compact, ADMIN, ROOT):
        for call in (
            "UpdateObjectEncryption",
            "PutObjectAnnotation",
            "PutObjectVersionAnnotation",
            "ReplicateObject",
            "ReplicateObjectAnnotation",
            "ReplicateTags",
        ):
            refused(who, f"s3:{call}", SEGMENT, "NothingIsChanged")

    for key, (writer, days) in good.items():
        # -- nothing is overwritten --
        refused(writer, "s3:PutObject", key, "NothingIsOverwritten", **{**put(days), "s3:if-none-match": None})
        refused(
            writer,
            "s3:PutObject",
            key,
            "NothingIsOverwritten",
            **{**put(days), "s3:if-none-match": None, "s3:if-match": "9b2cf535f27731c974343645a3985328"},
        )
        # -- nothing is without the lock --
        bare = {"s3:object-lock-mode": None, "s3:object-lock-remaining-retention-days": None}
        refused(writer, "s3:PutObject", key, "NothingIsUnlocked", **{**put(days), **bare})
        refused(writer, "s3:PutObject", key, "NothingIsUnlocked", **put(days, "GOVERNANCE"))
        refused(writer, "s3:PutObjectRetention", key, "NothingIsUnlocked", **lock(days, "GOVERNANCE"))
        # -- nor locked for longer than anything needs --
        for days_too_many in (3661, 36500):
            refused(writer, "s3:PutObject", key, "NothingIsLockedBeyondTheLongestClass", **put(days_too_many))
            refused(
                writer, "s3:PutObjectRetention", key, "NothingIsLockedBeyondTheLongestClass", **lock(days_too_many)
            )
        # -- nor under a key that can be destroyed --
        for kind in ("aws:kms", "aws:kms:dsse"):
            refused(
                writer, "s3:PutObject", key, "OnlyKeysOfS3", **put(days, **{"s3:x-amz-server-side-encryption": kind})
            )
        refused(
            writer,
            "s3:PutObject",
            key,
            "NoKeysOfCustomers",
            **put(days, **{"s3:x-amz-server-side-encryption-customer-algorithm": "AES256"}),
        )
    # -- nor for less --
    shortest = {
        SEGMENT: (34, "SegmentsAreLockedFor35Days"),
        ARCHIVED: (55, "ArchiveIsLockedForTheShortestClass"),
        CHECKPOINT: (3653, "ProofsAreLockedForTheLongestClass"),
        TILE: (3653, "ProofsAreLockedForTheLongestClass"),
        KEY_CHANGE: (3653, "ProofsAreLockedForTheLongestClass"),
        STATEMENT: (3653, "ProofsAreLockedForTheLongestClass"),
        PUBLIC_KEY: (3653, "ProofsAreLockedForTheLongestClass"),
        SECRET: (3653, "ProofsAreLockedForTheLongestClass"),
    }
    for key, (days, sid) in shortest.items():
        writer = good[key][0]
        for too_few in (0, 1, days - 1):
            refused(writer, "s3:PutObject", key, sid, **put(too_few))
            if key != ARCHIVED:
                refused(writer, "s3:PutObjectRetention", key, sid, **lock(too_few))

    # -- by nobody else --
    # The statement against writing, and the one against lengthening; whom each of them spares.
    archiving, keeping = ("OnlyCompactWritesTheArchive", {compact}), ("OnlySetupWritesKeys", {setup})
    publishing = ("OnlySealAndCompactPublish", {seal, compact})
    stating = ("OnlySealStates", {seal})
    others = {
        SEGMENT: (
            ("OnlySealWritesTheLog", {seal}),
            ("OnlySealCompactAndReconcileLockTheLog", {seal, compact, reconcile}),
        ),
        CHECKPOINT: (publishing, publishing),
        MANIFEST: (publishing, publishing),
        ARCHIVED: (archiving, archiving),
        TILE: (archiving, archiving),
        KEY_CHANGE: (stating, stating),
        STATEMENT: (stating, stating),
        PUBLIC_KEY: (keeping, keeping),
        SECRET: (keeping, keeping),
    }
    functions = [role(function) for function in FUNCTIONS]
    everybody = [*functions, ADMIN, ROOT, DEPLOYER]
    for key, ((writing, writers), (locking, lockers)) in others.items():
        days = good[CHECKPOINT if key == MANIFEST else key][1]
        for who in everybody:
            if who not in writers:
                refused(who, "s3:PutObject", key, writing, **put(days))
            if who not in lockers:
                refused(who, "s3:PutObjectRetention", key, locking, **lock(days))
    for who in everybody:
        refused(who, "s3:PutObject", ELSEWHERE, "NothingElseIsWritten", **put(3654))
        refused(who, "s3:PutObjectRetention", ELSEWHERE, "NothingElseIsWritten", **lock(3654))
        if who != compact:
            for call in ("PutObjectTagging", "PutObjectVersionTagging"):
                refused(who, f"s3:{call}", SEGMENT, "OnlyCompactTagsAndHolds")
            refused(
                who, "s3:PutObjectLegalHold", ARCHIVED, "OnlyCompactTagsAndHolds", **{"s3:object-lock-legal-hold": "OFF"}
            )

    # -- no way around --
    for who in (seal, ADMIN, ROOT):
        refused(who, "s3:BypassGovernanceRetention", SEGMENT, "NoLockIsBypassed")
    for who in (seal, ADMIN, ROOT):
        refused(who, "s3:GetObject", SEGMENT, "OnlyOverTls", **{"aws:SecureTransport": "false"})
        refused(who, "s3:ListBucket", ARCHIVE, "OnlyOverTls", **{"aws:SecureTransport": "false"})
    refused(STRANGER, "s3:GetObject", SEGMENT, "OnlyThisAccount")
    refused(STRANGER, "s3:ListBucket", ARCHIVE, "OnlyThisAccount")
    refused(
        STRANGER.replace("role/Admin", "role/stele-seal"), "s3:PutObject", SEGMENT, "OnlyThisAccount", **put(35)
    )

    # -- settings change by deployment only, and whoever made a mistake in the policy can mend it --
    settings = [
        "PutLifecycleConfiguration",
        "PutBucketObjectLockConfiguration",
        "PutBucketVersioning",
        "PutBucketPublicAccessBlock",
        "PutBucketOwnershipControls",
        "PutBucketAcl",
        "PutEncryptionConfiguration",
        "PutReplicationConfiguration",
        "DeleteBucket",
    ]
    through = {"aws:CalledVia": ["cloudformation.amazonaws.com"]}
    for call in settings:
        for who in (ADMIN, ROOT, DEPLOYER, seal):
            refused(who, f"s3:{call}", ARCHIVE, "OnlyDeploymentsChangeSettings")
            refused(
                who,
                f"s3:{call}",
                ARCHIVE,
                "OnlyDeploymentsChangeSettings",
                **{"aws:CalledVia": ["athena.amazonaws.com"]},
            )
        may(ADMIN, f"s3:{call}", ARCHIVE, **through)
        may(DEPLOYER, f"s3:{call}", ARCHIVE, "archive-staffed")
        may(ADMIN, f"s3:{call}", ARCHIVE, "archive-staffed", **through)
        refused(ADMIN, f"s3:{call}", ARCHIVE, "OnlyDeploymentsChangeSettings", "archive-staffed")
    for who in (ADMIN, ROOT):
        may(who, "s3:PutBucketPolicy", ARCHIVE)
        may(who, "s3:DeleteBucketPolicy", ARCHIVE)

    # -- a trial --
    may(seal, "s3:PutObject", SEGMENT, "archive-trial", **put(35, "GOVERNANCE"))
    may(ADMIN, "s3:BypassGovernanceRetention", SEGMENT, "archive-trial")
    refused(seal, "s3:PutObject", SEGMENT, "NothingIsUnlocked", "archive-trial", **put(35))
    refused(ADMIN, "s3:DeleteObjectVersion", SEGMENT, "NothingIsDeleted", "archive-trial")
    return table


def others():
    """The other resources' policies."""
    table = Table()

    def may(who, action, resource, policy="attached", **context):
        table.add((ALLOWED, None), request(who, action, resource, context, "everything", policy))

    def refused(who, action, resource, by, policy="attached", **context):
        table.add((EXPLICIT, by), request(who, action, resource, context, "everything", policy))

    def not_given(who, action, resource, policy="attached", **context):
        table.add((IMPLICIT, None), request(who, action, resource, context, "everything", policy))

    plain = {"aws:SecureTransport": "false"}
    for bucket, key in ((FAILED, FAILED_BATCH), (EXPORTS, EXPORTED), (RESULTS, f"{RESULTS}/x.csv")):
        may(ADMIN, "s3:GetObject", key)
        may(ADMIN, "s3:DeleteObject", key)
        refused(ADMIN, "s3:GetObject", key, "OnlyOverTls", **plain)
        refused(ADMIN, "s3:ListBucket", bucket, "OnlyOverTls", **plain)
        refused(STRANGER, "s3:GetObject", key, "OnlyThisAccount")
        refused(STRANGER, "s3:ListBucket", bucket, "OnlyThisAccount")
    may(role("seal"), "s3:PutObject", FAILED_BATCH)
    for who in (role("ingest"), ADMIN, ROOT):
        refused(who, "s3:PutObject", FAILED_BATCH, "OnlySealWrites")
    new = {"s3:if-none-match": "*"}
    may(role("export"), "s3:PutObject", EXPORTED, **new)
    refused(role("export"), "s3:PutObject", EXPORTED, "NothingIsOverwritten")
    may(role("query"), "s3:GetObject", EXPORTED)
    for who in (role("query"), role("seal"), ADMIN, ROOT):
        refused(who, "s3:PutObject", EXPORTED, "OnlyExportWrites", **new)

    for name in (*QUEUES, *(f"{name}-dead" for name in QUEUES)):
        refused(ADMIN, "sqs:ReceiveMessage", queue(name), "OnlyOverTls", **plain)
        may(ADMIN, "sqs:ReceiveMessage", queue(name))
    may(role("app"), "sqs:SendMessage", queue("spill"))
    for who in (role("seal"), role("reconcile")):
        may(who, "sqs:SendMessage", queue("parking"))
        may(who, "sqs:SendMessage", queue("parking"), "parking-staffed")
    for who in (role("ingest"), role("compact"), role("app"), ADMIN, ROOT, OPERATOR):
        refused(who, "sqs:SendMessage", queue("parking"), "OnlySealAndReconcilePark")
    may(OPERATOR, "sqs:SendMessage", queue("parking"), "parking-staffed")
    refused(ADMIN, "sqs:SendMessage", queue("parking"), "OnlySealAndReconcilePark", "parking-staffed")
    refused(ADMIN, "sqs:ReceiveMessage", queue("parking"), "OnlyOverTls", "parking-staffed", **plain)

    # The key: each use for its role alone, administration without use, and no destruction.
    uses = {
        ("kms:Decrypt", "master"): {"ingest", "drain", "query", "reconcile", "setup"},
        ("kms:Decrypt", "signing"): {"seal", "compact", "setup"},
        ("kms:GenerateDataKeyWithoutPlaintext", "master"): {"setup"},
        ("kms:GenerateDataKeyWithoutPlaintext", "signing"): {"setup"},
    }
    for (action, purpose), functions in uses.items():
        for function in FUNCTIONS:
            (may if function in functions else not_given)(role(function), action, KEY, **context_of(purpose))
            (may if function in functions else not_given)(
                role(function), action, KEY, "key-staffed", **context_of(purpose)
            )
        for who in (ADMIN, ROOT, OPERATOR, role("export")):
            not_given(who, action, KEY, **context_of(purpose))
        (may if action == "kms:Decrypt" else not_given)(OPERATOR, action, KEY, "key-staffed", **context_of(purpose))
        not_given(ADMIN, action, KEY, "key-staffed", **context_of(purpose))
    for function in FUNCTIONS:
        not_given(role(function), "kms:Decrypt", KEY)
        not_given(role(function), "kms:Decrypt", KEY, **context_of("payroll"))
        not_given(role(function), "kms:GenerateDataKeyWithoutPlaintext", KEY, **context_of("payroll"))
    not_given(OPERATOR, "kms:Decrypt", KEY, "key-staffed", **context_of("payroll"))
    for policy in ("key", "key-staffed"):
        not_given(role("setup"), "kms:GenerateDataKeyWithoutPlaintext", KEY, policy)
        not_given(role("setup"), "kms:GenerateDataKeyWithoutPlaintext", KEY, policy, **context_of("payroll"))
        not_given(role("setup"), "kms:Decrypt", KEY, policy, **context_of("payroll"))
        not_given(role("ingest"), "kms:Decrypt", KEY, policy, **context_of("payroll"))
        for call in ("Encrypt", "GenerateDataKey", "ReEncryptFrom"):
            not_given(ADMIN, f"kms:{call}", KEY, policy, **context_of("master"))
        for call in ("CreateGrant", "ReplicateKey"):
            not_given(ADMIN, f"kms:{call}", KEY, policy)
        for call in (
            "CancelKeyDeletion",
            "CreateAlias",
            "DeleteAlias",
            "DescribeKey",
            "EnableKey",
            "EnableKeyRotation",
            "GetKeyPolicy",
            "GetKeyRotationStatus",
            "ListGrants",
            "ListKeyPolicies",
            "ListKeyRotations",
            "ListResourceTags",
            "PutKeyPolicy",
            "RevokeGrant",
            "TagResource",
            "UntagResource",
            "UpdateAlias",
            "UpdateKeyDescription",
        ):
            may(ADMIN, f"kms:{call}", KEY, policy)
        for who in (ADMIN, ROOT):
            for call in ("ScheduleKeyDeletion", "DisableKey"):
                not_given(who, f"kms:{call}", KEY, policy)
    return table


class Policies(unittest.TestCase):
    maxDiff = None

    def hold(self, table, names, same=(), **only):
        """The table holds, and each of the policies is tested by it in every part. `same` mutants change nothing."""
        mutants = [mutant for name in names for mutant in policies.mutants(name)]
        for name, sids in only.items():
            mutants += policies.mutants(name.replace("_", "-"), sids)
        self.assertTrue(mutants)
        answer = simulate(table.requests, mutants)
        wrong = []
        for case, (expected, by), got in zip(table.requests, table.expected, answer["results"], strict=True):
            self.assertEqual(got["ignored"], [], f"never carried: {shown(case)}")
            fits = got["result"] != ALLOWED if expected == "Denied" else got["result"] == expected
            if by is not None:
                fits = fits and by in got["sids"]
            if not fits:
                wrong.append(f"{shown(case)}: expected {expected} by {by}, got {got['result']} by {got['sids']}")
        self.assertEqual(wrong, [])
        self.assertEqual(answer["survivors"], list(same), "these losses would go unnoticed")
        print(f"  {len(table.requests)} requests, {len(mutants)} mutants of {', '.join(names)}")

    def test_each_role_may_do_what_its_function_does_and_nothing_else(self):
        # On a stream there is nothing else to do than what is allowed.
        same = ["seal/ReadStream: Action without dynamodb:ListStreams", "seal/ReadStream: any action"]
        self.hold(roles(), FUNCTIONS, same=same)

    def test_nobody_gets_around_the_archives_policy(self):
        self.hold(archive(), ["archive"], archive_staffed=["OnlyDeploymentsChangeSettings"])

    def test_the_other_resources_keep_to_their_users(self):
        queues = [name for queue in QUEUES for name in (queue, f"{queue}-dead")]
        self.hold(others(), ["failed", "exported", "results", *queues, "parking-staffed", "key", "key-staffed"])

    def test_every_condition_is_on_a_key_that_its_actions_carry(self):
        keys = []
        for document in policies.DOCUMENTS.values():
            for statement in document["Statement"]:
                resource = listed(statement.get("Resource", statement.get("NotResource")))[0]
                for action in listed(statement["Action"]):
                    if "*" in action:
                        continue
                    for tests in statement.get("Condition", {}).values():
                        keys += [(action, resource, key) for key in tests]
        self.assertGreater(len(keys), 100)
        self.assertEqual(simulate([], keys=keys)["unknown"], [])
        self.assertEqual(
            simulate([], keys=[("s3:GetObject", SEGMENT, "s3:if-none-match")])["unknown"],
            [["s3:GetObject", "s3:if-none-match"]],
        )

    def test_the_simulator_reads_conditions_as_aws_does(self):
        """What the policies lean on: a missing key fits a negated condition and a ForAllValues one, not a plain one."""
        document = {
            "Version": "2012-10-17",
            "Statement": [
                {"Sid": "Everything", "Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "s3:*", "Resource": "*"},
            ],
        }
        kinds = {
            "Absent": ({"StringNotEquals": {"s3:object-lock-mode": "COMPLIANCE"}}, EXPLICIT, ALLOWED),
            "Plain": ({"NumericLessThan": {"s3:object-lock-remaining-retention-days": "34"}}, ALLOWED, ALLOWED),
            "Null": ({"Null": {"s3:if-none-match": "true"}}, EXPLICIT, ALLOWED),
            "Arn": ({"ArnNotEquals": {"aws:PrincipalArn": role("seal")}}, ALLOWED, ALLOWED),
            "All": ({"ForAllValues:StringNotEquals": {"aws:CalledVia": ["a"]}}, EXPLICIT, EXPLICIT),
            "IfExists": ({"StringNotEqualsIfExists": {"s3:object-lock-mode": "GOVERNANCE"}}, EXPLICIT, EXPLICIT),
        }
        for name, (condition, bare, full) in kinds.items():
            with self.subTest(name):
                denial = {
                    "Sid": name,
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "s3:PutObject",
                    "Resource": f"{ARCHIVE}/*",
                    "Condition": condition,
                }
                policies.DOCUMENTS["semantics"] = {**document, "Statement": [*document["Statement"], denial]}
                case = [
                    request(role("seal"), "s3:PutObject", SEGMENT, context, "everything", "semantics")
                    for context in ({}, put(35))
                ]
                got = [answer["result"] for answer in simulate(case)["results"]]
                del policies.DOCUMENTS["semantics"]
                self.assertEqual(got, [bare, full])


if __name__ == "__main__":
    unittest.main()
