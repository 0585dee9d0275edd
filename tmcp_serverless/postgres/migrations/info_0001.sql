CREATE TABLE {client_info} (id text COLLATE "C" PRIMARY KEY, value text NOT NULL);

CREATE TABLE {client_capabilities} (id text COLLATE "C" PRIMARY KEY, value text NOT NULL);

CREATE TABLE {log_level} (id text COLLATE "C" PRIMARY KEY, value text NOT NULL);

CREATE TABLE {subscriptions} (
    id text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    PRIMARY KEY (id, value)
);

CREATE INDEX ON {subscriptions} (value, id);

-- What a session is, and when it was last used. `client` and `log_level` are copies of what the tables above
-- hold, written by the same statements: a request reads this one row (three joins more: 28 µs of 84).
CREATE TABLE {context} (
    id text COLLATE "C" PRIMARY KEY,
    principal text NOT NULL,
    protocol_version text NOT NULL,
    initialized boolean NOT NULL,
    client text NOT NULL,
    log_level text,
    updated_at timestamptz NOT NULL DEFAULT now()
);
