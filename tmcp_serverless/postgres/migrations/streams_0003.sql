-- Every key has its namespace in front of it now. The server that a row without one belongs to is not known.
DELETE FROM {sessions} WHERE position(':' IN id) = 0;
DELETE FROM {mailboxes} WHERE position(':' IN id) = 0;
DELETE FROM {messages} WHERE position(':' IN mailbox) = 0;

-- As before, but for the path along which functions and operators are found.
CREATE OR REPLACE FUNCTION {forget}(address text) RETURNS SETOF text
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $tmcp_forget$
    SELECT FROM {mailboxes} WHERE id = $1 OR (id >= $1 || '/' AND id < $1 || '0') ORDER BY id FOR UPDATE;
    DELETE FROM {messages} WHERE mailbox = $1 OR (mailbox >= $1 || '/' AND mailbox < $1 || '0');
    DELETE FROM {mailboxes} WHERE id = $1 OR (id >= $1 || '/' AND id < $1 || '0');
    DELETE FROM {sessions} WHERE id = $1 OR (id >= $1 || '/' AND id < $1 || '0')
    RETURNING pg_notify(channel, '')::text
$tmcp_forget$;
