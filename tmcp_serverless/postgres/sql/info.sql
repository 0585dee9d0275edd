-- Times are given in seconds: a timedelta of 86,400 s is sent as '1 day', which is 23 or 25 hours where the session's
-- time zone changes its clocks.

-- trial: a row of each table; for readiness, which rolls it back
WITH session AS (
    INSERT INTO {context} (id, principal, protocol_version, initialized, client)
    VALUES ('/trial/' || md5(random()::text), '', '', false, '') RETURNING id
), info AS (
    INSERT INTO {client_info} (id, value) SELECT id, '' FROM session
), capabilities AS (
    INSERT INTO {client_capabilities} (id, value) SELECT id, '' FROM session
), level AS (
    INSERT INTO {log_level} (id, value) SELECT id, '' FROM session
), subscribed AS (
    INSERT INTO {subscriptions} (id, value) SELECT id, '' FROM session
), secret AS (
    INSERT INTO {secrets} (id, value) SELECT id, '' FROM session
)
INSERT INTO {spent} (id, expires_at) SELECT id, now() FROM session;

-- initialize: a new session, whole
WITH info AS (
    INSERT INTO {client_info} (id, value) VALUES ($1, $2)
    ON CONFLICT (id) DO UPDATE SET value = excluded.value
), capabilities AS (
    INSERT INTO {client_capabilities} (id, value) VALUES ($1, $3)
    ON CONFLICT (id) DO UPDATE SET value = excluded.value
), level AS (
    INSERT INTO {log_level} (id, value) SELECT $1, $4::text WHERE $4 IS NOT NULL
    ON CONFLICT (id) DO UPDATE SET value = excluded.value
)
INSERT INTO {context} (id, principal, protocol_version, initialized, client, log_level, updated_at, idle_seconds)
VALUES ($1, $5, $6, $7, '[' || $2 || ',' || $3 || ']', $4, now(), $8)
ON CONFLICT (id) DO UPDATE SET
    protocol_version = excluded.protocol_version, initialized = excluded.initialized,
    client = excluded.client, log_level = coalesce(excluded.log_level, {context}.log_level),
    updated_at = now(), idle_seconds = excluded.idle_seconds;

-- renew: a session as another `initialize` settled it, where it is there and the principal's
WITH session AS (
    UPDATE {context} SET
        protocol_version = $6, initialized = $7, client = '[' || $2 || ',' || $3 || ']',
        log_level = coalesce($4, log_level), updated_at = now(), idle_seconds = $8
    WHERE id = $1 AND principal = $5 AND updated_at > now() - $8 * interval '1 s' RETURNING id
), info AS (
    INSERT INTO {client_info} (id, value) SELECT id, $2 FROM session
    ON CONFLICT (id) DO UPDATE SET value = excluded.value
), capabilities AS (
    INSERT INTO {client_capabilities} (id, value) SELECT id, $3 FROM session
    ON CONFLICT (id) DO UPDATE SET value = excluded.value
), level AS (
    INSERT INTO {log_level} (id, value) SELECT id, $4::text FROM session WHERE $4 IS NOT NULL
    ON CONFLICT (id) DO UPDATE SET value = excluded.value
)
SELECT id FROM session;

-- load: the principal's session if it has not expired, its idle clock slid where that is due
SELECT protocol_version, initialized, client, log_level,
    CASE WHEN updated_at < now() - $3 * interval '1 ms' THEN {slide}($1, $3 * interval '1 ms') END
FROM {context} WHERE id = $1 AND principal = $2 AND updated_at > now() - $3 * interval '1 s';

-- mark_initialized: the client has said `notifications/initialized`
UPDATE {context} SET initialized = true WHERE id = $1 AND NOT initialized;

-- get_client_info: one value
SELECT value FROM {client_info} WHERE id = $1;

-- set_client_info: one value, and the copy of it that `load` reads, where the session is there
WITH session AS (
    UPDATE {context} SET
        client = '[' || $2 || ',' || coalesce((SELECT value FROM {client_capabilities} WHERE id = $1), '{}') || ']'
    WHERE id = $1 RETURNING id
)
INSERT INTO {client_info} (id, value) SELECT id, $2 FROM session
ON CONFLICT (id) DO UPDATE SET value = excluded.value;

-- get_client_capabilities: one value
SELECT value FROM {client_capabilities} WHERE id = $1;

-- set_client_capabilities: one value, and the copy of it that `load` reads, where the session is there
WITH session AS (
    UPDATE {context} SET
        client = '[' || coalesce((SELECT value FROM {client_info} WHERE id = $1), '{}') || ',' || $2 || ']'
    WHERE id = $1 RETURNING id
)
INSERT INTO {client_capabilities} (id, value) SELECT id, $2 FROM session
ON CONFLICT (id) DO UPDATE SET value = excluded.value;

-- get_log_level: one value
SELECT value FROM {log_level} WHERE id = $1;

-- set_log_level: one value, and the copy of it that `load` reads, where the session is there
WITH session AS (UPDATE {context} SET log_level = $2 WHERE id = $1 RETURNING id)
INSERT INTO {log_level} (id, value) SELECT id, $2 FROM session
ON CONFLICT (id) DO UPDATE SET value = excluded.value;

-- get_subscriptions: who is subscribed to the resource and has not expired
SELECT subscription.id FROM {subscriptions} AS subscription
JOIN {context} AS context ON context.id = subscription.id
WHERE subscription.value = $1 AND subscription.id >= $3 AND subscription.id < $4
    AND context.updated_at > now() - $2 * interval '1 s';

-- add_subscription: idempotent; where the session is there, which cannot be deleted until this is committed
INSERT INTO {subscriptions} (id, value)
SELECT id, $2 FROM (SELECT id FROM {context} WHERE id = $1 FOR KEY SHARE) AS session
ON CONFLICT DO NOTHING;

-- remove_subscription: idempotent
DELETE FROM {subscriptions} WHERE id = $1 AND value = $2;

-- delete: the session, and nothing of any other
WITH info AS (DELETE FROM {client_info} WHERE id = $1),
capabilities AS (DELETE FROM {client_capabilities} WHERE id = $1),
level AS (DELETE FROM {log_level} WHERE id = $1),
subscribed AS (DELETE FROM {subscriptions} WHERE id = $1)
DELETE FROM {context} WHERE id = $1;

-- secret: the first that was proposed under this name
WITH kept AS (INSERT INTO {secrets} (id, value) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING value)
SELECT value FROM kept UNION ALL SELECT value FROM {secrets} WHERE id = $1 LIMIT 1;

-- spend: no row when the token has been used before
INSERT INTO {spent} (id, expires_at) VALUES ($1, now() + $2 * interval '1 s') ON CONFLICT DO NOTHING RETURNING true;

-- list: the sessions that have not expired, the last used first; of one namespace, or between '' and null of all
SELECT id, principal, protocol_version, client,
    extract(epoch FROM now() - created_at)::float8, extract(epoch FROM now() - updated_at)::float8
FROM {context}
WHERE updated_at > now() - idle_seconds * interval '1 s' AND id >= $2::text AND ($3::text IS NULL OR id < $3)
ORDER BY updated_at DESC, id LIMIT $1;

-- namespaces: those that have a session; one step along the index for each
WITH RECURSIVE found (name) AS (
    SELECT (SELECT split_part(id, ':', 1) FROM {context} ORDER BY id LIMIT 1)
    UNION ALL
    SELECT (SELECT split_part(id, ':', 1) FROM {context} WHERE id > found.name || ';' ORDER BY id LIMIT 1)
    FROM found WHERE found.name IS NOT NULL
)
SELECT name FROM found WHERE name IS NOT NULL;

-- present: which of these sessions there are
SELECT id FROM {context} WHERE id = ANY ($1::text[]) ORDER BY id;

-- sweep: a few sessions that have been idle for longer than their servers keep them, and tokens that have expired
-- (One step along the index for each of the times: as a rule there is one. With an index on the sum of both columns
-- `initialize` would take 190 µs instead of 120.)
WITH RECURSIVE kept (seconds) AS (
    SELECT min(idle_seconds) FROM {context}
    UNION ALL
    SELECT (SELECT min(idle_seconds) FROM {context} WHERE idle_seconds > kept.seconds)
    FROM kept WHERE kept.seconds IS NOT NULL
), expired AS (
    SELECT old.id FROM kept, LATERAL (
        SELECT id FROM {context}
        WHERE idle_seconds = kept.seconds AND updated_at < now() - kept.seconds * interval '1 s'
        ORDER BY updated_at LIMIT $1 FOR UPDATE SKIP LOCKED
    ) AS old LIMIT $1
), info AS (DELETE FROM {client_info} WHERE id IN (SELECT id FROM expired)),
capabilities AS (DELETE FROM {client_capabilities} WHERE id IN (SELECT id FROM expired)),
level AS (DELETE FROM {log_level} WHERE id IN (SELECT id FROM expired)),
subscribed AS (DELETE FROM {subscriptions} WHERE id IN (SELECT id FROM expired)),
context AS (DELETE FROM {context} WHERE id IN (SELECT id FROM expired) RETURNING id),
spent AS (
    DELETE FROM {spent} WHERE id IN (
        SELECT id FROM {spent} WHERE expires_at < now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
    ) RETURNING id
)
SELECT (SELECT count(*) FROM context) + (SELECT count(*) FROM spent);
