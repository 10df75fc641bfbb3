-- Which migration the database has reached; the query of readiness, too.
SELECT value::integer AS version FROM meta WHERE key = 'schema_version';
