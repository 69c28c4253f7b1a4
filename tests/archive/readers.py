#!/usr/bin/env python3
"""Checks that everybody who reads a file of the archive sees the same rows, with a filter and without.

`readers.py FILE...` asks DuckDB 1.x and 2.x, DataFusion and pyarrow for all rows, and for those with an id, an actor or a
resource that is there or is not; with `--java` also parquet-java, whose code Athena's reader is made from (it needs Maven
and Java 17). What is expected is read with pyarrow without any filter.

A row is written as its columns in order, each `-;` if null, else `LENGTH:BYTES`, times as milliseconds; an answer is the
number of its rows and the SHA-256 of them in leaf order.

Exit code 0 if all answers are the expected ones, 1 if not.
"""

import argparse
import collections
import hashlib
import pathlib
import subprocess
import sys
import tempfile

import pyarrow
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FILTERED = ("id", "actor_id", "resource_id")
ABSENT = {"id": "019de3f4-1f00-7abc-9def-0123456789ab", "actor_id": "nobody", "resource_id": "nothing"}


def written(table):
    """An answer as text."""
    plain = {pyarrow.string_view(): pyarrow.string(), pyarrow.binary_view(): pyarrow.binary()}
    fields = [pyarrow.field(field.name, plain.get(field.type, field.type)) for field in table.schema]
    table = table.cast(pyarrow.schema(fields)).sort_by("leaf_index")
    columns = []
    for column in table.columns:
        if pyarrow.types.is_timestamp(column.type):
            column = column.cast(pyarrow.timestamp("ms", "UTC")).cast(pyarrow.int64())
        columns.append(column.to_pylist())
    digest = hashlib.sha256()
    for row in zip(*columns):
        for value in row:
            if value is None:
                digest.update(b"-;")
                continue
            value = value if isinstance(value, bytes) else str(value).encode()
            digest.update(b"%d:" % len(value) + value)
    return f"{table.num_rows} {digest.hexdigest()}"


# ---- the readers: each answers for a file, a column (or `*`) and a text ----


def of_pyarrow(path, column, value):
    condition = None if column == "*" else pyarrow.dataset.field(column) == value
    return pyarrow.dataset.dataset(path, format="parquet").to_table(filter=condition)


def of_duckdb(path, column, value):
    import duckdb

    session = duckdb.connect()
    session.execute("SET TimeZone = 'UTC'")
    where = "" if column == "*" else f'WHERE "{column}" = ?'
    query = f"SELECT * FROM read_parquet('{path}') {where}"
    return session.sql(query, params=[] if column == "*" else [value]).to_arrow_table()


def of_datafusion(path, column, value):
    import datafusion

    # Its readers of page indexes and bloom filters are on by default; filters are pushed into the scan only if told.
    config = datafusion.SessionConfig({"datafusion.execution.parquet.pushdown_filters": "true"})
    session = datafusion.SessionContext(config)
    session.register_parquet("archive", path)
    where = "" if column == "*" else f"""WHERE "{column}" = '{value.replace("'", "''")}'"""
    return session.sql(f"SELECT * FROM archive {where}").to_arrow_table()


READERS = {"pyarrow": of_pyarrow, "duckdb": of_duckdb, "datafusion": of_datafusion}


def answer(reader, questions):
    for line in pathlib.Path(questions).read_text(encoding="utf-8").splitlines():
        try:
            print(written(READERS[reader](*line.split("\t"))))
        except Exception as e:  # A reader that fails is an answer, too.
            print(f"{type(e).__name__}: {str(e).splitlines()[0]}")


# ---- the questions ----


def questions_of(path):
    """What is asked of a file, with the answers, from all of its rows as pyarrow reads them."""
    rows = pyarrow.parquet.read_table(path, use_threads=False)
    asked = [("*", "", written(rows))]
    for column in FILTERED:
        values = rows.column(column).to_pylist()
        often = [value for value, _ in collections.Counter(v for v in values if v is not None).most_common()]
        picked = {often[0], often[len(often) // 2], often[-1]} if often else set()
        picked |= {v for v in (values[0], values[-1]) if v is not None}
        for value in sorted(picked) + [ABSENT[column]]:
            if "\t" in value or "\n" in value:
                continue
            matching = pyarrow.array([v == value for v in values])
            asked.append((column, value, written(rows.filter(matching))))
    return asked


def tool(name):
    return subprocess.run([ROOT / "tests" / "tools", name], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def java(folder, questions):
    """The command that asks parquet-java."""
    jars = ROOT / "target" / "parquet-java"
    if not (jars / "complete").exists():
        print("parquet-java: fetching its libraries (60 MB)", flush=True)
        fetch = ["mvn", "-q", "-B", "-f", HERE / "parquet-java" / "pom.xml", "dependency:copy-dependencies"]
        subprocess.run([*fetch, f"-DoutputDirectory={jars}"], check=True)
        (jars / "complete").touch()
    classes = pathlib.Path(folder) / "classes"
    source = HERE / "parquet-java" / "ReadRows.java"
    subprocess.run(["javac", "-cp", f"{jars}/*", "-d", classes, source], check=True)
    return ["java", "-cp", f"{jars}/*:{classes}", "ReadRows", questions]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--java", action="store_true", help="ask parquet-java, too")
    parser.add_argument("--reader", choices=READERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reader:
        return answer(options.reader, options.files[0])
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        asked = [(path, *rest) for path in options.files for rest in questions_of(path)]
        questions = pathlib.Path(folder) / "questions"
        questions.write_text("".join(f"{p}\t{c}\t{v}\n" for p, c, v, _ in asked), encoding="utf-8")
        ours, aws = tool("readers"), tool("aws")
        me = pathlib.Path(__file__)
        commands = {
            "DuckDB 1": [ours, me, "--reader", "duckdb", questions],
            "DuckDB 2": [aws, me, "--reader", "duckdb", questions],
            "DataFusion": [ours, me, "--reader", "datafusion", questions],
            "pyarrow": [ours, me, "--reader", "pyarrow", questions],
        }
        if options.java:
            commands["parquet-java"] = java(folder, questions)
        for reader, command in commands.items():
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            answers = done.stdout.splitlines()
            wrong = [(a, f) for a, f in zip(asked, answers) if a[3] != f]
            if done.returncode != 0 or len(answers) != len(asked):
                wrong.append((("all", "", "", len(asked)), f"{len(answers)} answers, exit code {done.returncode}"))
            for (path, column, value, expected), found in wrong:
                print(f"  FAILED  {reader}: {path}: {column} = {value!r}: expected {expected}, found {found}")
            failed += len(wrong)
            print(f"{reader}: {len(asked) - len(wrong)} of {len(asked)} answers on {len(options.files)} files are right")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
