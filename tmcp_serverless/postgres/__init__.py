"""The session managers' contracts over Postgres."""

from tmcp_serverless.postgres.connection import Connection
from tmcp_serverless.postgres.database import Database
from tmcp_serverless.postgres.identifiers import TableNames
from tmcp_serverless.postgres.info import PostgresInfoSessionManager
from tmcp_serverless.postgres.keys import PostgresKeyStore
from tmcp_serverless.postgres.streams import PostgresStreamSessionManager

__all__ = [
    "Connection",
    "Database",
    "PostgresInfoSessionManager",
    "PostgresKeyStore",
    "PostgresStreamSessionManager",
    "TableNames",
]
