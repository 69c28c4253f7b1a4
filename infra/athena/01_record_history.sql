-- Who changed this record, when, and from what to what. Oldest first.
-- Parameters: tenant, first month, last month, type of the record, its id.
-- Cost: the columns named here, and leaf only where the record may be.
-- leaf_hash is the one in the receipt that the sender of the event was given.
SELECT
  occurred_at,
  actor_type,
  actor_id,
  actor_name,
  actor_email,
  action,
  outcome,
  reason,
  json_format(json_extract(from_utf8(leaf), '$.changes')) AS changes,
  json_extract_scalar(from_utf8(leaf), '$.description') AS description,
  ip,
  id,
  log,
  leaf_index,
  lower(to_hex(sha256(concat(X'00', leaf)))) AS leaf_hash
FROM events
WHERE tenant_id = ?
  AND month BETWEEN ? AND ?
  AND resource_type = ?
  AND resource_id = ?
ORDER BY occurred_at, id
