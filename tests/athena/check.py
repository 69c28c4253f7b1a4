#!/usr/bin/env python3
"""Checks infra/athena: the table's definition, and that each named query answers its question.

`check.py --stele target/debug/stele` runs the real program, sends it events, has it archive them, and compares every
query's rows over the archive's files with an answer computed from the leaves without SQL. Those files all lie in this
month; so that there are months to choose between, the segments, which have its columns and more, are laid out as files of
the archive as well, and all is asked of them too. DuckDB stands for Athena; with `--trino` everything runs on Athena's own
engine, too.

Exit code 0 if all is well, 1 if not.
"""

import argparse
import collections
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import duckdb
import pyarrow
import pyarrow.parquet
from sqlglot import exp

import answers
import athena

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
QUERIES = ROOT / "infra" / "athena"
SAAS = ROOT.parent / "shared" / "data" / "saas-events.ndjson"
BUCKET = "stele-archive-123456789012-eu-central-1"
# A tenant whose file this check makes itself.
ERASED = "org_erased"
GENERATED = ["--events", "400", "--tenants", "4", "--days", "40", "--until", "2025-06-15", "--seed", "3"]
SEALED_WITHIN_SECONDS = 30
MONTHS_BACK = 5
# Columns of segments that files of the archive do without.
SEGMENTS_ONLY = ("session_id", "request_id", "trace_id", "external_id", "description")

failures = []


def check(holds, what):
    if not holds:
        failures.append(what)
        print(f"  FAILED  {what}")
    return holds


def refused(what, run):
    """Checks that Athena would not run something."""
    try:
        run()
    except athena.Refused:
        return
    check(False, f"{what} is run, and must be refused")


# ---- the definition ----


def check_definition(table, ddl, golden):
    source = json.loads((QUERIES / "columns.json").read_text(encoding="utf-8"))
    told = lambda columns: [(c["name"], c["type"], c["comment"]) for c in columns]
    check(table.name == source["table"], "table.sql and columns.json name one table")
    check(table.columns == told(source["columns"]), "table.sql has the columns of columns.json")
    check(table.partition_keys == told(source["partition_keys"]), "table.sql has the partition keys of columns.json")
    check(table.parameters == source["parameters"], "table.sql has the parameters of columns.json")
    check(table.location == source["location"], "table.sql has the location of columns.json")
    check(table.format == "PARQUET", "table.sql is over Parquet")
    # sqlglot takes other words for the same type; Hive does not.
    for name, hive, _ in table.columns + table.partition_keys:
        check(f"`{name}` {hive} COMMENT '" in ddl, f"table.sql writes the type of `{name}` as `{hive}`")
    # The writer's own schema, which files of the archive are held against when they are read.
    schema = re.findall(r"^ +(?:REQUIRED|OPTIONAL) (\w+) (\w+)(?: \((.+)\))?;$", golden, re.MULTILINE)
    hive = {
        ("BYTE_ARRAY", ""): "binary",
        ("BYTE_ARRAY", "STRING"): "string",
        ("INT64", ""): "bigint",
        ("INT64", "TIMESTAMP(MILLIS,true)"): "timestamp",
    }
    check(
        [(name, kind) for name, kind, _ in table.columns] == [(n, hive.get((p, a))) for p, n, a in schema],
        "the columns are those of the writer's golden schema, in order and type",
    )
    for keys, location in table.partitions({"tenant_id": {"=": "t"}}, datetime.date(2026, 1, 1))[:1]:
        key = f"archive/tenant_id=t/log={keys['log']}/month={keys['month']}/"
        check(location == f"s3://<bucket>/{key}", "a partition lies where the archive's keys say")
    print(f"definition: {len(table.columns)} columns, {len(table.partition_keys)} partition keys")


def check_template(table):
    """infra/analytics.yaml, which makes the same table and holds the queries' texts."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads a template: `!Sub text` is taken as its text, any other intrinsic as something opaque."""

    def intrinsic(loader, tag, node):
        if isinstance(node, yaml.ScalarNode):
            return node.value
        return tag

    Loader.add_multi_constructor("!", intrinsic)
    template = yaml.load((ROOT / "infra" / "analytics.yaml").read_text(encoding="utf-8"), Loader)
    of = lambda kind: [r["Properties"] for r in template["Resources"].values() if r["Type"] == kind]
    (made,) = [properties["TableInput"] for properties in of("AWS::Glue::Table")]
    source = json.loads((QUERIES / "columns.json").read_text(encoding="utf-8"))
    told = lambda columns: [(c["Name"], c["Type"], c.get("Comment")) for c in columns]
    check(made["Name"] == table.name, "analytics.yaml names the same table")
    check(
        told(made["StorageDescriptor"]["Columns"]) == table.columns, "analytics.yaml has the same columns and comments"
    )
    check(
        told(made["PartitionKeys"]) == table.partition_keys, "analytics.yaml has the same partition keys and comments"
    )
    plain = lambda text: re.sub(r"s3://[^/]*/", "s3://<bucket>/", text.replace("${!", "${"))
    parameters = {k: plain(v) for k, v in made["Parameters"].items() if k not in ("EXTERNAL", "classification")}
    check(parameters == table.parameters, "analytics.yaml has the same parameters")
    storage = made["StorageDescriptor"]
    check(plain(storage["Location"]) == source["location"], "analytics.yaml has the same location")
    for ours, theirs in (("input_format", "InputFormat"), ("output_format", "OutputFormat")):
        check(storage[theirs] == source[ours], f"analytics.yaml has the same {theirs}")
    check(storage["SerdeInfo"]["SerializationLibrary"] == source["serde"], "analytics.yaml has the same SerDe")
    named = sorted(query["QueryString"].strip() for query in of("AWS::Athena::NamedQuery"))
    ours = sorted(path.read_text(encoding="utf-8").strip() for path in query_files())
    check(named == ours, "analytics.yaml holds the text of each query")
    print(f"analytics.yaml: one table, {len(named)} named queries")


def query_files():
    return sorted(QUERIES.glob("[0-9][0-9]_*.sql"))


def check_text(path, sql):
    """What a query's text must be, so that every way of sending it to Athena works."""
    name = path.name
    comment = [line[2:].strip() for line in sql.splitlines() if line.startswith("--")]
    body = "\n".join(line for line in sql.splitlines() if not line.startswith("--"))
    check(sql.startswith("-- ") and comment[0].endswith("."), f"{name} begins with a line that says what it answers")
    check("--" not in body and "/*" not in body, f"{name} has no other comment")
    # A naive reader takes these in a comment for a parameter, the end of a statement, or a text.
    check(not set("?;'\"`") & set("".join(comment)), f"{name} has no ? ; or quote in its comment")
    check(";" not in body, f"{name} is one statement without a semicolon")
    check(any(line.startswith("Cost: ") for line in comment), f"{name} says what it costs")
    listed = [line for line in comment if line.startswith("Parameters: tenant, first month, last month")]
    check(len(listed) == 1, f"{name} lists its parameters, the tenant and the months first")
    try:
        statement = athena.parse(sql)
    except athena.Refused as e:
        check(False, f"{name}: {e}")
        return None
    check(isinstance(statement, exp.Select), f"{name} is a SELECT")
    check(not list(statement.find_all(exp.Anonymous)), f"{name} uses only functions the translation knows")
    check(not list(statement.find_all(exp.Star)) or "count(*)" in sql.lower(), f"{name} names its columns")
    places = len(list(statement.find_all(exp.Placeholder)))
    told = len(listed[0].removeprefix("Parameters: ").rstrip(".").split(", ")) if listed else 0
    check(places == told, f"{name} has {places} parameters and lists {told}")
    return statement


# ---- the archive ----


class Program:
    """The real program on a folder, on a port of its own."""

    def __init__(self, stele, folder):
        self.stele, self.folder = stele, folder
        environment = {k: v for k, v in os.environ.items() if not k.startswith("STELE_")}
        self.environment = environment
        self.process = subprocess.Popen(
            [stele, "dev", "--listen", "127.0.0.1:0", "--data", folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        for line in self.process.stdout:
            if m := re.search(r"http://127\.0\.0\.1:\d+", line):
                self.url = m[0]
                return
        raise SystemExit(f"`{stele} dev` does not start")

    def run(self, *arguments, stdin=None):
        done = subprocess.run(
            [self.stele, *arguments],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        if done.returncode != 0:
            raise SystemExit(f"`stele {arguments[0]}` failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def take(self, events):
        """Sends events and waits until all that was ever sent is sealed."""
        before = self.sealed()
        self.run("import", "--url", self.url, "--data", self.folder, "-", stdin="".join(f"{e}\n" for e in events))
        deadline = time.monotonic() + SEALED_WITHIN_SECONDS
        while self.sealed() < before + len(events):
            if time.monotonic() > deadline:
                raise SystemExit(f"{len(events)} events are not sealed within {SEALED_WITHIN_SECONDS} s")
            time.sleep(0.1)

    def archived(self):
        """Has everything archived that is sealed, the day under way included; the folder that stands for the bucket. Nobody
        else may work in the data folder."""
        self.run("archive", "--data", self.folder, "--close-today")
        return pathlib.Path(self.folder) / "archive"

    def segments(self):
        return sorted((pathlib.Path(self.folder) / "archive" / "segments").rglob("*.parquet"))

    def sealed(self):
        return sum(pyarrow.parquet.read_metadata(path).num_rows for path in self.segments())

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)


def all_of(archive, tenant):
    """The archive's columns of a tenant's files, in leaf order."""
    files = sorted((archive / f"tenant_id={tenant}").rglob("*.parquet"))
    rows = pyarrow.concat_tables(pyarrow.parquet.ParquetFile(path).read() for path in files).sort_by("leaf_index")
    return rows.drop_columns([name for name in SEGMENTS_ONLY if name in rows.schema.names])


def months_before(now, n):
    months = now.year * 12 + now.month - 1 - n
    return f"{months // 12:04}-{months % 12 + 1:02}"


def lay_out(segments, root, archive, now):
    """Gives each segment the place of an archive file. A log's last one lies in this month; each one before it gets the
    month before, so that there are months to choose between. The last segment of one tenant opens generation 1 of its
    log, as if the log had been ended."""
    logs = collections.defaultdict(list)
    for path in segments:
        tenant, log, name = path.relative_to(root).parts
        logs[tenant].append((log, name, path))
    for tenant, files in logs.items():
        for place, (log, name, path) in enumerate(files):
            last = place == len(files) - 1
            log = "log=1" if last and place > 0 and tenant == "tenant_id=org_00001" else log
            folder = archive / tenant / log / f"month={months_before(now, min(len(files) - 1 - place, MONTHS_BACK))}"
            folder.mkdir(parents=True, exist_ok=True)
            os.link(path, folder / name)


def add_erased(archive, now):
    """A file as erasure will leave them: what is personal is encrypted in the leaf, and its typed column is null. The
    program can't write one yet, so this one is made from another's rows."""
    source = all_of(archive, "org_a")
    changed = source.to_pylist()
    for row in changed:
        event = json.loads(row["leaf"])
        event["tenant_id"] = ERASED
        for name in {"id", "name", "email"} & set(event["actor"]):
            event["actor"][name] = {"$enc": {"k": "s1", "iv": "AAAA", "ct": "AAAA"}}
            row[f"actor_{name}"] = None
        row["leaf"] = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    folder = archive / f"tenant_id={ERASED}" / "log=0" / f"month={months_before(now, 0)}"
    folder.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(changed, source.schema), folder / f"{0:020}.parquet")


def leaves(archive):
    """All rows of the layout, read with Arrow: nothing but leaf and leaf index."""
    found = collections.defaultdict(list)
    for path in sorted(archive.rglob("*.parquet")):
        keys = dict(part.split("=", 1) for part in path.relative_to(archive).parts[:-1])
        read = pyarrow.parquet.ParquetFile(path).read(columns=["leaf", "leaf_index"])
        for row in read.to_pylist():
            found[keys["tenant_id"]].append(answers.Row(keys, row["leaf_index"], row["leaf"]))
    # A file of the archive may have its rows in another order.
    for read in found.values():
        read.sort(key=lambda row: (row.keys["log"], row.leaf_index))
    return found


def check_files(archive, table):
    """The physical types, read by Arrow, are ones that Athena reads as the table says."""
    told = [(name, *athena.TYPES[hive][1]) for name, hive, _ in table.columns]
    for path in sorted(archive.rglob("*.parquet")):
        schema = pyarrow.parquet.ParquetFile(path).schema
        kind = lambda column: str(column.logical_type).split(", is_from")[0]
        columns = [c for c in map(schema.column, range(len(schema))) if c.name not in SEGMENTS_ONLY]
        found = [(c.name, c.physical_type, kind(c)) for c in columns]
        if not check(found == told, f"{path.name} has columns Athena reads as the table says: {found}"):
            return


def check_arrived(sent, rows):
    """Every event that was sent is in exactly one leaf, and nothing else is."""

    def key(tenant, at, action, actor, resource, description, metadata):
        at = datetime.datetime.fromisoformat(at.replace("Z", "+00:00"))
        return json.dumps([tenant, at.isoformat(), action, actor, resource, description, metadata], sort_keys=True)

    def of_sent(event):
        target = event.get("resource") or (event.get("targets") or [None])[0] or {}
        return key(
            event.get("tenant_id") or event["organization_id"],
            event.get("occurred_at") or event["timestamp"],
            event["action"],
            event["actor"]["id"],
            target.get("id"),
            event.get("description"),
            event.get("metadata"),
        )

    def of_leaf(row):
        event = row.event
        return key(
            event["tenant_id"],
            event["occurred_at"],
            event["action"],
            event["actor"]["id"],
            (event.get("resource") or {}).get("id"),
            event.get("description"),
            event.get("metadata"),
        )

    expected = collections.Counter(of_sent(json.loads(line)) for line in sent)
    found = collections.Counter(of_leaf(row) for name, tenant in rows.items() if name != ERASED for row in tenant)
    check(expected == found, f"every event is in one leaf: {list((expected - found) + (found - expected))[:3]}")


# ---- the questions ----

LAST, EARLIER, EVER = "last month", "earlier months", "all months"
MARCH = ("2025-03-01", "2025-04-01")
ALWAYS = ("2000-01-01 00:00:00", "2100-01-01 00:00:00.001")


def cases(rows):
    """Tenant, months and parameters for each question. The scenario's have a row on each side of every condition."""
    most = lambda values: collections.Counter(values).most_common(1)[0][0]
    made = rows["org_00001"]
    record = most(row.resource("type", "id") for row in made)
    yield "record_history", "org_a", EVER, ("invoice", "inv_1")
    yield "record_history", "org_a", LAST, ("invoice", "inv_1")
    yield "record_history", "org_00001", EVER, record
    yield "actor_activity", "org_a", EVER, ("bob", *MARCH)
    yield "actor_activity", "org_a", EARLIER, ("alice", "2025-03-04 10:00:00", "2025-03-07 12:30:00.001")
    yield "actor_activity", "org_00001", EVER, (most(row.get("actor", "id") for row in made), *ALWAYS)
    yield "access_granted", "org_a", EVER, MARCH
    yield "failed_or_denied", "org_a", EVER, MARCH
    yield "failed_or_denied", "org_a", LAST, MARCH
    yield "failed_or_denied", "org_00001", EVER, ALWAYS
    yield "logins_from_new_networks", "org_a", EVER, ("2025-03-07 07:30:00",)
    yield "logins_from_new_networks", "org_a", EVER, ("2000-01-01",)
    yield "logins_from_new_networks", "org_00001", EVER, ("2000-01-01",)
    yield "support_access", "org_a", EVER, MARCH
    yield "support_access", "org_00001", EVER, ALWAYS
    yield "deletions", "org_a", EVER, MARCH
    yield "deletions", "org_00001", LAST, ALWAYS
    yield "exports", "org_a", EVER, MARCH
    yield "field_changes", "org_a", EVER, ("/status",)
    yield "field_changes", "org_a", EVER, ("/lines",)
    yield "field_changes", "org_00001", EVER, ("/role",)
    yield "leaf_hashes", "org_a", EVER, (3, 30)
    yield "leaf_hashes", "org_00001", EVER, (0, 10**12)
    for tenant in sorted(set(rows) - {"org_a", "org_ab"}):
        for question in ("access_granted", "failed_or_denied", "deletions", "exports"):
            yield question, tenant, EVER, ALWAYS
        yield "logins_from_new_networks", tenant, EVER, ("2000-01-01",)
        yield "leaf_hashes", tenant, EVER, (0, 10**12)


def between(which, now):
    first, last = {LAST: (0, 0), EARLIER: (MONTHS_BACK, 1), EVER: (MONTHS_BACK, 0)}[which]
    return months_before(now, first), months_before(now, last)


def literal(value):
    """A parameter as it is given to Athena."""
    return str(value) if isinstance(value, int) else exp.Literal.string(value).sql("athena")


def plain(columns, rows):
    """An engine's rows or an answer's in one form: JSON in one way of writing it, times as texts."""

    def value(name, cell):
        if name in answers.JSON_COLUMNS and cell is not None:
            return answers.written(json.loads(cell))
        return cell.isoformat() if hasattr(cell, "isoformat") else cell

    return [tuple(map(value, columns, row)) for row in rows]


class Case:
    """One question to one tenant, and the answer computed without SQL."""

    def __init__(self, rows, now, question, tenant, which, parameters):
        self.question, self.tenant, self.which = question, tenant, which
        first, last = between(which, now)
        self.literals = [literal(value) for value in (tenant, first, last, *parameters)]
        asked = [row for row in rows[tenant] if first <= row.keys["month"] <= last]
        self.expected = getattr(answers, question)(asked, *parameters)

    def __str__(self):
        return f"{self.question} of {self.tenant}, {self.which}"

    def same(self, columns, found):
        return plain(columns, found) == plain(columns, self.expected)

    def difference(self, columns, found):
        found, expected = plain(columns, found), plain(columns, self.expected)
        odd = [(f, e) for f, e in zip(found, expected) if f != e][:1]
        return f"{len(found)} rows for {len(expected)}" + "".join(
            f"\n    found    {f}\n    expected {e}" for f, e in odd
        )


def check_archived(table, bucket, queries, segments, sent, now):
    """What compaction wrote: the same leaves as the segments, a file or two for each log, and every question over them."""
    archive = bucket / "archive"
    files = sorted(archive.rglob("*.parquet"))
    rows = leaves(archive)
    check_files(archive, table)
    check_arrived(sent, rows)
    plain = lambda read: {tenant: [(row.leaf_index, row.leaf) for row in found] for tenant, found in read.items()}
    check(plain(rows) == plain(segments), "the archive holds the leaves of the segments, and nothing else")
    months = {row.keys["month"] for found in rows.values() for row in found}
    check(months <= {months_before(now, 0), months_before(now, 1)}, f"all was sealed just now, not in {months}")
    engine, asked = athena.Athena(table, BUCKET, bucket, now.date()), 0
    for question, *case in cases(rows):
        path, sql = queries[question]
        case = Case(rows, now, question, *case)
        try:
            columns, found = engine.rows(sql, case.literals)
        except (athena.Refused, duckdb.Error) as e:
            check(False, f"{case} can't be run over the archive: {e}")
            continue
        if not case.same(columns, found):
            check(False, f"{case} over the archive: {case.difference(columns, found)}")
        asked += 1
    print(f"compacted: {len(files)} files of {len(rows)} tenants, {asked} questions")


# ---- queries that are not as they should be ----


def without(statement, doomed):
    """The statement without one condition, which is the nth of all."""
    changed = statement.copy()
    conditions = [c for select in changed.find_all(exp.Select, bfs=False) for c in athena.conjuncts(select)]
    conditions[doomed].replace(exp.true())
    return changed


def check_tenant_is_needed(engine, path, statement, case):
    """The query as it is names one tenant and a range of months; without either, or with more, it is refused."""
    name = path.name
    bound = athena.bounds(statement, engine.table, athena.given(statement, case.literals))
    check(bound.get("tenant_id") == {"=": case.tenant}, f"{name} fixes tenant_id")
    check(set(bound.get("month", {})) == {"between"}, f"{name} bounds month on both sides")

    def spoiled(change):
        changed = statement.copy()
        for column in list(changed.find_all(exp.Column)):
            if column.name == "tenant_id" and isinstance(column.parent, exp.EQ):
                column.parent.replace(change(column.copy(), column.parent.expression.copy()))
        return lambda: engine.rows(changed, case.literals)

    refused(f"{name} without a tenant", spoiled(lambda column, value: exp.true()))
    refused(f"{name} with all tenants but one", spoiled(lambda column, value: exp.NEQ(this=column, expression=value)))
    refused(f"{name} with two tenants", spoiled(lambda c, v: exp.In(this=c, expressions=[v, exp.Literal.string("x")])))
    refused(
        f"{name} with one tenant or anything", spoiled(lambda c, v: exp.or_(exp.EQ(this=c, expression=v), exp.true()))
    )
    refused(f"{name} with a tenant like that", spoiled(lambda column, value: exp.Like(this=column, expression=value)))
    refused(
        f"{name} with a tenant from a column", spoiled(lambda c, v: exp.EQ(this=c, expression=exp.column("action")))
    )


def check_all_matters(engine, path, statement, asked):
    """Without any one of its conditions, or without its order, a query answers something else to at least one of the
    cases: so the cases would notice. The conditions on partition keys are for the check above."""
    selects = list(statement.find_all(exp.Select, bfs=False))
    conditions = [condition for select in selects for condition in athena.conjuncts(select)]
    changed = {
        condition.sql("athena"): without(statement, place)
        for place, condition in enumerate(conditions)
        if not {column.name for column in condition.find_all(exp.Column)} & {"tenant_id", "month"}
    }
    changed["ORDER BY"] = statement.copy()
    changed["ORDER BY"].args.pop("order")
    for words, other in changed.items():
        noticed = any(not case.same(*engine.rows(other, case.literals)) for case in asked)
        check(noticed, f"{path.name}: no case tells whether it says `{words}`")
    return len(changed)


def check_tampering(engine, statement, archive, now):
    """Files somebody changed: a column, a leaf, a missing row. The integrity query must show each."""
    tenant = "org_tampered"
    folder = archive / f"tenant_id={tenant}" / "log=0" / f"month={months_before(now, 0)}"
    folder.mkdir(parents=True)
    original = all_of(archive, "org_a")
    hashes = [answers.Row({"log": "0"}, 0, leaf).hash for leaf in original.column("leaf").to_pylist()]

    def answer(change):
        changed = original.to_pylist()
        change(changed)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(changed, original.schema), folder / "0.parquet")
        columns, found = engine.rows(statement, [literal(v) for v in (tenant, "2025-01", "2100-01", 0, 10**12)])
        return [dict(zip(columns, row)) for row in found]

    own = lambda changed: [row.update(leaf=row["leaf"].replace(b'"org_a"', b'"org_tampered"')) for row in changed]
    forge = lambda row: row.update(leaf=row["leaf"].replace(b'"v":1', b'"v":2'))
    second = lambda found: [row["columns_agree"] for row in found] == [n != 1 for n in range(len(found))]
    intact = answer(own)
    check(all(row["columns_agree"] for row in intact), "leaf_hashes finds nothing where nothing was changed")
    missing = [row["missing_before"] for row in intact]
    check(missing == [None] + [0] * (len(intact) - 1), "leaf_hashes counts from the first")
    foreign = answer(lambda changed: None)
    check(not any(row["columns_agree"] for row in foreign), "leaf_hashes finds another tenant's leaves")
    check([row["leaf_hash"] for row in foreign] == hashes, "leaf_hashes hashes the stored bytes")
    texts = [name for name in original.schema.names if name not in ("leaf", "leaf_index", "occurred_at", "received_at")]
    for name in texts:
        found = answer(lambda changed: (own(changed), changed[1].update({name: "forged"})))
        check(second(found), f"a forged {name} shows")
        if original.schema.field(name).nullable and any(original.column(name).to_pylist()):
            found = answer(lambda changed: (own(changed), [row.update({name: None}) for row in changed]))
            check(not all(row["columns_agree"] for row in found), f"a missing {name} shows")
    for name in ("occurred_at", "received_at"):
        later = lambda row: row.update({name: row[name] + datetime.timedelta(milliseconds=1)})
        found = answer(lambda changed: (own(changed), later(changed[1])))
        check(second(found), f"a forged {name} shows")
    found = answer(lambda changed: (own(changed), forge(changed[1])))
    differs = [row["leaf_hash"] != before["leaf_hash"] for row, before in zip(found, intact)]
    check(differs == [n == 1 for n in range(len(found))], "a forged leaf has another hash, and only it")
    found = answer(lambda changed: (own(changed), changed.pop(1)))
    check([row["missing_before"] for row in found][:2] == [None, 1], "a row that was taken out is missed")


def check_emulator(engine, rows, now):
    """The stand-in itself: it reads what is projected and nothing else, and refuses what Athena does."""
    table, today = engine.table, datetime.date(2026, 3, 31)
    months = table.projected("month", today)
    check((months[0], months[-1], len(months)) == ("2025-01", "2026-04", 16), "months are projected to the next one")
    check(table.projected("log", today) == list("0123456789"), "ten generations of a log are projected")
    sql = "SELECT count(*) FROM events WHERE tenant_id = ? AND month BETWEEN ? AND ?"
    count = lambda *parameters, text=sql: engine.rows(text, [literal(p) for p in parameters])[1][0][0]
    check(count("org_a", "2025-01", "2100-01") == len(rows["org_a"]), "all rows of a tenant are read")
    check(count("org_a", "2020-01", "2024-12") == 0, "nothing is read from before the first month")
    check(count("org_nobody", "2025-01", "2100-01") == 0, "nothing is read of a tenant without files")
    check(count("org_A", "2025-01", "2100-01") == 0, "a tenant's id is told from another by case")
    refused("a query without a tenant", lambda: count("2025-01", "2100-01", text=sql.replace("tenant_id = ? AND ", "")))
    refused("a text that does not parse", lambda: engine.rows("SELECT FROM WHERE events", []))
    refused("two statements", lambda: engine.rows("SELECT 1; SELECT 2", []))
    refused("a parameter in SELECT", lambda: engine.rows("SELECT ? FROM events WHERE tenant_id = 'org_a'", ["1"]))
    refused("too few parameters", lambda: count("org_a", "2025-01"))
    refused("a parameter that is SQL", lambda: engine.rows(sql, ["'a' OR 1 = 1", "'2025-01'", "'2100-01'"]))
    refused(
        "a tenant that only a subquery names",
        lambda: count("org_a", "2025-01", "2100-01", text=f"SELECT count(*) FROM events WHERE EXISTS ({sql})"),
    )


def main():
    parser = argparse.ArgumentParser(description="Checks infra/athena.")
    parser.add_argument("--stele", required=True, help="the program: target/debug/stele")
    parser.add_argument("--trino", action="store_true", help="also run everything on Trino (needs Java 25 and Maven)")
    options = parser.parse_args()
    began = time.monotonic()

    ddl = (QUERIES / "table.sql").read_text(encoding="utf-8")
    golden = (ROOT / "functions" / "adapters" / "src" / "golden" / "archive.schema").read_text(encoding="utf-8")
    check_definition(athena.Table(ddl), ddl, golden)
    check_template(athena.Table(ddl))
    table = athena.Table(ddl.replace("<bucket>", BUCKET))
    queries = {path.stem[3:]: (path, path.read_text(encoding="utf-8")) for path in query_files()}
    check(len(queries) == 10, f"there are ten questions, not {len(queries)}")
    statements = {name: check_text(path, sql) for name, (path, sql) in queries.items()}
    if failures:
        return report(began)

    if not SAAS.exists():
        raise SystemExit(f"{SAAS} is absent: the check needs the shared test data")
    with tempfile.TemporaryDirectory(prefix="stele-athena-") as folder:
        folder = pathlib.Path(folder)
        program = Program(options.stele, folder / "data")
        try:
            scenario = (HERE / "scenario.ndjson").read_text(encoding="utf-8").splitlines()
            saas = SAAS.read_text(encoding="utf-8").splitlines()
            generated = program.run("generate", *GENERATED).splitlines()
            half, third = len(scenario) // 2, len(generated) // 3
            sent = [scenario[:half] + saas + generated[:third], scenario[half:] + generated[third:]]
            for events in sent:
                program.take(events)
        finally:
            program.stop()
        now = datetime.datetime.now(datetime.timezone.utc)
        archive = folder / "bucket" / "archive"
        segments = program.segments()
        lay_out(segments, folder / "data" / "archive" / "segments", archive, now)
        check_archived(table, program.archived(), queries, leaves(archive), sent[0] + sent[1], now)
        add_erased(archive, now)
        rows = leaves(archive)
        check_files(archive, table)
        check_arrived(sent[0] + sent[1], rows)
        files = len(segments)
        print(
            f"archive: {sum(map(len, rows.values()))} events of {len(rows)} tenants in {files} files "
            f"({time.monotonic() - began:.1f} s)"
        )

        engine = athena.Athena(table, BUCKET, folder / "bucket", now.date())
        check_emulator(engine, rows, now)
        asked = collections.defaultdict(list)
        for question, *case in cases(rows):
            asked[question].append(Case(rows, now, question, *case))
        check(set(asked) == set(queries), "every query has cases")
        for name, (path, sql) in queries.items():
            try:
                for case in asked[name]:
                    columns, found = engine.rows(sql, case.literals)
                    if not case.same(columns, found):
                        check(False, f"{case}: {case.difference(columns, found)}")
            except (athena.Refused, duckdb.Error) as e:
                check(False, f"{case} can't be run: {e}")
                continue
            answered = sum(bool(case.expected) for case in asked[name])
            check(answered > 0, f"{name} has a case with an answer")
            check_tenant_is_needed(engine, path, statements[name], asked[name][0])
            tried = check_all_matters(engine, path, statements[name], asked[name])
            total = sum(len(case.expected) for case in asked[name])
            print(f"{path.name}: {total} rows in {len(asked[name])} cases, {tried} changes to it noticed")
        if options.trino:
            import trino

            trino.run(check, table, folder, queries, asked)
        check_tampering(engine, statements["leaf_hashes"], archive, now)

    return report(began)


def report(began):
    took = time.monotonic() - began
    print(f"athena: {len(failures)} failed, {took:.1f} s" if failures else f"athena: all well, {took:.1f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
