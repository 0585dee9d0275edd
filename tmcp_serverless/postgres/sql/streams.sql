-- {broadcast} and {events} are the topics of the namespace; every other key has its namespace in front of it already.
-- Times are given in seconds: a timedelta of 86,400 s is sent as '1 day', and a day has 23 or 25 hours when the
-- session's time zone changes its clocks.

-- trial: a row of each table; readiness writes it and rolls it back
WITH box AS (
    INSERT INTO {mailboxes} (id, last) VALUES ('/trial/' || md5(random()::text), 1) RETURNING id
), message AS (
    INSERT INTO {messages} (mailbox, n, data) SELECT id, 1, 'trial' FROM box
)
INSERT INTO {leases} (id, holder, channel) SELECT id, id, id FROM box;

-- prepare: the session's mailbox; its broadcasts begin at the topic's present number
INSERT INTO {mailboxes} (id, last, delivered, topic_delivered, updated_at)
VALUES ($1, 0, 0, coalesce((SELECT last FROM {mailboxes} WHERE id = {broadcast}), 0), now())
ON CONFLICT (id) DO NOTHING;

-- append: one message into one mailbox; rings if a fresh lease listens, and returns the number
WITH taken AS (
    INSERT INTO {mailboxes} AS box (id, last, updated_at) VALUES ($1, 1, now())
    ON CONFLICT (id) DO UPDATE SET last = box.last + 1, updated_at = now()
    RETURNING last
), stored AS (
    INSERT INTO {messages} (mailbox, n, data) SELECT $1, last, $2 FROM taken
)
SELECT last, (
    SELECT pg_notify(channel, '')::text FROM {leases} WHERE id = $1 AND updated_at > now() - $3 * interval '1 s'
) FROM taken;

-- append_at: one message at a number that its only writer gives it; running it twice changes nothing
WITH stored AS (
    INSERT INTO {messages} (mailbox, n, data) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
), taken AS (
    INSERT INTO {mailboxes} AS box (id, last, updated_at) VALUES ($1, $2, now())
    ON CONFLICT (id) DO UPDATE SET last = greatest(box.last, excluded.last), updated_at = now()
    RETURNING last
)
SELECT $2::bigint, (
    SELECT pg_notify(channel, '')::text FROM {leases} WHERE id = $1 AND updated_at > now() - $4 * interval '1 s'
) FROM taken;

-- deliver: one message into a mailbox that exists; no row if it does not
WITH taken AS (
    UPDATE {mailboxes} SET last = last + 1, updated_at = now() WHERE id = $1 RETURNING last
)
INSERT INTO {messages} (mailbox, n, data) SELECT $1, last, $2 FROM taken
RETURNING n, (
    SELECT pg_notify(channel, '')::text FROM {leases} WHERE id = $1 AND updated_at > now() - $3 * interval '1 s'
);

-- deliver_reply: one message into an inbox that is read, or was within $8 seconds
-- (Of messages in the session's inboxes, between $4 and $5, there may be fewer than $6, of fewer than $7 bytes. Returns
-- the number, or null, and true if there are as many. It is not one statement with the next: that would be planned
-- anew each time, for a part of it is never run.)
WITH room AS (
    SELECT count(*) < $6 AND coalesce(sum(octet_length(data)), 0) < $7 AS is_left
    FROM (SELECT data FROM {messages} WHERE mailbox >= $4 AND mailbox < $5 LIMIT {inbox_rows}) AS few
), taken AS (
    UPDATE {mailboxes} SET last = last + 1, updated_at = now()
    WHERE id = $1 AND (SELECT is_left FROM room) AND (
        updated_at > now() - $8 * interval '1 s' OR EXISTS (SELECT FROM {leases} WHERE id = $1)
    ) RETURNING last
), stored AS (
    INSERT INTO {messages} (mailbox, n, data) SELECT $1, last, $2 FROM taken
)
SELECT (SELECT last FROM taken), NOT is_left, (
    SELECT pg_notify(channel, '')::text FROM {leases}
    WHERE id = $1 AND updated_at > now() - $3 * interval '1 s' AND EXISTS (SELECT FROM taken)
) FROM room;

-- deliver_early: the same into an inbox that is there, or else is made if there are fewer than $8 of them
WITH room AS (
    SELECT count(*) < $6 AND coalesce(sum(octet_length(data)), 0) < $7 AS is_left
    FROM (SELECT data FROM {messages} WHERE mailbox >= $4 AND mailbox < $5 LIMIT {inbox_rows}) AS few
), taken AS (
    INSERT INTO {mailboxes} AS box (id, last, updated_at) SELECT $1, 1, now() FROM room
    WHERE is_left AND (
        EXISTS (SELECT FROM {mailboxes} WHERE id = $1)
        OR (SELECT count(*) FROM {mailboxes} WHERE id >= $4 AND id < $5) < $8
    )
    ON CONFLICT (id) DO UPDATE SET last = box.last + 1, updated_at = now() RETURNING last
), stored AS (
    INSERT INTO {messages} (mailbox, n, data) SELECT $1, last, $2 FROM taken
)
SELECT (SELECT last FROM taken), NOT is_left, (
    SELECT pg_notify(channel, '')::text FROM {leases}
    WHERE id = $1 AND updated_at > now() - $3 * interval '1 s' AND EXISTS (SELECT FROM taken)
) FROM room;

-- trim: deletes messages beyond so many rows and bytes from mailboxes, oldest first
DELETE FROM {messages} AS message
USING unnest($1::text[]) AS box (id), LATERAL (
    SELECT max(n) AS n FROM (
        SELECT n, row_number() OVER later AS rows, sum(octet_length(data)) OVER later AS bytes
        FROM {messages} WHERE mailbox = box.id WINDOW later AS (ORDER BY n DESC)
    ) AS kept WHERE rows > $2 OR bytes > $3
) AS beyond
WHERE message.mailbox = box.id AND message.n <= beyond.n;

-- append_many: the same message into several mailboxes, in one statement; returns those due to be trimmed
WITH taken AS (
    INSERT INTO {mailboxes} AS box (id, last, updated_at)
    SELECT id, 1, now() FROM unnest($1::text[]) AS given (id) ORDER BY id
    ON CONFLICT (id) DO UPDATE SET last = box.last + 1, updated_at = now()
    RETURNING id, last
), stored AS (
    INSERT INTO {messages} (mailbox, n, data) SELECT id, last, $2 FROM taken
)
SELECT array_agg(id) FILTER (WHERE last % $4 = 0), (
    SELECT count(pg_notify(channel, '')) FROM {leases}
    WHERE id = ANY ($1::text[]) AND updated_at > now() - $3 * interval '1 s'
) FROM taken;

-- broadcast: one message into the topic, one ring
WITH taken AS (
    INSERT INTO {mailboxes} AS box (id, last, updated_at) VALUES ({broadcast}, 1, now())
    ON CONFLICT (id) DO UPDATE SET last = box.last + 1, updated_at = now()
    RETURNING last
), stored AS (
    INSERT INTO {messages} (mailbox, n, data) SELECT {broadcast}, last, $1 FROM taken
)
SELECT last, pg_notify($2, '') FROM taken;

-- publish: one event for all watches, one ring; nothing if there has never been a watch
WITH taken AS (
    UPDATE {mailboxes} SET last = last + 1, updated_at = now() WHERE id = {events} RETURNING last
), stored AS (
    INSERT INTO {messages} (mailbox, n, data) SELECT {events}, last, $1 FROM taken
)
SELECT last, pg_notify($2, '') FROM taken;

-- watch: the present number of the topic of events; makes the topic
INSERT INTO {mailboxes} AS box (id, last, updated_at) VALUES ({events}, 0, now())
ON CONFLICT (id) DO UPDATE SET updated_at = now() RETURNING last;

-- peek: the events after a watch's cursor, and the topic's last number; at least one row
-- (Each row has the bytes of its page up to it, and the columns of a session's page.)
WITH page AS (
    SELECT n, data, bytes FROM (
        SELECT n, data, sum(octet_length(data)) OVER (ORDER BY n) AS bytes
        FROM {messages} WHERE mailbox = {events} AND n > $1 ORDER BY n LIMIT {page_rows}
    ) AS next WHERE bytes - octet_length(data) < {page_bytes}
)
SELECT page.n, NULL::bigint, page.data, page.bytes,
    (SELECT last FROM {mailboxes} WHERE id = {events}), NULL::bigint
FROM (VALUES (true)) AS always LEFT JOIN page ON true;

-- claim: the lease for this holder, from any other; returns the cursor and rings the old holder
-- (With $6, only if no lease is fresher than so many seconds, no row if one is; the cursor is then the furthest of
-- the last holder's and $4, $5: a connection is not written again the messages that it has had.)
WITH box AS (
    INSERT INTO {mailboxes} AS box (id, last, delivered, topic_delivered, updated_at)
    VALUES ($1, 0, 0, coalesce((SELECT last FROM {mailboxes} WHERE id = {broadcast}), 0), now())
    ON CONFLICT (id) DO UPDATE SET
        updated_at = now(), topic_delivered = coalesce(
            box.topic_delivered, (SELECT last FROM {mailboxes} WHERE id = {broadcast}), 0
        )
    RETURNING last, delivered, topic_delivered
)
INSERT INTO {leases} AS lease (id, updated_at, holder, channel, delivered, topic_delivered)
SELECT $1, now(), $2, $3,
    least(CASE WHEN $6::float8 IS NULL THEN coalesce($4::bigint, delivered) ELSE greatest($4::bigint, delivered) END, last),
    least(
        CASE WHEN $6::float8 IS NULL THEN coalesce($5::bigint, topic_delivered) ELSE greatest($5::bigint, topic_delivered) END,
        coalesce((SELECT last FROM {mailboxes} WHERE id = {broadcast}), 0)
    )
FROM box
ON CONFLICT (id) DO UPDATE SET
    updated_at = now(), holder = excluded.holder, channel = excluded.channel,
    delivered = CASE
        WHEN $6::float8 IS NOT NULL THEN greatest(least($4::bigint, (SELECT last FROM box)), lease.delivered)
        WHEN $4::bigint IS NULL THEN lease.delivered ELSE excluded.delivered END,
    topic_delivered = CASE
        WHEN $6::float8 IS NOT NULL THEN greatest(
            least($5::bigint, coalesce((SELECT last FROM {mailboxes} WHERE id = {broadcast}), 0)), lease.topic_delivered
        )
        WHEN $5::bigint IS NULL THEN lease.topic_delivered ELSE excluded.topic_delivered END
WHERE $6::float8 IS NULL OR lease.updated_at <= now() - $6 * interval '1 s'
RETURNING delivered, topic_delivered, pg_notify(channel, '');

-- vacant: those of these streams that have no fresh lease
SELECT id FROM unnest($1::text[]) AS waiting (id)
WHERE NOT EXISTS (
    SELECT FROM {leases} AS lease WHERE lease.id = waiting.id AND updated_at > now() - $2 * interval '1 s'
);

-- read_next: the one message right after the cursor, and the lease moved over it; no row if there is none
UPDATE {leases} AS lease SET delivered = next.n
FROM {messages} AS next
WHERE lease.id = $1 AND lease.holder = $2 AND next.mailbox = $1 AND next.n = $3::bigint + 1
RETURNING next.n, next.data, set_config('synchronous_commit', 'off', true);

-- read_next_topic: the same, from the topic
UPDATE {leases} AS lease SET topic_delivered = next.n
FROM {messages} AS next
WHERE lease.id = $1 AND lease.holder = $2 AND next.mailbox = {broadcast} AND next.n = $3::bigint + 1
RETURNING next.n, next.data, set_config('synchronous_commit', 'off', true);

-- read: the messages after the cursor, and the lease moved over them; no row at all when fenced
-- (Each row has the bytes of its page up to it, and the last numbers of both mailboxes. So has the one row that is
-- returned if nothing has come. With a parameter for the limit the statement would be planned anew each time:
-- 570 µs instead of 150.)
WITH page AS (
    (SELECT n, NULL::bigint AS topic_n, data, bytes FROM (
        SELECT n, data, sum(octet_length(data)) OVER (ORDER BY n) AS bytes
        FROM {messages} WHERE mailbox = $1 AND n > $3 ORDER BY n LIMIT {page_rows}
    ) AS next WHERE bytes - octet_length(data) < {page_bytes})
    UNION ALL
    (SELECT NULL, n, data, bytes FROM (
        SELECT n, data, sum(octet_length(data)) OVER (ORDER BY n) AS bytes
        FROM {messages} WHERE mailbox = {broadcast} AND n > $4 AND $5 ORDER BY n LIMIT {page_rows}
    ) AS next WHERE bytes - octet_length(data) < {page_bytes})
), moved AS (
    UPDATE {leases} SET
        delivered = coalesce((SELECT max(n) FROM page), $3),
        topic_delivered = coalesce((SELECT max(topic_n) FROM page), $4)
    WHERE id = $1 AND holder = $2 AND EXISTS (SELECT FROM page)
    RETURNING set_config('synchronous_commit', 'off', true)
), kept AS (
    SELECT FROM {leases} WHERE id = $1 AND holder = $2
)
SELECT page.n, page.topic_n, page.data, page.bytes,
    (SELECT last FROM {mailboxes} WHERE id = $1), (SELECT last FROM {mailboxes} WHERE id = {broadcast} AND $5)
FROM kept LEFT JOIN page ON true
WHERE EXISTS (SELECT FROM moved) OR NOT EXISTS (SELECT FROM page);

-- move: the lease's cursor, over messages that have expired
UPDATE {leases} SET delivered = $3, topic_delivered = $4 WHERE id = $1 AND holder = $2;

-- heartbeat: every lease of this process, refreshed; returns those that are still ours and have no news
WITH refreshed AS (
    UPDATE {leases} AS lease SET updated_at = now()
    FROM unnest($1::text[], $2::text[]) AS mine (id, holder)
    WHERE lease.id = mine.id AND lease.holder = mine.holder
    RETURNING lease.holder,
        lease.delivered < (SELECT last FROM {mailboxes} AS box WHERE box.id = lease.id)
        OR position('/' IN lease.id) = 0 AND lease.topic_delivered < (
            SELECT last FROM {mailboxes} AS box WHERE box.id = {broadcast}
        ) AS news,
        set_config('synchronous_commit', 'off', true)
)
SELECT holder FROM refreshed WHERE news IS NOT TRUE
UNION ALL
SELECT watch.holder FROM unnest($3::text[], $4::text[]::bigint[]) AS watch (holder, cursor)
WHERE NOT EXISTS (SELECT FROM {mailboxes} AS box WHERE box.id = {events} AND box.last > cursor);

-- news: the leases of this process that have something to read, or are no longer ours
SELECT mine.holder FROM unnest($1::text[], $2::text[]) AS mine (id, holder)
LEFT JOIN {leases} AS lease ON lease.id = mine.id AND lease.holder = mine.holder
WHERE lease.id IS NULL
    OR lease.delivered < (SELECT last FROM {mailboxes} AS box WHERE box.id = lease.id)
    OR position('/' IN lease.id) = 0 AND lease.topic_delivered < (
        SELECT last FROM {mailboxes} AS box WHERE box.id = {broadcast}
    )
UNION ALL
SELECT watch.holder FROM unnest($3::text[], $4::text[]::bigint[]) AS watch (holder, cursor)
WHERE EXISTS (SELECT FROM {mailboxes} AS box WHERE box.id = {events} AND box.last > cursor);

-- release: deletes this holder's lease; its cursor stays with the mailbox, behind all messages read and written
-- (The mailbox is locked before the lease, as in a claim.)
WITH box AS (
    SELECT id FROM {mailboxes} WHERE id = $1 FOR UPDATE
), gone AS (
    DELETE FROM {leases} WHERE id = $1 AND holder = $2 AND (SELECT count(*) FROM box) >= 0
    RETURNING delivered, topic_delivered
)
UPDATE {mailboxes} AS box
SET delivered = least(gone.delivered, $3), topic_delivered = least(gone.topic_delivered, $4), updated_at = now()
FROM gone WHERE box.id = $1;

-- interrupt: deletes any holder's lease; its cursor stays with the mailbox
WITH box AS (
    SELECT id FROM {mailboxes} WHERE id = $1 FOR UPDATE
), gone AS (
    DELETE FROM {leases} WHERE id = $1 AND (SELECT count(*) FROM box) >= 0
    RETURNING channel, delivered, topic_delivered
), kept AS (
    UPDATE {mailboxes} AS box SET delivered = gone.delivered, topic_delivered = gone.topic_delivered
    FROM gone WHERE box.id = $1
)
SELECT pg_notify(channel, '') FROM gone;

-- fenced: true if a holder has the lease, and true if there is a mailbox
SELECT EXISTS (SELECT FROM {leases} WHERE id = $1), EXISTS (SELECT FROM {mailboxes} WHERE id = $1);

-- has: true if a fresh lease exists
SELECT EXISTS (SELECT FROM {leases} WHERE id = $1 AND updated_at > now() - $2 * interval '1 s');

-- count_open: the fresh leases of sessions and listen streams of a namespace, up to a bound, without one
SELECT count(*) FROM (
    SELECT FROM {leases}
    WHERE id >= $1 AND id < $2 AND updated_at > now() - $3 * interval '1 s' AND id <> $4
        AND (position('/' IN id) = 0 OR starts_with(id, $5))
    LIMIT $6
) AS open;

-- leases: the holders of the streams of these sessions, and of the streams inside them
SELECT split_part(id, '/', 1), split_part(id, '/', 2), coalesce(holder, '') FROM {leases}
WHERE split_part(id, '/', 1) = ANY ($1::text[]) AND updated_at > now() - $2 * interval '1 s';

-- delete_in_silence: the leases that `delete` would ring, for when nothing can be rung
DELETE FROM {leases} WHERE id = $1 OR (id >= $1 || '/' AND id < $1 || '0');

-- namespaces: those that have had a session, or a listen stream; one step along the index for each
WITH RECURSIVE found (name) AS (
    SELECT (SELECT split_part(id, ':', 1) FROM {mailboxes} ORDER BY id LIMIT 1)
    UNION ALL
    SELECT (SELECT split_part(id, ':', 1) FROM {mailboxes} WHERE id > found.name || ';' ORDER BY id LIMIT 1)
    FROM found WHERE found.name IS NOT NULL
)
SELECT name FROM found
WHERE EXISTS (
    -- A broadcast that reached nobody makes its topic, and no namespace.
    SELECT FROM {mailboxes} AS box
    WHERE box.id >= name || ':' AND box.id < name || ';' AND box.id <> name || ':/broadcast'
);

-- delete: the session's leases, mailboxes and messages, and those inside it; rings the holders
-- (Returns false, and does nothing, if there are too many messages for one statement: `shrink` is for these.)
SELECT CASE WHEN messages >= {batch_rows} THEN false ELSE (SELECT count(*) >= 0 FROM {forget}($1)) END
FROM (
    SELECT count(*) AS messages FROM (
        SELECT FROM {messages} WHERE mailbox = $1 OR (mailbox >= $1 || '/' AND mailbox < $1 || '0')
        LIMIT {batch_rows}
    ) AS few
) AS kept;

-- shrink: some of the messages of a session that is to be deleted
DELETE FROM {messages} WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM {messages} WHERE mailbox = $1 OR (mailbox >= $1 || '/' AND mailbox < $1 || '0')
    LIMIT {batch_rows}
));

-- sweep: a few stale leases, messages that are too old, and mailboxes that hold nothing
-- (Of leases and mailboxes those around an id are looked at, because an index on the time would have to be written
-- at every append. Returns the counts, and the last id in the window: there may be more behind it.)
WITH around AS MATERIALIZED (
    (SELECT id, updated_at FROM {mailboxes} WHERE id > $6 ORDER BY id LIMIT $7)
    UNION ALL
    (SELECT id, updated_at FROM {mailboxes} WHERE id <= $6 ORDER BY id DESC LIMIT $8)
), stale AS (
    DELETE FROM {leases} WHERE id IN (
        SELECT id FROM {leases}
        WHERE id = ANY (ARRAY(SELECT id FROM around)) AND updated_at < now() - $1 * interval '6 s'
        LIMIT $4 FOR UPDATE SKIP LOCKED
    ) RETURNING id, delivered, topic_delivered
), kept AS (
    UPDATE {mailboxes} AS box SET delivered = stale.delivered, topic_delivered = stale.topic_delivered
    FROM stale WHERE box.id = stale.id
), old AS (
    DELETE FROM {messages} WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {messages} WHERE created_at < now() - $2 * interval '1 s'
        ORDER BY created_at LIMIT $5 FOR UPDATE SKIP LOCKED
    )) RETURNING mailbox
), unused AS (
    DELETE FROM {mailboxes} WHERE id IN (
        SELECT id FROM {mailboxes}
        WHERE id = ANY (ARRAY(
            SELECT id FROM around WHERE updated_at < now() - least($2::float8, $3::float8) * interval '1 s'
        ))
        AND updated_at < now() - interval '1 s' * CASE WHEN position('/' IN id) > 0 THEN $2 ELSE $3 END
        AND split_part(id, ':', 2) NOT IN ('/broadcast', '/events')  -- of no namespace
        AND NOT EXISTS (SELECT FROM {messages} WHERE mailbox = {mailboxes}.id)
        AND NOT EXISTS (SELECT FROM {leases} WHERE {leases}.id = {mailboxes}.id)
        LIMIT $4 FOR UPDATE SKIP LOCKED
    ) RETURNING id
)
SELECT (SELECT count(*) FROM stale), (SELECT count(*) FROM old), (SELECT count(*) FROM unused),
    (SELECT max(id) FROM around WHERE id > $6);
