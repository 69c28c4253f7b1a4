-- Who failed or was denied, how often and at what, in a period. Most often first.
-- Parameters: tenant, first month, last month, from (inclusive), to (exclusive).
-- Cost: the columns named here.
SELECT
  actor_type,
  actor_id,
  max(actor_name) AS actor_name,
  count(*) FILTER (WHERE outcome = 'denied') AS denied,
  count(*) FILTER (WHERE outcome = 'failure') AS failed,
  array_join(array_sort(array_agg(DISTINCT action)), ', ') AS actions,
  array_join(array_sort(array_agg(DISTINCT reason) FILTER (WHERE reason IS NOT NULL)), ' / ') AS reasons,
  count(DISTINCT ip) AS addresses,
  min(occurred_at) AS first_at,
  max(occurred_at) AS last_at
FROM events
WHERE tenant_id = ?
  AND month BETWEEN ? AND ?
  AND occurred_at >= CAST(? AS timestamp)
  AND occurred_at < CAST(? AS timestamp)
  AND outcome IN ('failure', 'denied')
GROUP BY actor_type, actor_id
ORDER BY count(*) DESC, actor_type, actor_id
