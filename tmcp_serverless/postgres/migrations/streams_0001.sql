-- Live streams: one row per lease. The holder is a fencing token. An append rings the channel.
CREATE TABLE {leases} (
    id text COLLATE "C" PRIMARY KEY,
    updated_at timestamptz NOT NULL DEFAULT now(),
    holder text,
    channel text,
    delivered bigint NOT NULL DEFAULT 0,
    topic_delivered bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- One row per mailbox: the number of its last message, and the last holder's cursor.
CREATE TABLE {mailboxes} (
    id text COLLATE "C" PRIMARY KEY,
    last bigint NOT NULL,
    delivered bigint NOT NULL DEFAULT 0,
    topic_delivered bigint,
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);

-- The messages, numbered per mailbox without a gap. created_at is taken after the number, so it does not go back.
CREATE TABLE {messages} (
    mailbox text COLLATE "C" NOT NULL,
    n bigint NOT NULL,
    data text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (mailbox, n)
);

CREATE INDEX ON {messages} (created_at);

-- A session's end. The mailboxes are locked before anything is looked for: each statement of a function sees
-- the changes that the one before it has waited for. So no message or lease that was on its way is left behind.
CREATE OR REPLACE FUNCTION {forget}(address text) RETURNS SETOF text
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $tmcp_forget$
    SELECT FROM {mailboxes} WHERE id = $1 OR (id >= $1 || '/' AND id < $1 || '0') ORDER BY id FOR UPDATE;
    DELETE FROM {messages} WHERE mailbox = $1 OR (mailbox >= $1 || '/' AND mailbox < $1 || '0');
    DELETE FROM {mailboxes} WHERE id = $1 OR (id >= $1 || '/' AND id < $1 || '0');
    DELETE FROM {leases} WHERE id = $1 OR (id >= $1 || '/' AND id < $1 || '0')
    RETURNING pg_notify(channel, '')::text
$tmcp_forget$;
