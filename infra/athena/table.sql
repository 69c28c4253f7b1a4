-- The table over the archive, as analytics.yaml makes it, for whoever makes it by hand.
-- Put the name of the archive bucket in place of <bucket>, which is there twice. The columns are those of columns.json.
CREATE EXTERNAL TABLE IF NOT EXISTS `events` (
  `leaf` binary COMMENT 'the record as canonical JSON (RFC 8785): the evidence, from which all other columns follow',
  `leaf_index` bigint COMMENT 'its place in the log, from 0',
  `id` string COMMENT 'UUIDv7, without the prefix evt_',
  `occurred_at` timestamp COMMENT 'when it happened, as its sender says, in UTC',
  `received_at` timestamp COMMENT 'when it was stored, in UTC',
  `action` string COMMENT 'what was done, as in invoice.deleted',
  `outcome` string COMMENT 'success, failure or denied',
  `reason` string COMMENT 'why it failed or was denied',
  `actor_type` string COMMENT 'user, api_key, service, system, ai_agent, support or anonymous',
  `actor_id` string COMMENT 'who did it: null only where it is encrypted',
  `actor_name` string COMMENT 'what the actor was called at that time',
  `actor_email` string COMMENT 'e-mail address of the actor at that time',
  `resource_type` string COMMENT 'the kind of record it was done to',
  `resource_id` string COMMENT 'which record',
  `resource_name` string COMMENT 'what the record was called at that time',
  `ip` string COMMENT 'the address it came from, as it was sent: not every sender sends an address',
  `user_agent` string COMMENT 'the program it came from',
  `key_id` string COMMENT 'the API key that sent it'
)
COMMENT 'One row for each archived event'
PARTITIONED BY (
  `tenant_id` string COMMENT 'whose: every query must name exactly one',
  `log` int COMMENT 'generation of the log: 0 unless one had to be ended',
  `month` string COMMENT 'the UTC month in which the first event of the file was sealed, as in 2026-05'
)
STORED AS PARQUET
LOCATION 's3://<bucket>/archive/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.tenant_id.type' = 'injected',
  'projection.log.type' = 'integer',
  'projection.log.range' = '0,9',
  'projection.month.type' = 'date',
  'projection.month.format' = 'yyyy-MM',
  'projection.month.range' = '2025-01,NOW+1MONTH',
  'projection.month.interval' = '1',
  'projection.month.interval.unit' = 'MONTHS',
  'storage.location.template' = 's3://<bucket>/archive/tenant_id=${tenant_id}/log=${log}/month=${month}/'
)
