-- What support staff did, and who else acted on behalf of somebody, in a period. Newest first.
-- Parameters: tenant, first month, last month, from (inclusive), to (exclusive).
-- Cost: the columns named here, and leaf for all of the period, which is most of the bytes.
-- There is one row for each party that was acted for.
WITH acted AS (
  SELECT
    occurred_at,
    id,
    actor_type,
    actor_id,
    actor_name,
    action,
    outcome,
    resource_type,
    resource_id,
    ip,
    json_extract(from_utf8(leaf), '$.on_behalf_of') AS on_behalf_of
  FROM events
  WHERE tenant_id = ?
    AND month BETWEEN ? AND ?
    AND occurred_at >= CAST(? AS timestamp)
    AND occurred_at < CAST(? AS timestamp)
)
SELECT
  acted.occurred_at,
  acted.actor_type,
  acted.actor_id,
  acted.actor_name,
  acted.action,
  acted.outcome,
  acted.resource_type,
  acted.resource_id,
  json_extract_scalar(party.party, '$.type') AS for_type,
  json_extract_scalar(party.party, '$.id') AS for_id,
  json_extract_scalar(party.party, '$.reason') AS for_reason,
  acted.ip,
  acted.id
FROM acted
LEFT JOIN UNNEST(CAST(acted.on_behalf_of AS array(json))) AS party (party) ON TRUE
WHERE acted.actor_type = 'support'
  OR acted.on_behalf_of IS NOT NULL
ORDER BY acted.occurred_at DESC, acted.id DESC, for_type, for_id
