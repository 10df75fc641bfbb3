-- Jobs that one worker holds.
SELECT * FROM job
WHERE state IN ('running', 'canceling') AND worker = :worker
ORDER BY id
LIMIT :limit;
