-- Replace a job's latest progress.
INSERT INTO progress (job, report) VALUES (:job, :report)
ON CONFLICT (job) DO UPDATE SET report = excluded.report;
