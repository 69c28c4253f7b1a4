#!/usr/bin/env python3
"""Asks Trino, which Athena's engine is made from, the queries that filters become.

`filters.py FOLDER` takes the archive in FOLDER/bucket/archive, reads a JSON list of `{"sql": …, "literals": […]}` from standard
input and prints a JSON list: of each query the leaf indexes it answers, in order, or a text that says why there are none.
It needs Java 25 and Maven.
"""

import datetime
import json
import pathlib
import sys

import athena
import trino

ROOT = pathlib.Path(__file__).resolve().parents[2]

folder = pathlib.Path(sys.argv[1])
ddl = (ROOT / "infra" / "athena" / "table.sql").read_text(encoding="utf-8")
table = athena.Table(ddl.replace("<bucket>", "bucket"))
months = table.projected("month", datetime.date.today())
statements = [trino.executed(query["sql"], query["literals"]) for query in json.load(sys.stdin)]
answers = []
for answer in trino.answered(table, folder, months, statements):
    if "error" in answer:
        answers.append(answer["error"])
    else:
        place = answer["columns"].index("leaf_index")
        answers.append([int(row[place]) for row in answer["rows"]])
json.dump(answers, sys.stdout)
