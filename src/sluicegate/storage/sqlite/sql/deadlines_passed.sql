-- Waiting jobs that are too late to begin, those that are late the longest first.
SELECT * FROM job
WHERE state IN ('queued', 'scheduled') AND deadline_at IS NOT NULL AND deadline_at <= :now
ORDER BY deadline_at, id
LIMIT :limit;
