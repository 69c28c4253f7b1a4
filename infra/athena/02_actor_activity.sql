-- What one actor did in a period. Newest first.
-- Parameters: tenant, first month, last month, id of the actor, from (inclusive), to (exclusive).
-- Cost: the columns named here.
SELECT
  occurred_at,
  action,
  outcome,
  reason,
  resource_type,
  resource_id,
  resource_name,
  description,
  ip,
  user_agent,
  session_id,
  id
FROM events
WHERE tenant_id = ?
  AND month BETWEEN ? AND ?
  AND actor_id = ?
  AND occurred_at >= CAST(? AS timestamp)
  AND occurred_at < CAST(? AS timestamp)
ORDER BY occurred_at DESC, id DESC
