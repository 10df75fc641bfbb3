-- Jobs whose back-off is over, longest first.
SELECT * FROM job
WHERE state = 'scheduled' AND due_at <= :now
ORDER BY due_at, id
LIMIT :limit;
