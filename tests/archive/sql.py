#!/usr/bin/env python3
"""Asks DuckDB the queries that filters become, over files of the archive.

`sql.py ARCHIVE` reads a JSON list of `{"sql": …, "parameters": […]}` from standard input and prints a JSON list: of each query
the leaf indexes it answers, in order.
"""

import json
import sys

import duckdb

connection = duckdb.connect()
connection.execute(
    "CREATE VIEW events AS SELECT * FROM "
    f"read_parquet('{sys.argv[1]}/**/*.parquet', hive_partitioning = true, hive_types_autocast = false)"
)
answers = []
for query in json.load(sys.stdin):
    try:
        # Times with a zone would need one more package to be shown.
        indexes = f"SELECT leaf_index FROM ({query['sql']})"
        rows = connection.execute(indexes, query["parameters"]).fetchall()
    except duckdb.Error as error:
        sys.exit(f"{error}\n{query['sql']}\n{query['parameters']}")
    answers.append([row[0] for row in rows])
json.dump(answers, sys.stdout)
