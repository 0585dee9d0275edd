"""Privileges of the login role on a component's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tmcp_serverless.postgres.sql_files import built_in

if TYPE_CHECKING:
    from tmcp_serverless.postgres.components import Component
    from tmcp_serverless.postgres.database import Connection

__all__ = ["lacks_for_migrating", "lacks_for_use"]

# The names are tables and functions. In the check of the other kind a name is null, and passed over.
_USE = built_in("""\
WITH lacking AS (
    SELECT name, verb
    FROM unnest($1::text[]) AS name, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS verb
    WHERE NOT has_table_privilege(to_regclass(name), verb)
)
SELECT quote_ident(current_user) AS role, string_agg(DISTINCT verb, ', ') AS verbs,
    string_agg(DISTINCT name, ', ') AS names,
    (SELECT string_agg(name, ', ') FROM unnest($1::text[]) AS name
     WHERE NOT has_function_privilege(to_regproc(name), 'EXECUTE')) AS functions
FROM lacking""")

_MIGRATE = built_in("""\
SELECT quote_ident(current_user) AS role, quote_ident($2::text) AS place,
    (SELECT has_schema_privilege(oid, 'CREATE') FROM pg_catalog.pg_namespace WHERE nspname = $2) AS creates,
    (SELECT has_database_privilege(oid, 'CREATE') FROM pg_catalog.pg_database
     WHERE datname = current_database()) AS creates_schemas,
    (SELECT string_agg(quote_ident(relname), ', ' ORDER BY relname) FROM pg_catalog.pg_class
     WHERE oid IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS name)
        AND NOT pg_has_role(relowner, 'USAGE')) AS others""")


async def lacks_for_use(connection: Connection, component: Component) -> str | None:
    """Return the role's missing privileges and the GRANTs for them; `None` if it lacks none."""
    found: Any = await connection.fetchrow(_USE, component.used)
    role, verbs, names, functions = found
    refused: list[str] = []
    grants: list[str] = []
    if names:
        refused.append(verbs)
        grants.append(f"GRANT {verbs} ON {names} TO {role}")
    if functions:
        refused.append("EXECUTE")
        grants.append(f"GRANT EXECUTE ON FUNCTION {functions} TO {role}")
    return f"the role {role} may not {', '.join(refused)}: {'; '.join(grants)}" if grants else None


async def lacks_for_migrating(connection: Connection, component: Component) -> str | None:
    """Return the reason that the role cannot make or update the tables, with advice; `None` if it can."""
    found: Any = await connection.fetchrow(_MIGRATE, list(component.tables.values()), component.schema)
    role, place, creates, creates_schemas, others = found
    advice = "run `tmcp-serverless migrate` as one that may"
    if others:
        return f"the role {role} does not own {others}: {advice}"
    if creates is None and not creates_schemas:
        lacking = f"there is no schema {place}, and the role {role} may not create it"
        return f"{lacking}: {advice}, or change TMCP_SCHEMA"
    if creates is False:
        grant = f"GRANT CREATE ON SCHEMA {place} TO {role}"
        return f"the role {role} may not create tables in the schema {place}: {grant}, or {advice}"
    return None
