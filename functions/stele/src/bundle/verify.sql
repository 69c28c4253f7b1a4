-- Checks an unpacked evidence bundle with DuckDB alone. Run it in the folder it lies in:
--   duckdb -c ".read verify.sql"
-- Every line it prints must say `ok`. It does not check the signature of checkpoint.txt.

-- What the checkpoint commits to: its first line is the log, its second the size, its third the root in base64.
CREATE TEMP TABLE checkpoint AS
SELECT string_split(content, chr(10))[1] AS origin, CAST(string_split(content, chr(10))[2] AS UBIGINT) AS size,
       lower(hex(from_base64(string_split(content, chr(10))[3]))) AS root
FROM read_text('checkpoint.txt');

-- The hash of a leaf is SHA-256(0x00 || leaf).
CREATE TEMP TABLE event AS
SELECT leaf_index, id, occurred_at, received_at, action, outcome, actor_type, actor_id, actor_name, resource_type,
       resource_id, resource_name, decode(leaf) AS leaf, proof, sha256('\x00'::BLOB || leaf) AS leaf_hash
FROM 'events.parquet';

-- The audit path (RFC 9162, 2.1.3.2). `fn` is the node's index on its level, `sn` that of the last node there; a node is hashed as
-- SHA-256(0x01 || left || right).
CREATE TEMP TABLE folded AS
WITH RECURSIVE walk(leaf_index, proof, step, fn, sn, hash) AS (
  SELECT leaf_index, proof, 0::BIGINT, leaf_index::UBIGINT, (size - 1)::UBIGINT, leaf_hash FROM event, checkpoint
  UNION ALL
  SELECT leaf_index, proof, step + 1,
         CASE WHEN fn % 2 = 1 OR fn <> sn THEN fn // 2 ELSE fn >> (lone + 1) END,
         CASE WHEN fn % 2 = 1 OR fn <> sn THEN sn // 2 ELSE sn >> (lone + 1) END,
         CASE WHEN fn % 2 = 1 OR fn = sn
              THEN sha256('\x01'::BLOB || proof[step + 1] || unhex(hash))
              ELSE sha256('\x01'::BLOB || unhex(hash) || proof[step + 1]) END
  FROM (SELECT *,
               -- How often the last node of a level is carried up without a sibling.
               CASE WHEN fn = sn AND fn % 2 = 0 AND fn > 0 THEN bit_count(xor(fn, fn - 1)) - 1 ELSE 0 END AS lone
        FROM walk)
  WHERE step < len(proof)
)
SELECT leaf_index, hash, sn FROM walk WHERE step = len(proof);

-- 1. Every leaf is in the tree of the checkpoint.
SELECT 'every leaf leads to the root' AS check,
       CASE WHEN count(*) > 0 AND count(*) = (SELECT count(*) FROM event)
                 AND bool_and(coalesce(hash = root AND sn = 0 AND leaf_index < size, false))
            THEN 'ok' ELSE 'FAILED' END AS result,
       count(*) AS events
FROM folded, checkpoint;

-- A text of a leaf; null where there is none, or where it is encrypted.
CREATE TEMP MACRO text_of(leaf, path) AS CASE WHEN json_type(leaf, path) = 'VARCHAR' THEN json_extract_string(leaf, path) END;

-- 2. The columns say what the leaves say.
SELECT 'every column says what its leaf says' AS check,
       CASE WHEN bool_and(coalesce(
              id = text_of(leaf, '$.id') AND action = text_of(leaf, '$.action')
              AND outcome = coalesce(text_of(leaf, '$.outcome'), 'success')
              AND actor_type = coalesce(text_of(leaf, '$.actor.type'), 'user')
              AND actor_id IS NOT DISTINCT FROM text_of(leaf, '$.actor.id')
              AND actor_name IS NOT DISTINCT FROM text_of(leaf, '$.actor.name')
              AND resource_type IS NOT DISTINCT FROM text_of(leaf, '$.resource.type')
              AND resource_id IS NOT DISTINCT FROM text_of(leaf, '$.resource.id')
              AND resource_name IS NOT DISTINCT FROM text_of(leaf, '$.resource.name')
              AND strftime(occurred_at::TIMESTAMP, '%Y-%m-%dT%H:%M:%S.%gZ') = text_of(leaf, '$.occurred_at')
              AND strftime(received_at::TIMESTAMP, '%Y-%m-%dT%H:%M:%S.%gZ') = text_of(leaf, '$.received_at'), false))
            THEN 'ok' ELSE 'FAILED' END AS result,
       count(*) AS events
FROM event;

-- 3. No leaf and no id is there twice.
SELECT 'every leaf and id is there once' AS check,
       CASE WHEN count(*) = count(DISTINCT leaf_index) AND count(*) = count(DISTINCT id) THEN 'ok' ELSE 'FAILED' END AS result,
       count(*) AS events
FROM event;

-- 4. The numbers bundle.json claims; of a bundle that covers a range, no leaf of the range is missing.
SELECT 'as many as claimed, and none missing of a covered range' AS check,
       CASE WHEN count(*) = any_value(info.leaves) AND min(leaf_index) = any_value(info."first")
                 AND max(leaf_index) = any_value(info."end") - 1
                 AND any_value(info.tree_size) = any_value(checkpoint.size)
                 AND any_value(lower(hex(from_base64(info.root)))) = any_value(checkpoint.root)
                 AND any_value(info.origin) = any_value(checkpoint.origin)
                 AND (NOT any_value(info.request.covering) OR count(*) = max(leaf_index) - min(leaf_index) + 1)
            THEN 'ok' ELSE 'FAILED' END AS result,
       count(*) AS events
FROM event, checkpoint, read_json('bundle.json') AS info;
