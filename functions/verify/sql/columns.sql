-- Holds every typed column of a log's Parquet files against its leaf, and looks for ids that are there twice, with DuckDB alone. Run it
-- after root.sql, with the same variable `files`.

-- A text of a leaf; null where there is none, or where it is encrypted.
CREATE OR REPLACE TEMP MACRO text_of(leaf, path) AS
    CASE WHEN json_type(leaf, path) = 'VARCHAR' THEN json_extract_string(leaf, path) END;

SELECT 'every column says what its leaf says' AS check,
       CASE WHEN bool_and(coalesce(
              id = text_of(l, '$.id') AND action = text_of(l, '$.action') AND key_id = text_of(l, '$.key_id')
              AND outcome = coalesce(text_of(l, '$.outcome'), 'success')
              AND reason IS NOT DISTINCT FROM text_of(l, '$.reason')
              AND actor_type = coalesce(text_of(l, '$.actor.type'), 'user')
              AND actor_id IS NOT DISTINCT FROM text_of(l, '$.actor.id')
              AND actor_name IS NOT DISTINCT FROM text_of(l, '$.actor.name')
              AND actor_email IS NOT DISTINCT FROM text_of(l, '$.actor.email')
              AND resource_type IS NOT DISTINCT FROM text_of(l, '$.resource.type')
              AND resource_id IS NOT DISTINCT FROM text_of(l, '$.resource.id')
              AND resource_name IS NOT DISTINCT FROM text_of(l, '$.resource.name')
              AND ip IS NOT DISTINCT FROM text_of(l, '$.context.ip')
              AND user_agent IS NOT DISTINCT FROM text_of(l, '$.context.user_agent')
              AND strftime(occurred_at::TIMESTAMP, '%Y-%m-%dT%H:%M:%S.%gZ') = text_of(l, '$.occurred_at')
              AND strftime(received_at::TIMESTAMP, '%Y-%m-%dT%H:%M:%S.%gZ') = text_of(l, '$.received_at'), false))
                 AND count(DISTINCT id) = count(DISTINCT leaf_index)
            THEN 'ok' ELSE 'FAILED' END AS result,
       count(*) AS events
FROM (SELECT *, decode(leaf) AS l FROM read_parquet(getvariable('files'), union_by_name = true));
