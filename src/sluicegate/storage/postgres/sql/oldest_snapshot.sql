-- How many transactions ago the oldest open one of this database began: what no vacuum can clear yet.
SELECT coalesce(max(age(backend_xmin)), 0)::bigint AS transactions
FROM pg_stat_activity
WHERE datname = current_database() AND backend_xmin IS NOT NULL;
