-- How many jobs of the same model and priority stand behind this one, counted up to a limit.
SELECT count(*) AS jobs FROM (
    SELECT 1 FROM job
    WHERE state = 'queued' AND model = :model AND priority = :priority AND id > :id
    LIMIT :limit
);
