-- Holds every typed column of a log's Parquet files against its leaf, and looks for ids that are there twice, with DuckDB alone. Run it
-- after root.sql, with the same variable `files`.

-- Whether a column says what a member of the leaf says, given as JSON; null stands for what is not there and for all that is no
-- text, as where it is encrypted.
CREATE OR REPLACE TEMP MACRO says(col, member) AS
    CASE WHEN col IS NULL THEN member IS NULL OR NOT starts_with(member, '"') ELSE to_json(col) = member END;

-- Each leaf is read once.
SELECT 'every column says what its leaf says' AS check,
       CASE WHEN bool_and(coalesce(
              to_json(id) = v[1] AND to_json(action) = v[2] AND to_json(key_id) = v[3]
              AND to_json(outcome) = coalesce(v[4], '"success"') AND says(reason, v[5])
              AND to_json(actor_type) = coalesce(v[6], '"user"') AND says(actor_id, v[7])
              AND says(actor_name, v[8]) AND says(actor_email, v[9])
              AND says(resource_type, v[10]) AND says(resource_id, v[11]) AND says(resource_name, v[12])
              AND says(ip, v[13]) AND says(user_agent, v[14])
              AND strftime(occurred_at::TIMESTAMP, '"%Y-%m-%dT%H:%M:%S.%gZ"') = v[15]
              AND strftime(received_at::TIMESTAMP, '"%Y-%m-%dT%H:%M:%S.%gZ"') = v[16], false))
                 AND count(DISTINCT id) = count(DISTINCT leaf_index)
            THEN 'ok' ELSE 'FAILED' END AS result,
       count(*) AS events
FROM (SELECT *, json_extract(decode(leaf), [
        '$.id', '$.action', '$.key_id', '$.outcome', '$.reason',
        '$.actor.type', '$.actor.id', '$.actor.name', '$.actor.email',
        '$.resource.type', '$.resource.id', '$.resource.name',
        '$.context.ip', '$.context.user_agent', '$.occurred_at', '$.received_at']) AS v
      FROM read_parquet(getvariable('files'), union_by_name = true));
