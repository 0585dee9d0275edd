-- Every key has its namespace in front of it now. The server that a row without one belongs to is not known.
DELETE FROM {context} WHERE position(':' IN id) = 0;
DELETE FROM {client_info} WHERE position(':' IN id) = 0;
DELETE FROM {client_capabilities} WHERE position(':' IN id) = 0;
DELETE FROM {log_level} WHERE position(':' IN id) = 0;
DELETE FROM {subscriptions} WHERE position(':' IN id) = 0;
DELETE FROM {secrets} WHERE position(':' IN id) = 0;
DELETE FROM {spent} WHERE position(':' IN id) = 0;

-- How long the session's server keeps it: whoever sweeps may be another, with another time.
ALTER TABLE {context} ADD COLUMN idle_seconds double precision NOT NULL DEFAULT 86400;

-- (An index on updated_at alone, which the first version had, is of no use now.)
CREATE INDEX ON {context} (idle_seconds, updated_at);

-- As before, but for the path along which functions and operators are found.
CREATE OR REPLACE FUNCTION {slide}(session text, due interval) RETURNS text
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $tmcp_slide$
    UPDATE {context} SET updated_at = now() WHERE id = $1 AND updated_at < now() - $2
    RETURNING set_config('synchronous_commit', 'off', true)
$tmcp_slide$;
