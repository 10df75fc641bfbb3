-- One job with its latest progress, whoever owns it.
SELECT job.*, progress.report
FROM job LEFT JOIN progress ON progress.job = job.id
WHERE job.id = :id;
