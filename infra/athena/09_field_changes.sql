-- Who changed this field, on which records, from what to what. Newest first.
-- Parameters: tenant, first month, last month, path of the field as a JSON pointer such as /role.
-- Cost: the columns named here, and leaf for all of these months, which is most of the bytes.
-- before_value and after_value are JSON: a text has quotes, null means emptied, nothing means not told.
SELECT
  events.occurred_at,
  events.actor_type,
  events.actor_id,
  events.actor_name,
  events.action,
  events.outcome,
  events.resource_type,
  events.resource_id,
  events.resource_name,
  json_format(json_extract(change.change, '$.before')) AS before_value,
  json_format(json_extract(change.change, '$.after')) AS after_value,
  events.ip,
  events.id
FROM events
CROSS JOIN UNNEST(CAST(json_extract(from_utf8(events.leaf), '$.changes') AS array(json))) AS change (change)
WHERE events.tenant_id = ?
  AND events.month BETWEEN ? AND ?
  AND json_extract_scalar(change.change, '$.path') = ?
ORDER BY events.occurred_at DESC, events.id DESC
