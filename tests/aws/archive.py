"""Reads an archive bucket as a stranger would, with none of our code: objects and their locks, leaves, roots, notes."""

import base64
import datetime
import hashlib
import json
import re
from typing import NamedTuple

import duckdb
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SEGMENT = re.compile(r"segments/tenant_id=([^/]+)/log=(\d+)/(\d{20})\.parquet")
ARCHIVED = re.compile(r"archive/tenant_id=([^/]+)/log=(\d+)/month=(\d{4}-\d{2})/(\d{20})\.parquet")
LOCK_DAYS = {"segments/": 35, "checkpoints/": 3654, "tiles/": 3654, "key-changes/": 3654, "statements/": 3654, "keys/": 3654,
             "secrets/": 3654}
DAY = datetime.timedelta(days=1)


class Leaf(NamedTuple):
    tenant: str
    log: int
    index: int
    id: str
    bytes: bytes

    @property
    def hash(self):
        return hashlib.sha256(b"\0" + self.bytes).digest()

    @property
    def event(self):
        return json.loads(self.bytes)


def versions(s3, bucket, prefix=""):
    """Every version of every object, oldest first; a delete marker is an error."""
    found, pages = [], s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        assert not page.get("DeleteMarkers"), f"somebody deleted {page['DeleteMarkers'][0]['Key']}"
        found.extend((version["Key"], version["VersionId"], version["LastModified"])
                     for version in page.get("Versions", []))
    return found


class State(NamedTuple):
    """What stands on a version besides its bytes."""

    key: str
    version: str
    until: datetime.datetime
    hold: bool
    tags: dict


def state_of(s3, bucket, key, version, mode):
    at = {"Bucket": bucket, "Key": key, "VersionId": version}
    retention = s3.get_object_retention(**at)["Retention"]
    assert retention["Mode"] == mode, f"{key} is locked in {retention['Mode']}"
    try:
        hold = s3.get_object_legal_hold(**at)["LegalHold"]["Status"] == "ON"
    except s3.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == "NoSuchObjectLockConfiguration", error
        hold = False
    tags = {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(**at)["TagSet"]}
    return State(key, version, retention["RetainUntilDate"], hold, tags)


def states(s3, bucket, mode, prefix):
    """Of all objects with a prefix, in order of their keys."""
    found = sorted(versions(s3, bucket, prefix))
    return [state_of(s3, bucket, key, version, mode) for key, version, _ in found]


def check_locks(s3, bucket, mode):
    """Every object has one version, locked in this mode for as long as its kind is; how many there are of each kind. What
    is in the archive has its class in its tag."""
    counts, seen = {}, set()
    for key, version, modified in versions(s3, bucket):
        assert key not in seen, f"{key} has a second version"
        seen.add(key)
        if key.startswith("archive/"):
            counts["archive/"] = counts.get("archive/", 0) + 1
            state = state_of(s3, bucket, key, version, mode)
            days = datetime.timedelta(days=int(state.tags["class"]))
            # It counts from the last sealing, which was moments before, and the clock was read then.
            assert modified + days - DAY < state.until < modified + days + DAY, f"{key}: {state}"
            continue
        kind = next((prefix for prefix in LOCK_DAYS if key.startswith(prefix)), None)
        assert kind, f"{key} is none of ours"
        retention = s3.get_object_retention(Bucket=bucket, Key=key, VersionId=version)["Retention"]
        assert retention["Mode"] == mode, f"{key} is locked in {retention['Mode']}"
        # The clock was read before the object was there.
        until, least = retention["RetainUntilDate"], datetime.timedelta(days=LOCK_DAYS[kind], seconds=-60)
        assert until >= modified + least, f"{key} is locked until {until} only"
        assert until <= modified + datetime.timedelta(days=LOCK_DAYS[kind] + 1), f"{key} is locked until {until}"
        counts[kind] = counts.get(kind, 0) + 1
    return counts


class Archive:
    """The logs in a bucket. Segments are read once: they never change."""

    def __init__(self, s3, bucket, folder):
        self.s3, self.bucket, self.folder = s3, bucket, folder
        self.read, self.logs = set(), {}
        self.sql = duckdb.connect()

    def refresh(self):
        """Reads the new segments. Each begins where the one before it ends, or the log is broken."""
        for key, version, _ in sorted(versions(self.s3, self.bucket, "segments/")):
            if key in self.read:
                continue
            tenant, log, first = SEGMENT.fullmatch(key).groups()
            path = self.folder / "segment.parquet"
            answer = self.s3.get_object(Bucket=self.bucket, Key=key, VersionId=version)
            path.write_bytes(answer["Body"].read())
            rows = self.sql.execute(
                "select leaf_index, id, leaf from read_parquet(?) order by leaf_index", [str(path)]).fetchall()
            leaves = self.logs.setdefault((tenant, int(log)), [])
            assert int(first) == len(leaves), f"{key} begins at {int(first)}, the log before it ends at {len(leaves)}"
            for index, id, leaf in rows:
                assert index == len(leaves), f"{key}: leaf {index} where {len(leaves)} belongs"
                # The API puts a prefix before it.
                made = Leaf(tenant, int(log), index, f"evt_{id}", bytes(leaf))
                assert made.event["id"] == id and made.event["tenant_id"] == tenant, f"{key}: leaf {index} is {leaf}"
                leaves.append(made)
            self.read.add(key)

    def archived(self):
        """Every row of the archive's files: (tenant, log) → leaf index → leaf. A leaf that is there twice is an error, and
        so are two files that overlap or leave a gap."""
        logs = {}
        for key, version, _ in sorted(versions(self.s3, self.bucket, "archive/")):
            tenant, log, _, first = ARCHIVED.fullmatch(key).groups()
            path = self.folder / "archive.parquet"
            answer = self.s3.get_object(Bucket=self.bucket, Key=key, VersionId=version)
            path.write_bytes(answer["Body"].read())
            rows = self.sql.execute(
                "select leaf_index, id, leaf from read_parquet(?) order by leaf_index", [str(path)]).fetchall()
            leaves = logs.setdefault((tenant, int(log)), [])
            assert int(first) == len(leaves), f"{key} begins at {int(first)}, the file before it ends at {len(leaves)}"
            for index, id, leaf in rows:
                assert index == len(leaves), f"{key}: leaf {index} where {len(leaves)} belongs"
                leaves.append(Leaf(tenant, int(log), index, f"evt_{id}", bytes(leaf)))
        return logs

    def by_id(self):
        """Every leaf by (tenant, event id); an id that is twice in the logs is an error."""
        found = {}
        for leaves in self.logs.values():
            for leaf in leaves:
                assert (leaf.tenant, leaf.id) not in found, f"{leaf.tenant}/{leaf.id} is sealed twice"
                found[leaf.tenant, leaf.id] = leaf
        return found

    def check_note(self, tenant, note, vkeys):
        """A checkpoint's signature by one of the keys, and its root against the leaves read. Its size."""
        text, _, signatures = note.partition("\n\n")
        text += "\n"
        origin, size, root = text.splitlines()[:3]
        valid = 0
        for line in signatures.splitlines():
            _, name, encoded = line.split(" ")
            blob = base64.b64decode(encoded, validate=True)
            for vkey in vkeys:
                key_name, key_hash, key = vkey.split("+", 2)
                key = base64.b64decode(key, validate=True)
                assert key[0] == 1, "an Ed25519 key begins with 1"
                assert key_hash == hashlib.sha256(key_name.encode() + b"\n" + key).digest()[:4].hex()
                if name == key_name and blob[:4].hex() == key_hash:
                    Ed25519PublicKey.from_public_bytes(key[1:]).verify(blob[4:], text.encode())
                    valid += 1
        assert valid == 1, f"signed {valid} times by the keys that are published: {note}"
        leaves = next(leaves for (owner, log), leaves in sorted(self.logs.items(), reverse=True) if owner == tenant)
        assert int(size) <= len(leaves), f"{origin} is signed at {size}, {len(leaves)} are sealed"
        expected = tree_root([leaf.hash for leaf in leaves[:int(size)]])
        assert base64.b64decode(root) == expected, f"{origin}: the signed root of {size} leaves is another"
        return int(size)


def tree_root(hashes):
    """RFC 6962 §2.1."""
    if not hashes:
        return hashlib.sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + tree_root(hashes[:split]) + tree_root(hashes[split:])).digest()
