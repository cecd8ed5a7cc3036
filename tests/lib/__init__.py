"""What the tests and ./quickstart share: a private Postgres, the official lake client, flows, comparison by content."""
