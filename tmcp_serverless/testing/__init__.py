"""What tests of a server that runs on this kit need, each in its own module; `postgres` is a database."""
