-- Who was given a role, a permission or a membership, by whom, in a period. Oldest first.
-- Parameters: tenant, first month, last month, from (inclusive), to (exclusive).
-- Cost: the columns named here, and leaf only where something may match.
-- Your apps name the actions: extend the two patterns by your own words.
SELECT
  occurred_at,
  action,
  actor_type,
  actor_id,
  actor_name,
  resource_type,
  resource_id,
  resource_name,
  json_format(json_extract(from_utf8(leaf), '$.related')) AS related,
  json_format(json_extract(from_utf8(leaf), '$.changes')) AS changes,
  reason,
  ip,
  id
FROM events
WHERE tenant_id = ?
  AND month BETWEEN ? AND ?
  AND occurred_at >= CAST(? AS timestamp)
  AND occurred_at < CAST(? AS timestamp)
  AND outcome = 'success'
  AND regexp_like(
    action,
    '(^|[._])(grant|privilege|permission|scope|role|admin|owner|member|collaborator|invit|shar|impersonat|add_user)'
  )
  AND NOT regexp_like(action, '(^|[._])(delet|remov|revok|declin|disabl|unshar|expir)')
ORDER BY occurred_at, id
