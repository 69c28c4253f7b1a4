-- Recomputes the root of a log from its Parquet files with DuckDB alone, and compares it with a signed checkpoint. Run it in the
-- write-once folder (or a copy of the bucket), with the tenant and the checkpoint's file set first:
--   duckdb -c "SET VARIABLE files='archive/tenant_id=org_demo/**/*.parquet'; SET VARIABLE checkpoint='saved.txt'; .read root.sql"
-- It needs every leaf of the log up to that size: files of the archive, segments, or both. The signature of the checkpoint is not
-- checked here: any C2SP tool does that.

CREATE OR REPLACE TEMP TABLE checkpoint AS
SELECT CAST(string_split(content, chr(10))[2] AS UBIGINT) AS size,
       lower(hex(from_base64(string_split(content, chr(10))[3]))) AS root
FROM read_text(getvariable('checkpoint'));

-- RFC 6962: the hash of a leaf is SHA-256(0x00 || leaf). A leaf that is in two files (a segment and the archive) counts
-- once, if both say the same; if they don't, there is one leaf too many.
CREATE OR REPLACE TEMP TABLE level AS
SELECT DISTINCT leaf_index::UBIGINT AS i, unhex(sha256('\x00'::BLOB || leaf)) AS h
FROM read_parquet(getvariable('files'), union_by_name = true)
WHERE leaf_index < (SELECT size FROM checkpoint);

CREATE OR REPLACE TEMP TABLE counted AS SELECT count(*) AS leaves, max(i) + 1 AS "end" FROM level;

-- The hash of a node is SHA-256(0x01 || left || right); a node without a sibling is carried up. Forty levels are enough for
-- a million million leaves.
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;
CREATE OR REPLACE TEMP TABLE level AS SELECT i // 2 AS i, CASE WHEN count(*) = 2 THEN unhex(sha256('\x01'::BLOB || min_by(h, i) || max_by(h, i))) ELSE any_value(h) END AS h FROM level GROUP BY i // 2;

SELECT 'the root of the leaves is that of the checkpoint' AS check,
       CASE WHEN leaves = size AND "end" = size AND lower(hex(h)) = root THEN 'ok' ELSE 'FAILED' END AS result,
       leaves AS events
FROM level, counted, checkpoint;
