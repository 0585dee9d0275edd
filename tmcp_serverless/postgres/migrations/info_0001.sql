-- A session, in one row: the values that `initialize` settled, later values, and the time of its last use.
CREATE TABLE {context} (
    id text COLLATE "C" PRIMARY KEY,
    principal text NOT NULL,
    protocol_version text NOT NULL,
    initialized boolean NOT NULL,
    client_info text NOT NULL,
    client_capabilities text NOT NULL,
    log_level text,
    -- How long its server keeps it: another server may sweep it, with another time.
    idle_seconds double precision NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX ON {context} (idle_seconds, updated_at);

-- A user's sessions. Those without a user are not counted, and pay nothing for it.
CREATE INDEX ON {context} (principal, updated_at) WHERE principal <> '';

-- TMCP's tables of single values, for operators and tools that know them. (As tables, they were copies that
-- each `initialize` wrote, four rows for one.)
CREATE VIEW {client_info} AS SELECT id, client_info AS value FROM {context};

CREATE VIEW {client_capabilities} AS SELECT id, client_capabilities AS value FROM {context};

CREATE VIEW {log_level} AS SELECT id, log_level AS value FROM {context} WHERE log_level IS NOT NULL;

CREATE TABLE {subscriptions} (
    id text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    PRIMARY KEY (id, value)
);

CREATE INDEX ON {subscriptions} (value, id);

-- Slides the idle clock of one session if that is due. `load` calls it then, and is a plain SELECT otherwise (an
-- UPDATE that finds nothing to do, in a WITH, cost it 8 µs of 38). Its commit need not be waited for.
CREATE OR REPLACE FUNCTION {slide}(session text, due interval) RETURNS text
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $tmcp_slide$
    UPDATE {context} SET updated_at = now() WHERE id = $1 AND updated_at < now() - $2
    RETURNING set_config('synchronous_commit', 'off', true)
$tmcp_slide$;
