-- How far back the oldest transaction of this database reaches: what no vacuum can clear yet. Transactions, seconds.
SELECT
    coalesce(max(age(backend_xmin)), 0)::bigint AS transactions,
    coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0.0)::double precision AS seconds
FROM pg_stat_activity
WHERE datname = current_database() AND backend_xmin IS NOT NULL;
