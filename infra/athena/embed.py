#!/usr/bin/env python3
"""Writes the table and the named queries of analytics.yaml from columns.json and the NN_name.sql files beside this file.

The template must hold the texts themselves, since CloudFormation can't read files; nobody should have to copy them.
Everything below the marker is replaced. `--check` changes nothing and fails if something would change.
"""

import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
TEMPLATE = HERE.parent / "analytics.yaml"
MARKER = "  # ---- written by athena/embed.py ----\n"
BUCKET = "${InstallationName}-archive-${AWS::AccountId}-${AWS::Region}"
NAME = re.compile(r"(\d\d)_([a-z0-9_]+)\.sql")


def quoted(text):
    return json.dumps(text, ensure_ascii=False)


def located(text):
    """A location in the archive: the template knows the bucket, and the table's own variables stay."""
    return "!Sub " + quoted(text.replace("${", "${!").replace("<bucket>", BUCKET))


def columns(declared):
    return "".join(
        f"            - {{ Name: {c['name']}, Type: {c['type']}, Comment: {quoted(c['comment'])} }}\n" for c in declared
    )


def table():
    """The table, as it stands in the template."""
    given = json.loads((HERE / "columns.json").read_text(encoding="utf-8"))
    parameters = {"EXTERNAL": "TRUE", "classification": "parquet", **given["parameters"]}
    lines = "".join(
        f"          {key}: {located(value) if '<bucket>' in value else quoted(value)}\n" for key, value in parameters.items()
    )
    return (
        "  EventsTable:\n"
        "    Type: AWS::Glue::Table\n"
        "    Properties:\n"
        '      CatalogId: !Ref "AWS::AccountId"\n'
        "      DatabaseName: !Ref Database\n"
        "      TableInput:\n"
        f"        Name: {given['table']}\n"
        "        Description: One row for each archived event\n"
        "        TableType: EXTERNAL_TABLE\n"
        "        Parameters:\n"
        f"{lines}"
        "        PartitionKeys:\n"
        f"{columns(given['partition_keys']).replace('            - ', '          - ')}"
        "        StorageDescriptor:\n"
        f"          Location: {located(given['location'])}\n"
        f"          InputFormat: {given['input_format']}\n"
        f"          OutputFormat: {given['output_format']}\n"
        "          SerdeInfo:\n"
        f"            SerializationLibrary: {given['serde']}\n"
        "          Columns:\n"
        f"{columns(given['columns'])}"
    )


def query(path):
    """One named query, as it stands in the template. The first line of its comment says what it answers."""
    number, name = NAME.fullmatch(path.name).groups()
    sql = path.read_text(encoding="utf-8").rstrip("\n")
    first = sql.split("\n", 1)[0]
    if not first.startswith("-- "):
        raise SystemExit(f"{path.name}: begin with a comment that says what it answers")
    body = "".join(f"        {line}".rstrip() + "\n" for line in sql.split("\n"))
    return (
        f"  Query{number}:\n"
        "    Type: AWS::Athena::NamedQuery\n"
        "    Properties:\n"
        f'      Name: !Sub "${{InstallationName}} {number} {name}"\n'
        f"      Description: {quoted(first[3:])}\n"
        "      WorkGroup: !Ref WorkGroup\n"
        "      Database: !Ref Database\n"
        f"      QueryString: |\n{body}"
    )


def main():
    files = sorted(path for path in HERE.glob("*.sql") if NAME.fullmatch(path.name))
    old = TEMPLATE.read_text(encoding="utf-8")
    head, marker, _ = old.partition(MARKER)
    if not marker:
        raise SystemExit(f"{TEMPLATE.name} has no marker")
    new = head + marker + "".join("\n" + part for part in [table(), *map(query, files)])
    if new == old:
        return
    if "--check" in sys.argv[1:]:
        raise SystemExit(f"{TEMPLATE.name} is not what infra/athena says: run infra/athena/embed.py")
    TEMPLATE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
