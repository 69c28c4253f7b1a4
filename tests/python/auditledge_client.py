"""Uses every call of a published client; run as `auditledge_client.py BASE_URL KEY` with a key of `org_demo`."""

import csv
import datetime
import io
import sys

from auditledge import AuditLedge, AuditLedgeError

base, key = sys.argv[1:]
client = AuditLedge(key, base_url=base)
now = datetime.datetime.now(datetime.timezone.utc)
yesterday = now - datetime.timedelta(days=1)
old = now - datetime.timedelta(days=40)


def refused(call, *parts):
    try:
        call()
    except AuditLedgeError as error:
        assert all(part in str(error) for part in parts), str(error)
        return
    raise AssertionError("the call was not refused")


# log
made = client.log({
    "actor": {"id": "user_1", "name": "Alice Ärmel", "email": "alice@example.com"},
    "action": "invoice.deleted",
    "resource": {"type": "invoice", "id": "inv_1", "name": "=HYPERLINK(\"x\")"},
    "organization_id": "org_demo",
    "metadata": {"ip": "192.0.2.1", "note": "a, \"b\"\nc"},
})
assert made["success"] is True and made["event"]["id"] == made["id"], made
assert made["event"]["organization_id"] == "org_demo", made
assert made["event"]["timestamp"].endswith("Z"), made
for number, name in enumerate(["Bob Brown", "Carol", "alicia"]):
    client.log({
        "actor": {"id": f"user_{number + 2}", "name": name},
        "action": ["invoice.created", "user.login_failed", "export.download"][number],
        "resource": {"type": ["invoice", "user", "export"][number], "id": f"r_{number}"},
        "timestamp": yesterday.isoformat(),
    })
client.log({
    "actor": {"id": "user_9"},
    "action": "invoice.archived",
    "resource": {"type": "invoice", "id": "inv_9"},
    "timestamp": old.isoformat(),
})

# query
everything = client.query()
assert everything["total"] == len(everything["events"]) == 5, everything
assert (everything["limit"], everything["offset"]) == (50, 0), everything
assert everything["events"][0]["id"] == made["id"], everything


def found(**filters):
    answer = client.query(filters)
    assert answer["total"] == len(answer["events"]), answer
    return sorted(event["action"] for event in answer["events"])


assert found(organization_id="org_demo", actor_id="user_1") == ["invoice.deleted"]
assert found(actor_name="ALI") == ["export.download", "invoice.deleted"]
assert found(actor_name="ärm") == ["invoice.deleted"]
assert found(action="invoice") == ["invoice.archived", "invoice.created", "invoice.deleted"]
assert found(action="LOGIN") == ["user.login_failed"]
assert found(action="invoice.created") == ["invoice.created"]
assert found(resource_type="export") == ["export.download"]
assert found(search="bob") == ["invoice.created"]
assert found(search="b\"\nC") == ["invoice.deleted"]
assert found(start_date=now.date().isoformat()) == ["invoice.deleted"]
assert found(end_date=old.date().isoformat()) == ["invoice.archived"]
day = yesterday.date().isoformat()
assert len(found(start_date=day, end_date=day)) == 3
assert found(start_date=old.isoformat(), end_date=old.isoformat()) == ["invoice.archived"]
assert found(start_date=old.strftime("%Y-%m-%dT00:00:00Z"), end_date=old.strftime("%Y-%m-%dT23:59:59Z"),
             actor_id="user_9", action="invoice", resource_type="invoice", search="inv_9") == ["invoice.archived"]
assert found(actor_id="nobody") == []
pages = [client.query({"limit": 2, "offset": offset}) for offset in (0, 2, 4, 6)]
assert [len(page["events"]) for page in pages] == [2, 2, 1, 0], pages
assert all(page["total"] == 5 and page["limit"] == 2 for page in pages), pages
assert [page["offset"] for page in pages] == [0, 2, 4, 6], pages
ids = [event["id"] for page in pages for event in page["events"]]
assert ids == [event["id"] for event in everything["events"]], ids

# get
got = client.get(made["id"])
assert got["id"] == made["id"] and got["action"] == "invoice.deleted", got
assert got["organization_id"] == "org_demo" and got["timestamp"] == made["event"]["timestamp"], got
assert got["actor"]["name"] == "Alice Ärmel" and got["metadata"]["note"] == "a, \"b\"\nc", got

# export
listed = client.export()
assert isinstance(listed, list) and [event["id"] for event in listed] == ids, listed
assert len(client.export({"format": "json", "organization_id": "org_demo", "action": "invoice"})) == 3
text = client.export({"format": "csv", "organization_id": "org_demo"})
rows = list(csv.DictReader(io.StringIO(text, newline="")))
# The exports before are events of the log's own by now.
rows = [row for row in rows if not row["action"].startswith("stele.")]
assert [row["id"] for row in rows] == ids, rows
assert rows[0]["resource_name"] == "'=HYPERLINK(\"x\")", rows[0]
assert rows[0]["actor_name"] == "Alice Ärmel" and "\\n" in rows[0]["metadata"], rows[0]
assert list(rows[0])[:4] == ["id", "occurred_at", "received_at", "tenant_id"], rows[0]
only = client.export({"format": "csv", "actor_name": "carol", "start_date": day, "end_date": day})
assert len(list(csv.DictReader(io.StringIO(only, newline="")))) == 1, only

# usage
usage = client.usage()
assert usage["events_this_month"] == 5 + 4 and usage["retention_days"] >= 90, usage
assert "plan" in usage and "events_limit" in usage, usage

# errors
refused(lambda: client.get("evt_none"), "no such event")
refused(lambda: client.query({"actorid": "user_1"}), "`actorid`", "`actor_id`")
refused(lambda: client.query({"organization_id": "org_other"}), "another tenant")
refused(lambda: client.log({"actor": {"id": "u"}, "action": "userDeleted",
                            "resource": {"type": "user", "id": "1"}}), "/action", "`userDeleted`")
refused(lambda: AuditLedge("wrong", base_url=base).usage(), "no such API key")
print("all checks passed")
