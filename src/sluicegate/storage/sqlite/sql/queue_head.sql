-- The next job of one model: highest priority, then oldest.
SELECT id, priority FROM job
WHERE state = 'queued' AND model = :model
ORDER BY priority DESC, id
LIMIT 1;
