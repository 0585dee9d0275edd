"""Support for tests of a server that runs on this kit: `postgres` is a database, `contracts` test suites."""
