-- A session's end. The mailboxes are locked before anything is looked for: each statement of a function sees what
-- the one before it has waited for, so that neither a message nor a lease that was on its way is left behind.
CREATE OR REPLACE FUNCTION {forget}(address text) RETURNS SETOF text
LANGUAGE sql AS $tmcp_forget$
    SELECT FROM {mailboxes} WHERE id = $1 OR (id >= $1 || '/' AND id < $1 || '0') ORDER BY id FOR UPDATE;
    DELETE FROM {messages} WHERE mailbox = $1 OR (mailbox >= $1 || '/' AND mailbox < $1 || '0');
    DELETE FROM {mailboxes} WHERE id = $1 OR (id >= $1 || '/' AND id < $1 || '0');
    DELETE FROM {sessions} WHERE id = $1 OR (id >= $1 || '/' AND id < $1 || '0')
    RETURNING pg_notify(channel, '')::text
$tmcp_forget$;
