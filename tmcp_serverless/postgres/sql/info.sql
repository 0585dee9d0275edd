-- Times are given in seconds: a timedelta of 86,400 s is sent as '1 day', and a day has 23 or 25 hours when the
-- session's time zone changes its clocks.

-- trial: a row of each table; readiness writes it and rolls it back
WITH session AS (
    INSERT INTO {context} (
        id, principal, protocol_version, initialized, client_info, client_capabilities, idle_seconds
    ) VALUES ('/trial/' || md5(random()::text), '', '', false, '', '', 0) RETURNING id
)
INSERT INTO {subscriptions} (id, value) SELECT id, '' FROM session;

-- initialize: a whole session
INSERT INTO {context} (
    id, client_info, client_capabilities, log_level, principal, protocol_version, initialized, idle_seconds
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (id) DO UPDATE SET
    protocol_version = excluded.protocol_version, initialized = excluded.initialized,
    client_info = excluded.client_info, client_capabilities = excluded.client_capabilities,
    log_level = coalesce(excluded.log_level, {context}.log_level),
    updated_at = now(), idle_seconds = excluded.idle_seconds;

-- initialize_existing: a session as another `initialize` settled it, if it exists and is the principal's
UPDATE {context} SET
    client_info = $2, client_capabilities = $3, log_level = coalesce($4, log_level),
    protocol_version = $6, initialized = $7, updated_at = now(), idle_seconds = $8
WHERE id = $1 AND principal = $5 AND updated_at > now() - $8 * interval '1 s' RETURNING id;

-- load: the principal's session if it has not expired; slides its idle clock if that is due
SELECT protocol_version, initialized, client_info, client_capabilities, log_level,
    CASE WHEN updated_at < now() - $3 * interval '1 ms' THEN {slide}($1, $3 * interval '1 ms') END
FROM {context} WHERE id = $1 AND principal = $2 AND updated_at > now() - $3 * interval '1 s';

-- update: the values that are not null, if the session exists
UPDATE {context} SET log_level = coalesce($2, log_level), initialized = coalesce($3, initialized)
WHERE id = $1 AND (log_level IS DISTINCT FROM coalesce($2, log_level) OR initialized <> $3);

-- get_client_info: one value
SELECT client_info FROM {context} WHERE id = $1;

-- set_client_info: one value, if the session exists
UPDATE {context} SET client_info = $2 WHERE id = $1;

-- get_client_capabilities: one value
SELECT client_capabilities FROM {context} WHERE id = $1;

-- set_client_capabilities: one value, if the session exists
UPDATE {context} SET client_capabilities = $2 WHERE id = $1;

-- get_log_level: one value
SELECT log_level FROM {context} WHERE id = $1;

-- get_subscriptions: the sessions that are subscribed to the resource and have not expired
SELECT subscription.id FROM {subscriptions} AS subscription
JOIN {context} AS context ON context.id = subscription.id
WHERE subscription.value = $1 AND subscription.id >= $3 AND subscription.id < $4
    AND context.updated_at > now() - $2 * interval '1 s';

-- add_subscription: idempotent; if the session exists, and it cannot be deleted until this is committed
-- (Returns true if the session has as many as it may have, and this is not one of them.)
WITH session AS (
    SELECT id FROM {context} WHERE id = $1 FOR KEY SHARE
), kept AS (
    SELECT count(*) AS subscriptions FROM {subscriptions} WHERE id = $1
), added AS (
    INSERT INTO {subscriptions} (id, value) SELECT id, $2 FROM session, kept WHERE subscriptions < $3
    ON CONFLICT DO NOTHING
)
SELECT subscriptions >= $3 AND NOT EXISTS (SELECT FROM {subscriptions} WHERE id = $1 AND value = $2)
FROM session, kept;

-- remove_subscription: idempotent
DELETE FROM {subscriptions} WHERE id = $1 AND value = $2;

-- delete: the session, and some of its subscriptions; returns the number of these
WITH subscribed AS (
    DELETE FROM {subscriptions} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {subscriptions} WHERE id = $1 LIMIT {batch_rows}))
    RETURNING id
), session AS (DELETE FROM {context} WHERE id = $1)
SELECT count(*) FROM subscribed;

-- surplus: some of the principal's sessions in a namespace beyond those that were used last
SELECT id FROM {context} WHERE principal = $1 AND principal <> '' AND id >= $3 AND id < $4
ORDER BY updated_at DESC OFFSET $2 LIMIT 100;

-- list: the sessions that have not expired, the last used first; of one namespace, or between '' and null of all
SELECT id, principal, protocol_version, client_info,
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

-- present: those of these sessions that exist
SELECT id FROM {context} WHERE id = ANY ($1::text[]) ORDER BY id;

-- sweep: a few sessions that have been idle for longer than their servers keep them
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
), subscribed AS (
    -- So many of each: a session with very many goes in several sweeps, and keeps none of the others from going.
    SELECT few.ctid, expired.id FROM expired, LATERAL (
        SELECT ctid FROM {subscriptions} WHERE id = expired.id LIMIT $2
    ) AS few
), unsubscribed AS (
    DELETE FROM {subscriptions} WHERE ctid = ANY (ARRAY(SELECT ctid FROM subscribed))
), large AS (
    SELECT id FROM subscribed GROUP BY id HAVING count(*) >= $2
), context AS (
    DELETE FROM {context} WHERE id IN (SELECT id FROM expired) AND id NOT IN (SELECT id FROM large) RETURNING id
)
SELECT (SELECT count(*) FROM context), (SELECT count(*) FROM large);
