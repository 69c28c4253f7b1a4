"""The same questions answered without SQL: from the leaves themselves, in plain Python.

Each answer takes the rows of a tenant's months and the query's own parameters. It reads no typed column, so that a
column that says something else shows as a difference. What is a pattern there is a comparison of words here.
"""

import collections
import datetime
import hashlib
import ipaddress
import json
import re


class Row:
    """A leaf and where it lies."""

    def __init__(self, keys, leaf_index, leaf):
        self.keys, self.leaf_index, self.leaf = keys, leaf_index, leaf
        self.event = json.loads(leaf)
        self.log = int(keys["log"])
        self.at = datetime.datetime.fromisoformat(self.event["occurred_at"].removesuffix("Z"))
        self.id, self.action, self.outcome = (self.event[name] for name in ("id", "action", "outcome"))
        self.words = [word for part in self.action.split(".") for word in part.split("_")]
        self.hash = hashlib.sha256(b"\0" + leaf).hexdigest()

    def get(self, *path):
        value = self.event
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def json(self, name):
        return member(self.event, name)

    def actor(self, *names):
        """Texts of the actor; one that is encrypted is an object in the leaf and nothing here."""
        found = (self.get("actor", name) for name in names)
        return tuple(value if isinstance(value, str) else None for value in found)

    def resource(self, *names):
        return tuple(self.get("resource", name) for name in names)

    @property
    def ip(self):
        return self.get("context", "ip")

    def begins(self, stems):
        return any(word.startswith(stem) for word in self.words for stem in stems)


def written(value):
    """JSON in one way of writing it."""
    return json.dumps(value, sort_keys=True)


def member(value, name):
    """A member as JSON. One that is null is the text `null`; one that is absent is None."""
    return written(value[name]) if name in value else None


def oldest_first(rows):
    return sorted(rows, key=lambda row: (row.at, row.id))


def newest_first(rows):
    return oldest_first(rows)[::-1]


def time(text):
    return datetime.datetime.fromisoformat(text)


def within(rows, since, until):
    return [row for row in rows if time(since) <= row.at < time(until)]


def last_where_null(value):
    """Sorts as SQL does here: null behind everything, text by its bytes."""
    return (value is None, (value or "").encode())


def record_history(rows, kind, id):
    return [
        (
            row.at,
            *row.actor("type", "id", "name", "email"),
            row.action,
            row.outcome,
            row.get("reason"),
            row.json("changes"),
            row.get("description"),
            row.ip,
            row.id,
            row.log,
            row.leaf_index,
            row.hash,
        )
        for row in oldest_first(rows)
        if row.resource("type", "id") == (kind, id)
    ]


def actor_activity(rows, actor, since, until):
    return [
        (
            row.at,
            row.action,
            row.outcome,
            row.get("reason"),
            *row.resource("type", "id", "name"),
            row.get("description"),
            row.ip,
            row.get("context", "user_agent"),
            row.get("context", "session_id"),
            row.id,
        )
        for row in newest_first(within(rows, since, until))
        if row.actor("id") == (actor,)
    ]


def access_granted(rows, since, until):
    gives = "grant privilege permission scope role admin owner member collaborator invit shar impersonat".split()
    takes = "delet remov revok declin disabl unshar expir".split()
    adds = lambda row: any(pair[0] == "add" and pair[1].startswith("user") for pair in zip(row.words, row.words[1:]))
    return [
        (
            row.at,
            row.action,
            *row.actor("type", "id", "name"),
            *row.resource("type", "id", "name"),
            row.json("related"),
            row.json("changes"),
            row.get("reason"),
            row.ip,
            row.id,
        )
        for row in oldest_first(within(rows, since, until))
        if row.outcome == "success" and (row.begins(gives) or adds(row)) and not row.begins(takes)
    ]


def failed_or_denied(rows, since, until):
    groups = collections.defaultdict(list)
    for row in within(rows, since, until):
        if row.outcome != "success":
            groups[row.actor("type", "id")].append(row)
    listed = lambda values, mark: mark.join(sorted({v for v in values if v is not None}, key=str.encode)) or None
    found = [
        (
            *actor,
            greatest(row.actor("name")[0] for row in group),
            sum(row.outcome == "denied" for row in group),
            sum(row.outcome == "failure" for row in group),
            listed((row.action for row in group), ", "),
            listed((row.get("reason") for row in group), " / "),
            len({row.ip for row in group} - {None}),
            min(row.at for row in group),
            max(row.at for row in group),
        )
        for actor, group in groups.items()
    ]
    return sorted(found, key=lambda row: (-row[3] - row[4], last_where_null(row[0]), last_where_null(row[1])))


def greatest(values):
    return max((value for value in values if value is not None), key=str.encode, default=None)


def is_login(row):
    words = row.words[:-1] if row.words[-1].startswith("succe") else row.words
    one = words[-1] in ("login", "signin", "loggedin", "signedin", "authenticated")
    two = words[-2:] in [[verb, "in"] for verb in ("log", "logged", "sign", "signed")]
    three = words[-2:] in [["session", verb] for verb in ("start", "started", "created")]
    return one or two or three


def network(text):
    if m := re.search(r"(?a)(\d{1,3}\.\d{1,3}\.\d{1,3})\.\d{1,3}$", text):
        return m[1]
    try:
        return ipaddress.IPv6Address(text).packed[:6].hex().upper()
    except ValueError:
        return text


def logins_from_new_networks(rows, since):
    seen, found = collections.defaultdict(list), []
    for row in oldest_first(rows):
        (actor,) = row.actor("id")
        if row.outcome != "success" or None in (actor, row.ip) or not is_login(row):
            continue
        known = seen[actor]
        if known and network(row.ip) not in known and row.at >= time(since):
            found.append(
                (
                    row.at,
                    *row.actor("id", "name", "email"),
                    row.action,
                    row.ip,
                    network(row.ip),
                    row.get("context", "user_agent"),
                    len(known),
                    row.id,
                )
            )
        known.append(network(row.ip))
    return found[::-1]


def support_access(rows, since, until):
    found = []
    for row in newest_first(within(rows, since, until)):
        parties = row.get("on_behalf_of")
        if row.actor("type") != ("support",) and parties is None:
            continue
        told = sorted(
            ((party.get("type"), party.get("id"), party.get("reason")) for party in parties or [{}]),
            key=lambda party: (last_where_null(party[0]), last_where_null(party[1])),
        )
        found += [
            (
                row.at,
                *row.actor("type", "id", "name"),
                row.action,
                row.outcome,
                *row.resource("type", "id"),
                *party,
                row.ip,
                row.id,
            )
            for party in told
        ]
    return found


def deletions(rows, since, until):
    stems = "delet destroy remov purg eras wip truncat uninstall".split()
    return [
        (
            row.at,
            row.action,
            row.outcome,
            row.get("reason"),
            *row.actor("type", "id", "name"),
            *row.resource("type", "id", "name"),
            row.ip,
            row.id,
        )
        for row in newest_first(within(rows, since, until))
        if row.begins(stems)
    ]


def exports(rows, since, until):
    stems = "export download takeout backup dump bulk clone copied print view read show".split()
    groups = collections.defaultdict(list)
    for row in within(rows, since, until):
        if row.outcome == "success" and row.begins(stems):
            groups[(row.at.date(), *row.actor("type", "id"), row.action)].append(row)
    found = [
        (
            day,
            kind,
            actor,
            greatest(row.actor("name")[0] for row in group),
            action,
            len(group),
            len({row.get("resource", "id") for row in group} - {None}),
            len({row.ip for row in group} - {None}),
            min(row.at for row in group),
            max(row.at for row in group),
        )
        for (day, kind, actor, action), group in groups.items()
    ]
    return sorted(
        found, key=lambda row: (-row[5], -row[0].toordinal(), *map(last_where_null, (row[1], row[2], row[4])))
    )


def field_changes(rows, path):
    return [
        (
            row.at,
            *row.actor("type", "id", "name"),
            row.action,
            row.outcome,
            *row.resource("type", "id", "name"),
            member(change, "before"),
            member(change, "after"),
            row.ip,
            row.id,
        )
        for row in newest_first(rows)
        for change in row.get("changes") or []
        if change["path"] == path
    ]


def leaf_hashes(rows, first, last):
    found, before = [], {}
    for row in sorted(rows, key=lambda row: (row.log, row.leaf_index)):
        if not int(first) <= row.leaf_index <= int(last):
            continue
        missing = row.leaf_index - before[row.log] - 1 if row.log in before else None
        before[row.log] = row.leaf_index
        found.append((row.log, row.leaf_index, row.id, row.hash, missing, True))
    return found


# Columns whose text is JSON, which may be written in more than one way.
JSON_COLUMNS = {"changes", "related", "before_value", "after_value"}
