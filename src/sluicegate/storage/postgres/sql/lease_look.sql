-- What the holder of each lease must do, in order: jobs, fences, time.
SELECT coalesce(
    (
        SELECT verdict(job.state, job.deadline_at, job.preempting, moment($3)) FROM job
        WHERE job.id = lease.job AND job.fence = lease.fence AND job.lease_until IS NOT NULL
    ),
    'lost'
) AS word
FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS lease (job, fence, place)
ORDER BY lease.place;
