-- Workers heard after a moment.
SELECT id, host, pid, started_at, seen_at, models, loaded, pools FROM worker
WHERE seen_at >= :since
ORDER BY id;
