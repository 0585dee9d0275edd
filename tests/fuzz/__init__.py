"""A fuzzer of the endpoint: three instances, one Postgres, two principals, and any bytes."""
