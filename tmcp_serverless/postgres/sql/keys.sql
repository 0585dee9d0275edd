-- trial: a row of each table; readiness writes it and rolls it back
WITH secret AS (
    INSERT INTO {secrets} (id, value) VALUES ('/trial/' || md5(random()::text), '') RETURNING id
)
INSERT INTO {spent} (id, expires_at) SELECT id, now() FROM secret;

-- secret: the first that was proposed under this name
WITH kept AS (INSERT INTO {secrets} (id, value) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING value)
SELECT value FROM kept UNION ALL SELECT value FROM {secrets} WHERE id = $1 LIMIT 1;

-- spend: a row, or none if the token has been used before; removes a few expired tokens of any namespace
WITH expired AS (
    DELETE FROM {spent} WHERE id IN (
        SELECT id FROM {spent} WHERE expires_at < now() AND id <> $1
        ORDER BY expires_at LIMIT 10 FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO {spent} (id, expires_at) VALUES ($1, now() + $2 * interval '1 s') ON CONFLICT DO NOTHING RETURNING true;
