"""The job queue: rows leased from the product's database, the same on SQLite and PostgreSQL."""
