"""The same questions on Trino, which Athena's engine version 3 is made from: its parser, its functions, its reader of
Parquet and its projection of partitions, over a Hive table with the types of columns.json.

Two things are not Athena's: Trino can't project months as dates, so that they are listed here; and it takes several
tenants in an IN, which Athena's documentation rules out.
"""

import datetime
import json
import os
import pathlib
import re
import shutil
import subprocess

from sqlglot import exp

HERE = pathlib.Path(__file__).resolve().parent
JARS = HERE.parents[1] / "target" / "trino"
JAVA = 25
SCHEMA = "stele"


def jars():
    """The engine's libraries, fetched with Maven once."""
    done = JARS / "complete"
    if not done.exists():
        print("trino: fetching the engine (300 MB)", flush=True)
        command = ["mvn", "-q", "-B", "-f", str(HERE / "trino" / "pom.xml"), "dependency:copy-dependencies"]
        subprocess.run([*command, f"-DoutputDirectory={JARS}"], check=True)
        done.touch()
    return f"{JARS}/*"


def java():
    home = os.environ.get("JAVA_HOME")
    program = os.path.join(home, "bin", "java") if home else shutil.which("java")
    told = subprocess.run([program or "java", "-version"], capture_output=True, text=True).stderr
    version = re.search(r'version "(\d+)', told)
    if not version or int(version[1]) < JAVA:
        raise SystemExit(f"Trino needs Java {JAVA}: set JAVA_HOME")
    return program


def write_metastore(table, folder, months):
    """The table as Glue would describe it, in the files of Trino's own metastore."""
    column = lambda name, hive, comment: {"name": name, "type": hive, "comment": comment, "properties": {}}
    local = lambda text: text.replace(f"s3://{table.location.split('/')[2]}/", "local:///bucket/")
    parameters = {
        name: local(value) for name, value in table.parameters.items() if not name.startswith("projection.month")
    }
    described = {
        "writerVersion": "stele",
        "owner": "stele",
        "tableType": "EXTERNAL_TABLE",
        "dataColumns": [column(*c) for c in table.columns],
        "partitionColumns": [column(*c) for c in table.partition_keys],
        "parameters": {
            **parameters,
            "EXTERNAL": "TRUE",
            "projection.month.type": "enum",
            "projection.month.values": ",".join(months),
        },
        "storageFormat": "PARQUET",
        "serdeParameters": {},
        "externalLocation": local(table.location),
        "columnStatistics": {},
    }
    database = {"writerVersion": "stele", "databaseName": SCHEMA, "parameters": {}}
    place = folder / "metastore" / SCHEMA / table.name
    place.mkdir(parents=True)
    (place / ".trinoSchema").write_text(json.dumps(described), encoding="utf-8")
    (folder / "metastore" / f".{SCHEMA}.trinoSchema").write_text(json.dumps(database), encoding="utf-8")


def executed(sql, literals):
    return f"EXECUTE IMMEDIATE {exp.Literal.string(sql).sql('trino')} USING {', '.join(literals)}"


def value(kind, text):
    """A value of an answer as Python's."""
    if text is None:
        return None
    if kind.startswith("timestamp"):
        return datetime.datetime.fromisoformat(text)
    if kind == "date":
        return datetime.date.fromisoformat(text)
    if kind in ("bigint", "integer"):
        return int(text)
    return {"true": True, "false": False}[text] if kind == "boolean" else text


def answered(table, folder, months, statements):
    """What Trino answers to each statement over the files in `bucket` of a folder: columns, types and rows, or an error."""
    write_metastore(table, folder, months)
    request = {
        "schema": SCHEMA,
        "catalog": {
            "hive.metastore": "file",
            "hive.metastore.catalog.dir": "local:///metastore",
            "hive.metastore.version-compatibility": "UNSAFE_ASSUME_COMPATIBILITY",
            "fs.local.enabled": "true",
            "local.location": str(folder),
            "hive.partition-projection-enabled": "true",
            # As in Athena, a projected partition without files is empty.
            "hive.ignore-absent-partitions": "true",
            # Trino's file metastore keeps none of a projected partition.
            "hive.table-statistics-enabled": "false",
        },
        "statements": statements,
    }
    (folder / "asked.json").write_text(json.dumps(request), encoding="utf-8")
    command = [java(), "--add-modules", "jdk.incubator.vector", "--sun-misc-unsafe-memory-access=allow"]
    command += ["--add-opens=java.base/java.nio=ALL-UNNAMED", "-Duser.timezone=UTC", "-cp", jars()]
    files = [str(folder / "asked.json"), str(folder / "answered.json")]
    done = subprocess.run([*command, str(HERE / "trino" / "Trino.java"), *files], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"Trino does not start and stop:\n{(done.stdout + done.stderr)[-3000:]}")
    return json.loads((folder / "answered.json").read_text(encoding="utf-8"))


def run(check, table, folder, queries, asked):
    """Every case with an answer on Trino; a query without its tenant must fail there."""
    cases = [(name, case) for name in queries for case in asked[name] if case.expected]
    statements = [executed(queries[name][1], case.literals) for name, case in cases]
    forgetful = []
    for name, (path, sql) in queries.items():
        condition = re.search(r"(events\.)?tenant_id = \?", sql)
        forgetful.append((path.name, executed(sql.replace(condition[0], "'' <> ?", 1), asked[name][0].literals)))
    months = table.projected("month", datetime.datetime.now(datetime.timezone.utc).date())
    answers = answered(table, folder, months, statements + [sql for _, sql in forgetful])
    for (_, case), answer in zip(cases, answers):
        if check("error" not in answer, f"{case} on Trino: {answer.get('error')}"):
            rows = [tuple(map(value, answer["types"], row)) for row in answer["rows"]]
            if not case.same(answer["columns"], rows):
                check(False, f"{case} on Trino: {case.difference(answer['columns'], rows)}")
    for (name, _), answer in zip(forgetful, answers[len(cases) :]):
        check("Injected projection" in answer.get("error", ""), f"{name} without a tenant fails on Trino")
    print(f"trino: {len(cases)} cases, {len(forgetful)} queries without a tenant refused")
