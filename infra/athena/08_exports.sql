-- Who took data out or read it in bulk, how much on which day, in a period. The most first.
-- Parameters: tenant, first month, last month, from (inclusive), to (exclusive).
-- Cost: the columns named here.
SELECT
  CAST(occurred_at AS date) AS day,
  actor_type,
  actor_id,
  max(actor_name) AS actor_name,
  action,
  count(*) AS times,
  count(DISTINCT resource_id) AS records,
  count(DISTINCT ip) AS addresses,
  min(occurred_at) AS first_at,
  max(occurred_at) AS last_at
FROM events
WHERE tenant_id = ?
  AND month BETWEEN ? AND ?
  AND occurred_at >= CAST(? AS timestamp)
  AND occurred_at < CAST(? AS timestamp)
  AND outcome = 'success'
  AND regexp_like(
    action,
    '(^|[._])(export|download|takeout|backup|dump|bulk|clone|copied|print|view|read|show)'
  )
GROUP BY CAST(occurred_at AS date), actor_type, actor_id, action
ORDER BY times DESC, day DESC, actor_type, actor_id, action
