-- What one actor did in a period. Newest first.
-- Parameters: tenant, first month, last month, id of the actor, from (inclusive), to (exclusive).
-- Cost: the columns named here, and leaf only where the actor may be.
SELECT
  occurred_at,
  action,
  outcome,
  reason,
  resource_type,
  resource_id,
  resource_name,
  json_extract_scalar(from_utf8(leaf), '$.description') AS description,
  ip,
  user_agent,
  json_extract_scalar(from_utf8(leaf), '$.context.session_id') AS session_id,
  id
FROM events
WHERE tenant_id = ?
  AND month BETWEEN ? AND ?
  AND actor_id = ?
  AND occurred_at >= CAST(? AS timestamp)
  AND occurred_at < CAST(? AS timestamp)
ORDER BY occurred_at DESC, id DESC
