-- Operations of the caretaker: give back what silent or dead workers held, and keep the appointed times. Each batch is
-- bounded: others wait for the lock meanwhile.

-- Why a job whose attempts are used up has failed.
CREATE FUNCTION exhaustion(failed job, loss text) RETURNS json LANGUAGE sql VOLATILE AS $$
    SELECT json_build_object(
        'code', 'attempts_exhausted',
        'message', format(
            'all %s attempts at the job are used up; the last worker %s', failed.max_attempts,
            CASE loss WHEN 'lease_expired' THEN 'fell silent' ELSE 'died' END
        ),
        'details', json_build_object('attempts', (
            SELECT json_agg(json_build_object(
                'number', attempt.number, 'worker', attempt.worker, 'started_at', attempt.started_at,
                'ended_at', attempt.ended_at, 'outcome', attempt.outcome, 'error', attempt.error::json
            ) ORDER BY attempt.fence)
            FROM attempt WHERE attempt.job = failed.id
        ))
    )
$$;

-- Decide about a job whose worker is gone; what has become of it.
CREATE FUNCTION take_back(lost job, loss text, moment double precision) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    why json;
BEGIN
    IF lost.state = 'canceling' THEN
        PERFORM withdraw(lost, 0.0, NULL, moment);
        RETURN 'canceled';
    END IF;
    IF lost.deadline_at <= moment THEN
        PERFORM expire_held(lost, loss, 0.0, moment);
        RETURN 'expired';
    END IF;
    PERFORM end_attempt(lost, loss, NULL, moment);
    IF lost.attempt < lost.max_attempts THEN
        PERFORM return_held(
            lost, NULL, lost.attempt, lost.preemptions, moment, 'job.retrying',
            json_build_object('status', 'queued', 'attempt', lost.attempt, 'worker', lost.worker, 'reason', loss)
        );
        RETURN 'requeued';
    END IF;
    why := exhaustion(lost, loss);
    PERFORM end_held(
        lost, 'failed', 0.0, moment,
        json_build_object(
            'status', 'failed', 'attempt', lost.attempt, 'worker', lost.worker, 'reason', loss, 'error', why
        ),
        why::text
    );
    RETURN 'failed';
END $$;

-- Queue a job whose back-off is over.
CREATE FUNCTION promote(due job, moment double precision) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    standing tenant := holder_of(due);
    before tenant := standing;
BEGIN
    standing.delayed := standing.delayed - 1;
    UPDATE job SET state = 'queued', due_at = NULL WHERE job.id = due.id;
    PERFORM append_event(
        due.id, 'job.queued', moment,
        json_build_object('status', 'queued', 'attempt', due.attempt, 'reason', 'retry_due')
    );
    PERFORM push(standing, before, due.model, due.cost, moment);
END $$;

-- One batch of a caretaker's round: the fate of each job, in order. A job whose row is locked is being prolonged.
CREATE FUNCTION recover(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    most integer := (operation->>'batch')::integer;
    before double precision := moment - 86400.0;
    one job;
    fates text[] := '{}';
BEGIN
    FOR one IN
        SELECT * FROM job WHERE job.state IN ('running', 'canceling') AND job.lease_until <= moment
        ORDER BY job.lease_until, job.id LIMIT most FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        fates := fates || take_back(one, 'lease_expired', moment);
    END LOOP;
    FOR one IN
        SELECT * FROM job
        WHERE job.state IN ('queued', 'scheduled') AND job.deadline_at IS NOT NULL AND job.deadline_at <= moment
        ORDER BY job.deadline_at, job.id LIMIT most
    LOOP
        PERFORM expire_waiting(one, moment);
        fates := fates || 'expired'::text;
    END LOOP;
    FOR one IN
        SELECT * FROM job WHERE job.state = 'scheduled' AND job.due_at <= moment
        ORDER BY job.due_at, job.id LIMIT most
    LOOP
        PERFORM promote(one, moment);
        fates := fates || 'promoted'::text;
    END LOOP;
    DELETE FROM idempotency WHERE (idempotency.tenant, idempotency.key) IN (
        SELECT aged.tenant, aged.key FROM idempotency AS aged WHERE aged.created_at <= before
        ORDER BY aged.created_at LIMIT 1000
    );
    DELETE FROM worker WHERE worker.seen_at < before;
    PERFORM forget_tenants(moment, before);
    RETURN to_json(fates);
END $$;

-- Once an hour, forget tenants that have had nothing for long.
CREATE FUNCTION forget_tenants(moment double precision, before double precision) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE meta SET value = moment::text
    WHERE meta.key = 'tenants_forgotten_at' AND abs(moment - meta.value::double precision) >= 3600.0;
    IF FOUND THEN
        DELETE FROM tenant USING pool
        WHERE pool.pool = tenant.pool AND tenant.queued = 0 AND tenant.delayed = 0 AND tenant.running = 0
            AND tenant.since < before;
    END IF;
END $$;

-- Take back one batch of a dead worker's jobs, and forget the worker: the fate of each job. (An order by the bare id
-- would be taken from the index of all jobs there ever were.)
CREATE FUNCTION release(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    one job;
    fates text[] := '{}';
BEGIN
    FOR one IN
        SELECT * FROM job WHERE job.state IN ('running', 'canceling') AND job.worker = operation->>'worker'
        ORDER BY job.id || '' LIMIT (operation->>'batch')::integer FOR NO KEY UPDATE
    LOOP
        fates := fates || take_back(one, 'worker_died', moment);
    END LOOP;
    DELETE FROM worker WHERE worker.id = operation->>'worker';
    RETURN to_json(fates);
END $$;

-- Let no lease end before a moment.
CREATE FUNCTION prolong(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    until double precision := moment + (operation->>'seconds')::double precision;
    touched integer;
BEGIN
    PERFORM 1 FROM job WHERE job.state IN ('running', 'canceling') ORDER BY job.id || '' FOR NO KEY UPDATE;
    UPDATE job SET lease_until = until WHERE job.state IN ('running', 'canceling') AND job.lease_until < until;
    GET DIAGNOSTICS touched = ROW_COUNT;
    RETURN to_json(touched);
END $$;
