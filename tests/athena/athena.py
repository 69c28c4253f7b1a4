"""What Athena does with a statement, as far as it matters here: partition projection (an injected `tenant_id` above
all), execution parameters, and the statement itself, translated by sqlglot and run by DuckDB over the files of the
projected partitions.

It is a stand-in. What it takes from AWS's documentation: only the projected locations are read; a query that does not
fix an injected column to one value fails; a location without files is empty; `?` stands in WHERE only.
"""

import datetime
import functools
import ipaddress
import os
import re

import duckdb
import sqlglot
from sqlglot import TokenType, exp

STRICT = sqlglot.ErrorLevel.RAISE
# Hive's type in the table, the type it is in a query, and the Parquet column it may be read from: physical type and
# annotation. Athena's timestamps have three decimals, so that no other unit fits.
TYPES = {
    "binary": ("BLOB", ("BYTE_ARRAY", "None")),
    "bigint": ("BIGINT", ("INT64", "None")),
    "int": ("INTEGER", None),
    "string": ("VARCHAR", ("BYTE_ARRAY", "String")),
    "timestamp": ("TIMESTAMP", ("INT64", "Timestamp(isAdjustedToUTC=true, timeUnit=milliseconds")),
}


class Refused(Exception):
    """Athena would not run this."""


@functools.cache
def parse(sql):
    """The one statement in a text. Each `?` is numbered by its place in the text, which a tree does not keep."""
    try:
        sqlglot.parse(sql, dialect="athena", error_level=STRICT)
        marks = [t for t in sqlglot.tokenize(sql, dialect="athena") if t.token_type == TokenType.PLACEHOLDER]
        for number, mark in reversed(list(enumerate(marks))):
            sql = f"{sql[: mark.start]}:p{number}{sql[mark.end + 1 :]}"
        statements = sqlglot.parse(sql, dialect="athena", error_level=STRICT)
    except sqlglot.errors.SqlglotError as e:
        raise Refused(f"it does not parse: {e}") from e
    if len(statements) != 1 or isinstance(statements[0], exp.Command):
        raise Refused(f"{len(statements)} statements, or one that is not understood")
    return statements[0]


class Table:
    """A table's definition, read from its DDL."""

    def __init__(self, ddl):
        create = parse(ddl)
        if not isinstance(create, exp.Create) or not isinstance(create.this, exp.Schema):
            raise Refused("it is not CREATE TABLE with columns")
        self.name = create.this.this.name
        self.columns = [described(column) for column in create.this.expressions]
        self.partition_keys, self.parameters, self.location, self.format = [], {}, None, None
        for property in create.args["properties"].expressions:
            match property:
                case exp.PartitionedByProperty():
                    self.partition_keys = [described(column) for column in property.this.expressions]
                case exp.LocationProperty():
                    self.location = property.this.name
                case exp.FileFormatProperty():
                    self.format = property.this.name.upper()
                case exp.ExternalProperty() | exp.SchemaCommentProperty():
                    pass
                case exp.Property():
                    self.parameters[property.this.name] = property.args["value"].name
                case other:
                    raise Refused(f"unknown property {other!r}")

    def projected(self, key, today):
        """All values a key can have; None for an injected one."""
        setting = lambda name: self.parameters[f"projection.{key}.{name}"]
        match setting("type"):
            case "injected":
                return None
            case "integer":
                low, high = map(int, setting("range").split(","))
                return [str(n) for n in range(low, high + 1)]
            case "date":
                if (setting("format"), setting("interval"), setting("interval.unit")) != ("yyyy-MM", "1", "MONTHS"):
                    raise Refused("only single months are understood here")
                low, high = (month(bound, today) for bound in setting("range").split(","))
                return [f"{n // 12:04}-{n % 12 + 1:02}" for n in range(low, high + 1)]
            case other:
                raise Refused(f"unknown projection {other}")

    def partitions(self, bounds, today):
        """Keys and location of every partition the bounds leave."""
        found = [{}]
        for name, _, _ in self.partition_keys:
            values = self.projected(name, today)
            allowed = bounds.get(name, {})
            if values is None:
                if "=" not in allowed:
                    raise Refused(f"`{name}` is injected, and the query does not say which one")
                values = [allowed["="]]
            keep = lambda v: ("=" not in allowed or v == allowed["="]) and (
                "between" not in allowed or allowed["between"][0] <= v <= allowed["between"][1]
            )
            found = [{**keys, name: value} for keys in found for value in values if keep(value)]
        template = self.parameters["storage.location.template"]
        if not template.endswith("/"):
            raise Refused("the template of locations does not end in /")
        return [(keys, re.sub(r"\$\{(\w+)\}", lambda m: keys[m[1]], template)) for keys in found]


def described(column):
    """Name, type and comment of a column's definition."""
    comment = column.find(exp.CommentColumnConstraint)
    hive = column.kind.sql("hive").lower()
    return column.name, hive, comment.this.name if comment else None


def month(bound, today):
    """A bound of a projection as a number of months: `2025-01`, `NOW`, `NOW+1MONTH`."""
    if m := re.fullmatch(r"(\d{4})-(\d\d)", bound):
        return int(m[1]) * 12 + int(m[2]) - 1
    if m := re.fullmatch(r"NOW(?:([+-]\d+)MONTHS?)?", bound):
        return today.year * 12 + today.month - 1 + int(m[1] or 0)
    raise Refused(f"`{bound}` is no month")


def given(statement, parameters):
    """The parameters a statement takes, by name. Each is given as a literal, as Athena takes it: a text has quotes."""
    found = {}
    for place in statement.find_all(exp.Placeholder):
        if place.find_ancestor(exp.Where, exp.Select).key != "where":
            raise Refused("a parameter outside of WHERE")
        number = int(place.name[1:])
        if number >= len(parameters):
            raise Refused(f"there is no parameter {number + 1}")
        found[place.name] = literal(parameters[number])
    return found


@functools.cache
def literal(text):
    """The value of a literal."""
    value = sqlglot.parse_one(text, dialect="athena", error_level=STRICT)
    if not isinstance(value, exp.Literal):
        raise Refused(f"`{text}` is no literal")
    return value.name if value.is_string else int(value.name)


def conjuncts(select):
    """The conditions that all rows of a SELECT must meet."""
    where = select.args.get("where")
    return list(where.this.flatten()) if where and isinstance(where.this, exp.And) else [where.this] if where else []


def bounds(statement, table, parameters):
    """What each reading of the table says of its partition keys: `=` one value, `between` two. All must say the same,
    since they share one set of files here. Only what is known before anything is read counts as a value."""
    keys = {name for name, _, _ in table.partition_keys}

    def value(node):
        return parameters[node.name] if isinstance(node, exp.Placeholder) else node.name

    def known(*nodes):
        return all(isinstance(node, (exp.Literal, exp.Placeholder)) for node in nodes)

    readings = []
    for source in statement.find_all(exp.Table):
        if source.name != table.name:
            continue
        found = {}
        for condition in conjuncts(source.find_ancestor(exp.Select)):
            column = condition.this if isinstance(condition, (exp.EQ, exp.Between)) else None
            if not isinstance(column, exp.Column) or column.name not in keys:
                continue
            if column.table not in ("", source.alias_or_name):
                continue
            if isinstance(condition, exp.EQ) and known(condition.expression):
                found.setdefault(column.name, {})["="] = value(condition.expression)
            if isinstance(condition, exp.Between):
                ends = (condition.args["low"], condition.args["high"])
                if known(*ends):
                    found.setdefault(column.name, {})["between"] = tuple(map(value, ends))
        readings.append(found)
    if not readings:
        raise Refused(f"it does not read `{table.name}`")
    if any(reading != readings[0] for reading in readings):
        raise Refused("readings of the table differ in their partitions")
    return readings[0]


def ipaddress_bytes(text):
    """Trino's CAST(TRY_CAST(text AS ipaddress) AS varbinary): sixteen bytes, or null for what is no address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def translated(statement):
    """The statement in DuckDB's language."""

    def ours(node):
        if isinstance(node, exp.Cast) and node.to.sql("athena").upper() == "VARBINARY":
            inner = node.this
            if isinstance(inner, exp.TryCast) and inner.to.sql("athena").upper() == "IPADDRESS":
                return exp.Anonymous(this="ipaddress_bytes", expressions=[inner.this])
        # Where nothing matches Trino answers null, DuckDB an empty text.
        if isinstance(node, exp.RegexpExtract):
            return exp.func("NULLIF", node.copy(), exp.Literal.string(""), dialect="duckdb")
        # Where there is an object or a list Trino answers null, DuckDB its text.
        if isinstance(node, exp.JSONExtractScalar):
            return exp.Anonymous(this="json_scalar", expressions=[node.this, node.expression])
        return node

    return statement.transform(ours).sql("duckdb", unsupported_level=STRICT, comments=False)


class Athena:
    """One table over a folder that stands for the bucket."""

    def __init__(self, table, bucket, folder, today=None):
        self.table, self.bucket, self.folder = table, f"s3://{bucket}/", folder
        self.today = today or datetime.datetime.now(datetime.timezone.utc).date()
        self.translations = {}
        self.db = duckdb.connect()
        # DuckDB has no addresses of its own; those of the rows at hand are looked up.
        self.db.execute("CREATE TABLE addresses (text VARCHAR, bytes BLOB)")
        self.db.execute("CREATE MACRO ipaddress_bytes(t) AS (SELECT bytes FROM addresses WHERE text = t)")
        self.db.execute(
            "CREATE MACRO json_scalar(j, p) AS"
            " CASE WHEN json_type(j, p) NOT IN ('OBJECT', 'ARRAY') THEN json_extract_string(j, p) END"
        )

    def files(self, partitions):
        """The files of partitions, each with the keys its path gives it."""
        found = []
        for keys, location in partitions:
            if not location.startswith(self.bucket):
                raise Refused(f"{location} is not in the bucket")
            folder = os.path.join(self.folder, location.removeprefix(self.bucket))
            if os.path.isdir(folder):
                found += [(keys, os.path.join(folder, name)) for name in sorted(os.listdir(folder))]
        # Backwards, so that no query is in order by chance.
        return found[::-1]

    def rows(self, statement, parameters):
        """Runs a text, or a statement that was made from one; returns the names of its columns and its rows."""
        if isinstance(statement, str):
            statement = parse(statement)
            if len(given(statement, parameters)) != len(parameters):
                raise Refused(f"{len(parameters)} parameters are too many")
        parameters = given(statement, parameters)
        files = self.files(self.table.partitions(bounds(statement, self.table, parameters), self.today))
        duck = lambda hive: TYPES[hive][0]
        # A time is an instant in the file, and UTC without a zone in Athena, whatever zone this machine has.
        stored = lambda name, hive: f'make_timestamp(epoch_us("{name}"))' if hive == "timestamp" else f'"{name}"'
        columns = [f'CAST({stored(name, hive)} AS {duck(hive)}) AS "{name}"' for name, hive, _ in self.table.columns]
        parts = [
            "SELECT "
            + ", ".join(
                columns + [f"CAST('{keys[n]}' AS {duck(hive)}) AS \"{n}\"" for n, hive, _ in self.table.partition_keys]
            )
            + f" FROM read_parquet('{path}', hive_partitioning = false)"
            for keys, path in files
        ]
        if not parts:
            everything = self.table.columns + self.table.partition_keys
            parts = ["SELECT " + ", ".join(f'CAST(NULL AS {duck(h)}) AS "{n}"' for n, h, _ in everything) + " LIMIT 0"]
        self.db.execute(f'CREATE OR REPLACE TEMP VIEW "{self.table.name}" AS ' + " UNION ALL ".join(parts))
        if id(statement) not in self.translations:
            # Kept with its statement, so that no other one gets its identity.
            self.translations[id(statement)] = statement, translated(statement)
        _, sql = self.translations[id(statement)]
        if "ipaddress_bytes" in sql.lower():
            texts = self.db.execute(f'SELECT DISTINCT ip FROM "{self.table.name}" WHERE ip IS NOT NULL').fetchall()
            self.db.execute("DELETE FROM addresses")
            if texts:
                self.db.executemany("INSERT INTO addresses VALUES (?, ?)", [(t, ipaddress_bytes(t)) for (t,) in texts])
        result = self.db.execute(sql, parameters)
        return [column[0] for column in result.description], result.fetchall()
