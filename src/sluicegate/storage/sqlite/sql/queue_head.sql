-- The next job of one lane: highest priority, then oldest.
SELECT id, priority FROM job
WHERE state = 'queued' AND pool = :pool AND tenant = :tenant AND model = :model
ORDER BY priority DESC, id
LIMIT 1;
