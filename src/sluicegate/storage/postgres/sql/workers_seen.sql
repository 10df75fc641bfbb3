-- Workers heard within so many seconds: seconds, time.
SELECT id, host, pid, started_at, seen_at, models, loaded, pools FROM worker
WHERE seen_at >= moment($2) - $1
ORDER BY id;
