-- The idle clock of one session, slid if that is due: `load` calls this then, and is a plain SELECT otherwise (an
-- UPDATE that finds nothing to do, in a WITH, cost it 8 µs of 38). Its commit need not be waited for.
CREATE OR REPLACE FUNCTION {slide}(session text, due interval) RETURNS text
LANGUAGE sql AS $tmcp_slide$
    UPDATE {context} SET updated_at = now() WHERE id = $1 AND updated_at < now() - $2
    RETURNING set_config('synchronous_commit', 'off', true)
$tmcp_slide$;
