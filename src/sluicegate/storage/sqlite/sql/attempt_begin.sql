-- Open the record of an attempt.
INSERT INTO attempt (job, fence, number, worker, started_at)
VALUES (:job, :fence, :number, :worker, :now);
