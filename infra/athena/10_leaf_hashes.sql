-- Whether the evidence is intact: the hash of every leaf from its stored bytes. In leaf order.
-- Parameters: tenant, first month, last month, first leaf index, last leaf index.
-- Cost: all columns of the leaves asked for.
-- leaf_hash (RFC 6962: SHA-256 of a zero byte and the leaf) must be the one in the receipt, and those of all leaves
-- of a log must grow the tree of its signed checkpoint. missing_before must be 0 in all rows but the first of a log.
-- columns_agree must be true: no column says anything but its leaf.
WITH leaves AS (
  SELECT
    log,
    leaf_index,
    id,
    lower(to_hex(sha256(concat(X'00', leaf)))) AS leaf_hash,
    leaf_index - lag(leaf_index) OVER (PARTITION BY log ORDER BY leaf_index) - 1 AS missing_before,
    occurred_at,
    received_at,
    ARRAY[
      tenant_id, id, action, outcome, reason, actor_type, actor_id, actor_name, actor_email, resource_type,
      resource_id, resource_name, ip, user_agent, key_id
    ] AS texts,
    from_utf8(leaf) AS record
  FROM events
  WHERE tenant_id = ?
    AND month BETWEEN ? AND ?
    AND leaf_index BETWEEN ? AND ?
)
SELECT
  log,
  leaf_index,
  id,
  leaf_hash,
  missing_before,
  texts IS NOT DISTINCT FROM ARRAY[
    json_extract_scalar(record, '$.tenant_id'),
    json_extract_scalar(record, '$.id'),
    json_extract_scalar(record, '$.action'),
    json_extract_scalar(record, '$.outcome'),
    json_extract_scalar(record, '$.reason'),
    json_extract_scalar(record, '$.actor.type'),
    json_extract_scalar(record, '$.actor.id'),
    json_extract_scalar(record, '$.actor.name'),
    json_extract_scalar(record, '$.actor.email'),
    json_extract_scalar(record, '$.resource.type'),
    json_extract_scalar(record, '$.resource.id'),
    json_extract_scalar(record, '$.resource.name'),
    json_extract_scalar(record, '$.context.ip'),
    json_extract_scalar(record, '$.context.user_agent'),
    json_extract_scalar(record, '$.key_id')
  ]
  AND occurred_at = CAST(replace(rtrim(json_extract_scalar(record, '$.occurred_at'), 'Z'), 'T', ' ') AS timestamp)
  AND received_at = CAST(replace(rtrim(json_extract_scalar(record, '$.received_at'), 'Z'), 'T', ' ') AS timestamp)
  AS columns_agree
FROM leaves
ORDER BY log, leaf_index
