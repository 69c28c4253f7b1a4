-- What was deleted, by whom, in a period, attempts that failed or were denied included. Newest first.
-- Parameters: tenant, first month, last month, from (inclusive), to (exclusive).
-- Cost: the columns named here.
SELECT
  occurred_at,
  action,
  outcome,
  reason,
  actor_type,
  actor_id,
  actor_name,
  resource_type,
  resource_id,
  resource_name,
  ip,
  id
FROM events
WHERE tenant_id = ?
  AND month BETWEEN ? AND ?
  AND occurred_at >= CAST(? AS timestamp)
  AND occurred_at < CAST(? AS timestamp)
  AND regexp_like(action, '(^|[._])(delet|destroy|remov|purg|eras|wip|truncat|uninstall)')
ORDER BY occurred_at DESC, id DESC
