-- Operations of a worker: prolong, report, and end an attempt one way or another. Every one names the fence of its
-- claim; a worker whose fence is no longer the job's writes nothing.

-- Prolong what is current, also for work that must stop; say of each lease, in order, what its holder must do.
-- `beats`: pairs of job and fence.
CREATE FUNCTION heartbeat(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    beat jsonb;
    verdicts text[] := '{}';
    prolonged job;
BEGIN
    FOR beat IN SELECT value FROM jsonb_array_elements(operation->'beats') LOOP
        UPDATE job SET lease_until = moment + (operation->>'lease_seconds')::double precision
        WHERE job.id = beat->>0 AND job.fence = (beat->>1)::bigint AND job.worker = operation->>'worker'
            AND job.lease_until IS NOT NULL
        RETURNING * INTO prolonged;
        verdicts := verdicts || CASE WHEN FOUND
            THEN verdict(prolonged.state, prolonged.deadline_at, prolonged.preempting, moment) ELSE 'lost' END;
    END LOOP;
    UPDATE worker SET seen_at = moment WHERE worker.id = operation->>'worker';
    RETURN to_json(verdicts);
END $$;

-- What the holder of a job must do.
CREATE FUNCTION verdict(state text, deadline_at double precision, preempting boolean, moment double precision)
RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN state = 'canceling' THEN 'cancel' WHEN deadline_at <= moment THEN 'expire'
        WHEN preempting THEN 'preempt' ELSE 'keep'
    END
$$;

-- Record the latest progress.
CREATE FUNCTION report(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO progress (job, fence, value, report)
    SELECT job.id, job.fence, (operation->>'value')::double precision, operation->>'report' FROM job
    WHERE job.id = operation->>'job' AND job.fence = (operation->>'fence')::bigint
        AND job.lease_until IS NOT NULL
    ON CONFLICT (job) DO UPDATE SET fence = excluded.fence, value = excluded.value, report = excluded.report
    WHERE progress.fence <= excluded.fence;
    RETURN 'null'::json;
END $$;

-- Add a preview to the job's events.
CREATE FUNCTION preview(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM job
    WHERE job.id = operation->>'job' AND job.fence = (operation->>'fence')::bigint
        AND job.lease_until IS NOT NULL
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 'false'::json;
    END IF;
    PERFORM append_event(operation->>'job', 'job.preview', moment, (operation->>'preview')::json);
    RETURN 'true'::json;
END $$;

-- Record assets, outputs, attempt, charge and event, and end the job.
CREATE FUNCTION succeed(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    ended job := held(operation);
    actual double precision := (operation->>'cost')::double precision;
    assets jsonb := operation->'assets';
    done boolean;
    number bigint;
BEGIN
    IF ended.id IS NULL THEN
        RETURN 'false'::json;
    END IF;
    FOR place IN 0 .. jsonb_array_length(assets) - 1 LOOP
        PERFORM add_asset(assets->place, moment);
    END LOOP;
    done := end_attempt(ended, 'succeeded', NULL, moment);
    number := end_held(
        ended, 'succeeded', actual, moment,
        json_build_object(
            'status', 'succeeded', 'attempt', ended.attempt, 'worker', ended.worker,
            'outputs', (operation->>'outputs')::json, 'backend', operation->>'backend',
            'execution_seconds', (operation->>'execution_seconds')::double precision,
            'degraded', (operation->>'degraded')::json, 'details', (operation->>'details')::json
        ),
        NULL, operation
    );
    done := calibrate(ended.model, ended.task, actual, ended.base_cost, operation->'calibration');
    RETURN 'true'::json;
END $$;

-- Let the next estimates for the model know what this job did cost; true. `constants`: rate, least cost, and the bounds.
CREATE FUNCTION calibrate(
    named_model text, named_task text, actual double precision, estimate double precision, constants jsonb
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    rate double precision := constants->0;
    least_cost double precision := constants->1;
    lowest double precision := constants->2;
    highest double precision := constants->3;
    dearer double precision := actual / greatest(estimate, least_cost);
BEGIN
    INSERT INTO calibration (model, task, kappa, jobs)
    VALUES (named_model, named_task, least(greatest(1.0 + rate * (dearer - 1.0), lowest), highest), 1)
    ON CONFLICT (model, task) DO UPDATE SET
        kappa = least(greatest(calibration.kappa + rate * (dearer - calibration.kappa), lowest), highest),
        jobs = calibration.jobs + 1;
    RETURN true;
END $$;

-- Record a failed attempt; what follows depends on whether another may be made.
CREATE FUNCTION fail(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    failed job := held(operation);
    actual double precision := (operation->>'cost')::double precision;
    why text := operation->>'error';
    due double precision := moment + (operation->>'retry_in')::double precision;
BEGIN
    IF failed.id IS NULL THEN
        RETURN 'false'::json;
    END IF;
    IF failed.state = 'canceling' THEN
        PERFORM withdraw(failed, actual, why, moment);
    ELSIF due IS NOT NULL AND failed.attempt < failed.max_attempts THEN
        PERFORM end_attempt(failed, 'retried', why, moment);
        PERFORM return_held(
            failed, due, failed.attempt, failed.preemptions, moment, 'job.retrying',
            json_build_object(
                'status', 'queued', 'attempt', failed.attempt, 'worker', failed.worker, 'error', why::json,
                'reason', 'failed', 'retry_at', due
            )
        );
    ELSE
        PERFORM end_attempt(failed, 'failed', why, moment);
        PERFORM end_held(
            failed, 'failed', actual, moment,
            json_build_object(
                'status', 'failed', 'attempt', failed.attempt, 'worker', failed.worker, 'error', why::json
            ),
            why
        );
    END IF;
    RETURN 'true'::json;
END $$;

-- End work that was stopped on the store's word. A withdrawal that came after the deadline wins.
CREATE FUNCTION stop(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    stopped job := held(operation);
    actual double precision := (operation->>'cost')::double precision;
BEGIN
    IF stopped.id IS NULL THEN
        RETURN 'false'::json;
    END IF;
    IF stopped.state = 'canceling' THEN
        PERFORM withdraw(stopped, actual, NULL, moment);
    ELSIF operation->>'word' = 'cancel' THEN
        RAISE EXCEPTION USING ERRCODE = 'SG004', MESSAGE = format(
            'job "%s" is %s, from where it cannot become canceled; look at it again', stopped.id, stopped.state
        );
    ELSIF stopped.deadline_at <= moment THEN
        PERFORM expire_held(stopped, 'expired', actual, moment);
    ELSE
        RAISE EXCEPTION USING ERRCODE = 'SG004', MESSAGE = format(
            'job "%s" is %s, and its deadline has not passed; look at it again', stopped.id, stopped.state
        );
    END IF;
    RETURN 'true'::json;
END $$;

-- Return the job to the queue as if the attempt had not been; a withdrawn job ends instead.
CREATE FUNCTION hand_back(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    returned job := held(operation);
    preempted boolean := (operation->>'preempted')::boolean;
    reason text := CASE WHEN preempted THEN 'preempted' ELSE 'handed_back' END;
BEGIN
    IF returned.id IS NULL THEN
        RETURN 'false'::json;
    END IF;
    IF returned.state = 'canceling' THEN
        PERFORM withdraw(returned, 0.0, NULL, moment);
        RETURN 'true'::json;
    END IF;
    PERFORM end_attempt(returned, reason, NULL, moment);
    PERFORM return_held(
        returned, NULL, returned.attempt - 1, returned.preemptions + preempted::integer, moment, 'job.queued',
        json_build_object(
            'status', 'queued', 'attempt', returned.attempt - 1, 'worker', returned.worker, 'reason', reason
        ),
        CASE WHEN preempted THEN (operation->>'setback')::double precision END
    );
    RETURN 'true'::json;
END $$;

-- Have the holder of a running job told to give way, where that is allowed.
CREATE FUNCTION preempt(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    UPDATE job SET preempting = true
    WHERE job.id = operation->>'job' AND job.fence = (operation->>'fence')::bigint
        AND job.lease_until IS NOT NULL AND job.state <> 'canceling'
        AND job.preemptible AND NOT job.preempting AND job.preemptions < (operation->>'most')::integer;
    RETURN to_json(FOUND);
END $$;
