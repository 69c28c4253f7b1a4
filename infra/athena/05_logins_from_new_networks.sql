-- Who logged in from a network they had never logged in from before. Newest first.
-- Parameters: tenant, first month, last month, since when to report.
-- Cost: the columns named here.
-- What is known of an actor begins with the first month. The very first login of an actor is not reported.
-- A network is an IPv4 /24 or an IPv6 /48. A text that is no address stands for itself.
WITH logins AS (
  SELECT
    occurred_at,
    id,
    actor_id,
    actor_name,
    actor_email,
    action,
    ip,
    user_agent,
    coalesce(
      regexp_extract(ip, '([0-9]{1,3}[.][0-9]{1,3}[.][0-9]{1,3})[.][0-9]{1,3}$', 1),
      substr(to_hex(CAST(TRY_CAST(ip AS ipaddress) AS varbinary)), 1, 12),
      ip
    ) AS network
  FROM events
  WHERE tenant_id = ?
    AND month BETWEEN ? AND ?
    AND outcome = 'success'
    AND actor_id IS NOT NULL
    AND ip IS NOT NULL
    AND regexp_like(
      action,
      '(^|[._])((log|logged|sign|signed)_?in|authenticated|session[._](start|started|created))(_succe[a-z]*)?$'
    )
),
numbered AS (
  SELECT
    occurred_at,
    id,
    actor_id,
    actor_name,
    actor_email,
    action,
    ip,
    user_agent,
    network,
    row_number() OVER (PARTITION BY actor_id ORDER BY occurred_at, id) AS nth,
    row_number() OVER (PARTITION BY actor_id, network ORDER BY occurred_at, id) AS nth_from_network
  FROM logins
)
SELECT
  occurred_at,
  actor_id,
  actor_name,
  actor_email,
  action,
  ip,
  network,
  user_agent,
  nth - 1 AS logins_before,
  id
FROM numbered
WHERE nth_from_network = 1
  AND nth > 1
  AND occurred_at >= CAST(? AS timestamp)
ORDER BY occurred_at DESC, id DESC
