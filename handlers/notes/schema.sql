-- The notes. They are made by whoever needs them first, or with psql, where the application may not.
CREATE TABLE IF NOT EXISTS team_notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title text NOT NULL,
    text text NOT NULL,
    tags text[] NOT NULL DEFAULT '{}',
    author text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS team_notes_words
    ON team_notes USING gin (to_tsvector('simple', title || ' ' || text));
