-- When a session was made. Those that are there already were made before now.
ALTER TABLE {context} ADD COLUMN created_at timestamptz NOT NULL DEFAULT now();
