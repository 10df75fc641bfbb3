-- Which migration the database has reached; the query of readiness, too.
SELECT CAST(value AS INTEGER) AS version FROM meta WHERE key = 'schema_version';
