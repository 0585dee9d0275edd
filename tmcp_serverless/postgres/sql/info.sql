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
INSERT INTO {context} (id, principal, protocol_version, initialized, client, log_level, updated_at)
VALUES ($1, $5, $6, $7, '[' || $2 || ',' || $3 || ']', $4, now())
ON CONFLICT (id) DO UPDATE SET
    protocol_version = excluded.protocol_version, initialized = excluded.initialized,
    client = excluded.client, log_level = coalesce(excluded.log_level, {context}.log_level),
    updated_at = now();

-- load: the principal's session if it has not expired, its idle clock slid where that is due
WITH slid AS (
    UPDATE {context} SET updated_at = now()
    WHERE id = $1 AND principal = $2
        AND updated_at > now() - $3::interval AND updated_at < now() - $3::interval / 1000
    RETURNING set_config('synchronous_commit', 'off', true)
)
SELECT protocol_version, initialized, client, log_level FROM {context}
WHERE id = $1 AND principal = $2 AND updated_at > now() - $3::interval;

-- mark_initialized: the client has said `notifications/initialized`
UPDATE {context} SET initialized = true WHERE id = $1 AND NOT initialized;

-- get_client_info: one value
SELECT value FROM {client_info} WHERE id = $1;

-- set_client_info: one value, and the copy of it that `load` reads
WITH copied AS (
    UPDATE {context} SET
        client = '[' || $2 || ',' || coalesce((SELECT value FROM {client_capabilities} WHERE id = $1), '{}') || ']'
    WHERE id = $1
)
INSERT INTO {client_info} (id, value) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET value = excluded.value;

-- get_client_capabilities: one value
SELECT value FROM {client_capabilities} WHERE id = $1;

-- set_client_capabilities: one value, and the copy of it that `load` reads
WITH copied AS (
    UPDATE {context} SET
        client = '[' || coalesce((SELECT value FROM {client_info} WHERE id = $1), '{}') || ',' || $2 || ']'
    WHERE id = $1
)
INSERT INTO {client_capabilities} (id, value) VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE SET value = excluded.value;

-- get_log_level: one value
SELECT value FROM {log_level} WHERE id = $1;

-- set_log_level: one value, and the copy of it that `load` reads
WITH copied AS (UPDATE {context} SET log_level = $2 WHERE id = $1)
INSERT INTO {log_level} (id, value) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET value = excluded.value;

-- get_subscriptions: who is subscribed to the resource and has not expired
SELECT subscription.id FROM {subscriptions} AS subscription
WHERE subscription.value = $1 AND NOT EXISTS (
    SELECT FROM {context} AS context
    WHERE context.id = subscription.id AND context.updated_at <= now() - $2::interval
);

-- add_subscription: idempotent
INSERT INTO {subscriptions} (id, value) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- remove_subscription: idempotent
DELETE FROM {subscriptions} WHERE id = $1 AND value = $2;

-- delete: the session, and nothing of any other
WITH info AS (DELETE FROM {client_info} WHERE id = $1),
capabilities AS (DELETE FROM {client_capabilities} WHERE id = $1),
level AS (DELETE FROM {log_level} WHERE id = $1),
subscribed AS (DELETE FROM {subscriptions} WHERE id = $1)
DELETE FROM {context} WHERE id = $1;

-- sweep: a few sessions that have been idle for too long
WITH expired AS (
    SELECT id FROM {context} WHERE updated_at < now() - $1::interval
    ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED
), info AS (DELETE FROM {client_info} WHERE id IN (SELECT id FROM expired)),
capabilities AS (DELETE FROM {client_capabilities} WHERE id IN (SELECT id FROM expired)),
level AS (DELETE FROM {log_level} WHERE id IN (SELECT id FROM expired)),
subscribed AS (DELETE FROM {subscriptions} WHERE id IN (SELECT id FROM expired)),
context AS (DELETE FROM {context} WHERE id IN (SELECT id FROM expired) RETURNING id)
SELECT count(*) FROM context;
