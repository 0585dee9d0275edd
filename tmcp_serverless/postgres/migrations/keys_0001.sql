-- Secrets that all instances share, made once: the key that request states are sealed with.
CREATE TABLE {secrets} (
    id text COLLATE "C" PRIMARY KEY, value text NOT NULL, created_at timestamptz NOT NULL DEFAULT now()
);

-- Tokens that were used, and may be used once: each until it would have expired anyway.
CREATE TABLE {spent} (id text COLLATE "C" PRIMARY KEY, expires_at timestamptz NOT NULL);

CREATE INDEX ON {spent} (expires_at);
