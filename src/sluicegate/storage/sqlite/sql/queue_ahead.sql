-- How many jobs of the same model and priority stand before this one.
SELECT count(*) AS jobs FROM job
WHERE state = 'queued' AND model = :model AND priority = :priority AND id < :id;
