"""What the role that logs in may do with a component's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tmcp_serverless.postgres.database import Connection
    from tmcp_serverless.postgres.schema import Component

__all__ = ["lacks_for_migrating", "lacks_for_use"]

# Tables and functions are among the names: what is none of the one or the other is null, and passed over.
_USE = """\
WITH lacking AS (
    SELECT name, verb
    FROM unnest($1::text[]) AS name, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS verb
    WHERE NOT has_table_privilege(to_regclass(name), verb)
)
SELECT quote_ident(current_user) AS role, string_agg(DISTINCT verb, ', ') AS verbs,
    string_agg(DISTINCT name, ', ') AS names,
    (SELECT string_agg(name, ', ') FROM unnest($1::text[]) AS name
     WHERE NOT has_function_privilege(to_regproc(name), 'EXECUTE')) AS functions
FROM lacking"""

_MIGRATE = """\
SELECT quote_ident(current_user) AS role, quote_ident(current_schema()) AS place,
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS creates,
    (SELECT string_agg(quote_ident(relname), ', ' ORDER BY relname) FROM pg_class
     WHERE oid IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS name)
        AND NOT pg_has_role(relowner, 'USAGE')) AS others"""


async def lacks_for_use(connection: Connection, component: Component) -> str | None:
    """Return what the role may not do with what is there, and how to grant it; `None` where it may do all."""
    found: Any = await connection.fetchrow(_USE, list(component.tables.values()))
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
    """Return why the role cannot make the tables, or bring them up to date; `None` where it can."""
    found: Any = await connection.fetchrow(_MIGRATE, list(component.tables.values()))
    role, place, creates, others = found
    advice = "run `tmcp-serverless migrate` as one that may"
    if place is None:
        return f"there is no schema that the role {role} may use: GRANT it one, or set its search_path"
    if others:
        return f"the role {role} does not own {others}: {advice}"
    if not creates:
        grant = f"GRANT CREATE ON SCHEMA {place} TO {role}"
        return f"the role {role} may not create tables in the schema {place}: {grant}, or {advice}"
    return None
