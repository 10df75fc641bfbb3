-- The ways in which a job changes state: with its event, its attempt, its charge and its tenant's standing at once.
-- What every claim and end calls gives a value, though few look at it: PL/pgSQL evaluates an assignment several
-- microseconds sooner than it carries out PERFORM.

-- Write a job's next event, and give its number. Whoever calls has changed or locked the job's row before: nobody else
-- numbers its events.
CREATE FUNCTION append_event(named_job text, named_kind text, moment double precision, said json) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
BEGIN
    INSERT INTO job_event (job, seq, kind, at, data)
    VALUES (
        named_job,
        coalesce(
            (SELECT job_event.seq FROM job_event WHERE job_event.job = named_job ORDER BY job_event.seq DESC LIMIT 1), 0
        ) + 1,
        named_kind, moment, said::text
    )
    RETURNING job_event.seq INTO number;
    RETURN number;
END $$;

-- The job that a lease still holds; null when the lease is stale. A held job is known by its `lease_until` wherever one
-- is looked up by its id: a condition on its state would let the planner walk an index of all that are held.
CREATE FUNCTION held(operation jsonb) RETURNS job LANGUAGE plpgsql AS $$
DECLARE
    found_job job;
BEGIN
    SELECT * INTO found_job FROM job
    WHERE job.id = operation->>'job' AND job.fence = (operation->>'fence')::bigint
        AND job.lease_until IS NOT NULL;
    RETURN found_job;
END $$;

-- Close the record of the attempt that holds the job, and forget its progress; whether there was any.
CREATE FUNCTION end_attempt(held job, said_outcome text, said_error text, moment double precision) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE attempt SET ended_at = moment, outcome = said_outcome, error = said_error
    WHERE attempt.job = held.id AND attempt.fence = held.fence;
    DELETE FROM progress WHERE progress.job = held.id;
    RETURN FOUND;
END $$;

-- Write what an ended job is charged, and let go of the assets that it needed; whether there were any.
CREATE FUNCTION close_account(ended job, actual double precision, moment double precision) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger (job, tenant, pool, tier, model, cost, at)
    VALUES (ended.id, ended.tenant, ended.pool, ended.tier, ended.model, actual, moment);
    DELETE FROM job_asset WHERE job_asset.job = ended.id;
    RETURN FOUND;
END $$;

-- Settle a tenant's tag by `difference` when one of its running jobs has ended; whether a claim may take its work.
CREATE FUNCTION settle(
    named_pool text, named_tenant text, difference double precision, moment double precision
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    standing record;
    was_ready boolean;
    is_ready boolean;
BEGIN
    UPDATE tenant SET running = tenant.running - 1, vtime = tenant.vtime + difference
    WHERE tenant.pool = named_pool AND tenant.tenant = named_tenant
    RETURNING tenant.queued, tenant.running, tenant.max_running, tenant.vtime, tenant.since INTO STRICT standing;
    IF standing.queued = 0 THEN
        RETURN false;
    END IF;
    is_ready := standing.max_running IS NULL OR standing.running < standing.max_running;
    was_ready := standing.max_running IS NULL OR standing.running + 1 < standing.max_running;
    IF is_ready AND NOT was_ready THEN
        standing.vtime := rejoined_tag(named_pool, named_tenant, standing.vtime);
        standing.since := moment;
        UPDATE tenant SET vtime = standing.vtime, since = moment
        WHERE tenant.pool = named_pool AND tenant.tenant = named_tenant;
    END IF;
    IF is_ready <> was_ready OR difference <> 0.0 THEN
        UPDATE lane SET ready = is_ready::integer, vtime = standing.vtime, tenant_since = standing.since
        WHERE lane.pool = named_pool AND lane.tenant = named_tenant;
    END IF;
    RETURN is_ready;
END $$;

-- End a job that a worker held: settle the tag at its actual cost. `outcome` fills the columns of a success. Gives the
-- number of the event.
CREATE FUNCTION end_held(
    held job, to_state text, actual double precision, moment double precision, said json, said_error text,
    outcome jsonb DEFAULT NULL
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    settled double precision := actual / held.weight;
    done boolean;
BEGIN
    UPDATE job SET
        state = to_state, lease_until = NULL, preempting = false, completed_at = moment, charged = actual,
        paid = settled, error = coalesce(said_error, job.error),
        backend = coalesce(outcome->>'backend', job.backend),
        execution_seconds = coalesce((outcome->>'execution_seconds')::double precision, job.execution_seconds),
        outputs = coalesce(outcome->>'outputs', job.outputs), degraded = coalesce(outcome->>'degraded', job.degraded),
        details = coalesce(outcome->>'details', job.details)
    WHERE job.id = held.id;
    done := close_account(held, actual, moment);
    done := settle(held.pool, held.tenant, settled - held.paid, moment);
    RETURN append_event(held.id, 'job.' || to_state, moment, said);
END $$;

-- End a job that no worker holds. Nothing is charged.
CREATE FUNCTION end_waiting(waiting job, to_state text, moment double precision, said json, said_error text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    standing tenant := holder_of(waiting);
    before tenant := standing;
    refunded double precision;
    left_paid double precision;
BEGIN
    IF waiting.state = 'queued' THEN
        standing := pull(standing, waiting);
    ELSE
        standing.delayed := standing.delayed - 1;
    END IF;
    refunded := refunded_tag(standing, waiting.paid, NULL);
    left_paid := waiting.paid - (standing.vtime - refunded);
    standing.vtime := refunded;
    UPDATE job SET
        state = to_state, due_at = NULL, completed_at = moment, charged = 0.0, paid = left_paid,
        error = coalesce(said_error, job.error)
    WHERE job.id = waiting.id;
    PERFORM append_event(waiting.id, 'job.' || to_state, moment, said);
    PERFORM close_account(waiting, 0.0, moment);
    PERFORM keep(standing, before, moment);
END $$;

-- Let a job that a worker held wait again, at once or (`due`) later, and refund its charge.
CREATE FUNCTION return_held(
    held job, due double precision, number integer, preemptions integer, moment double precision, kind text, said json,
    setback double precision DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    standing tenant := holder_of(held);
    before tenant := standing;
    refunded double precision;
    left_paid double precision;
BEGIN
    standing.running := standing.running - 1;
    refunded := refunded_tag(standing, held.paid, setback);
    left_paid := held.paid - (standing.vtime - refunded);
    standing.vtime := refunded;
    UPDATE job SET
        state = CASE WHEN due IS NULL THEN 'queued' ELSE 'scheduled' END, lease_until = NULL, worker = NULL,
        preempting = false, due_at = due, paid = left_paid, attempt = number,
        preemptions = return_held.preemptions
    WHERE job.id = held.id;
    PERFORM append_event(held.id, kind, moment, said);
    IF due IS NULL THEN
        PERFORM push(standing, before, held.model, held.cost, moment);
    ELSE
        standing.delayed := standing.delayed + 1;
        PERFORM keep(standing, before, moment);
    END IF;
END $$;

-- End a job whose caller withdrew it while a worker held it.
CREATE FUNCTION withdraw(held job, actual double precision, said_error text, moment double precision) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM end_attempt(held, 'canceled', said_error, moment);
    PERFORM end_held(
        held, 'canceled', actual, moment,
        json_build_object('status', 'canceled', 'attempt', held.attempt, 'worker', held.worker), NULL
    );
END $$;

-- Why a job is too late.
CREATE FUNCTION lateness(late job) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'code', 'deadline_exceeded',
        'message', 'the job did not end within its deadline'
            || coalesce(' of ' || trim_scale(round((late.deadline_at - late.created_at)::numeric, 3)) || ' s', '')
            || '; allow it more time',
        'details', '{}'::json
    )
$$;

-- End a job that waited past its deadline.
CREATE FUNCTION expire_waiting(late job, moment double precision) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    why json := lateness(late);
BEGIN
    PERFORM end_waiting(
        late, 'expired', moment, json_build_object('status', 'expired', 'attempt', late.attempt, 'error', why), why::text
    );
END $$;

-- End a job that ran past its deadline.
CREATE FUNCTION expire_held(late job, outcome text, actual double precision, moment double precision) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    why json := lateness(late);
BEGIN
    PERFORM end_attempt(late, outcome, why::text, moment);
    PERFORM end_held(
        late, 'expired', actual, moment,
        json_build_object('status', 'expired', 'attempt', late.attempt, 'error', why), why::text
    );
END $$;
