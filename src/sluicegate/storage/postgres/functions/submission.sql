-- Operations of the one who wants the work done: submit and cancel.

-- The job that came with a tenant's key within 24 h; null when there is none.
CREATE FUNCTION earlier(named_tenant text, named_key text, named_digest text, moment double precision) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    known idempotency;
BEGIN
    SELECT * INTO known FROM idempotency
    WHERE idempotency.tenant = named_tenant AND idempotency.key = named_key
        AND idempotency.created_at > moment - 86400.0;
    IF known.digest <> named_digest THEN
        RAISE EXCEPTION USING ERRCODE = 'SG003', MESSAGE =
            format('Idempotency-Key "%s" came with another body for job "%s"; use a new key', named_key, known.job);
    END IF;
    RETURN known.job;
END $$;

-- A job as its owner sees it.
CREATE FUNCTION shown(named_job text) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    found_job job;
    latest text;
BEGIN
    SELECT * INTO STRICT found_job FROM job WHERE job.id = named_job;
    IF found_job.state IN ('running', 'canceling') THEN
        SELECT progress.report INTO latest FROM progress
        WHERE progress.job = found_job.id AND progress.fence = found_job.fence;
    END IF;
    RETURN json_build_object(
        'job', row_to_json(found_job), 'report', latest,
        'jobs_ahead', CASE WHEN found_job.state = 'queued' THEN
            place_of(found_job.pool, found_job.tenant, found_job.priority, found_job.id) END
    );
END $$;

-- Refuse a job beyond what the tenant's tier grants to wait. `waiting`, `work`: jobs and seconds, this one included.
CREATE FUNCTION refuse_more(operation jsonb, waiting integer, work double precision) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF waiting > (operation->>'queued_jobs')::integer THEN
        RAISE EXCEPTION USING ERRCODE = 'SG005', MESSAGE = format(
            '%s of your jobs wait in pool "%s", and tier "%s" grants %s; wait for some to end, or cancel some',
            waiting - 1, operation->>'pool', operation->>'tier', operation->>'queued_jobs'
        );
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'SG005', MESSAGE = format(
        '%s s of your work would wait in pool "%s", and tier "%s" grants %s s; wait for some to end, or cancel some',
        round(work::numeric), operation->>'pool', operation->>'tier', (operation->>'queued_cost')::double precision
    );
END $$;

-- Keep the tenant's assets for as long as the job lives. `assets`: pairs of field and asset.
CREATE FUNCTION pin(assets jsonb, named_tenant text, named_job text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    pair jsonb;
BEGIN
    FOR pair IN SELECT value FROM jsonb_array_elements(assets) LOOP
        IF NOT EXISTS (SELECT 1 FROM asset WHERE asset.id = pair->>1 AND asset.tenant = named_tenant) THEN
            RAISE EXCEPTION USING ERRCODE = 'SG002',
                MESSAGE = format('%s: no asset "%s"; upload it first', pair->>0, pair->>1);
        END IF;
        INSERT INTO job_asset (asset, job) VALUES (pair->>1, named_job) ON CONFLICT (asset, job) DO NOTHING;
    END LOOP;
END $$;

-- Put one more queued job on the account of its tenant and into its lane, within the tenant's bounds, which are those of
-- the operation from now on; how many of the tenant's jobs are then queued.
CREATE FUNCTION admit(operation jsonb, cost double precision, moment double precision) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    named_tenant text := operation->>'tenant';
    named_pool text := operation->>'pool';
    cap integer := (operation->>'max_running')::integer;
    was_ready boolean;
    is_ready boolean;
    standing record;
BEGIN
    SELECT
        tenant.queued, tenant.queued_cost, tenant.delayed, tenant.running, tenant.max_running, tenant.vtime,
        tenant.since
    INTO standing FROM tenant WHERE tenant.pool = named_pool AND tenant.tenant = named_tenant;
    IF NOT FOUND THEN
        INSERT INTO pool (pool) VALUES (named_pool) ON CONFLICT (pool) DO NOTHING;
        INSERT INTO tenant (pool, tenant, tier, weight, vtime, since)
        VALUES (named_pool, named_tenant, operation->>'tier', (operation->>'weight')::double precision, 0.0, moment)
        RETURNING * INTO standing;
    END IF;
    IF standing.queued + standing.delayed >= (operation->>'queued_jobs')::integer
        OR standing.queued > 0 AND standing.queued_cost + cost > (operation->>'queued_cost')::double precision
    THEN
        PERFORM refuse_more(operation, standing.queued + standing.delayed + 1, standing.queued_cost + cost);
    END IF;
    was_ready := standing.queued > 0 AND (standing.max_running IS NULL OR standing.running < standing.max_running);
    is_ready := cap IS NULL OR standing.running < cap;
    IF is_ready AND NOT was_ready THEN
        standing.vtime := rejoined_tag(named_pool, named_tenant, standing.vtime);
        standing.since := moment;
    END IF;
    UPDATE tenant SET
        tier = operation->>'tier', weight = (operation->>'weight')::double precision, max_running = cap,
        vtime = standing.vtime, since = standing.since, queued = standing.queued + 1,
        queued_cost = standing.queued_cost + cost
    WHERE tenant.pool = named_pool AND tenant.tenant = named_tenant;
    IF is_ready <> was_ready AND standing.queued > 0 THEN
        UPDATE lane SET ready = is_ready::integer, vtime = standing.vtime, tenant_since = standing.since
        WHERE lane.pool = named_pool AND lane.tenant = named_tenant;
    END IF;
    UPDATE lane SET queued = lane.queued + 1
    WHERE lane.pool = named_pool AND lane.tenant = named_tenant AND lane.model = operation->>'model';
    IF NOT FOUND THEN
        INSERT INTO lane (pool, tenant, model, queued, since, ready, vtime, tenant_since)
        VALUES (
            named_pool, named_tenant, operation->>'model', 1, moment, is_ready::integer, standing.vtime, standing.since
        );
    END IF;
    RETURN standing.queued + 1;
END $$;

-- Store a job, or find the one that came with the same key.
CREATE FUNCTION submit(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    named_job text := operation->>'job';
    named_tenant text := operation->>'tenant';
    its_priority integer := (operation->>'priority')::integer;
    its_cost double precision := (operation->>'cost')::double precision;
    deadline double precision := moment + (operation->>'deadline_seconds')::double precision;
    has_key boolean := operation ? 'key';
    known text;
    waiting integer;
BEGIN
    IF has_key THEN
        known := earlier(named_tenant, operation->>'key', operation->>'digest', moment);
        IF known IS NOT NULL THEN
            RETURN shown(known);
        END IF;
    END IF;
    waiting := admit(operation, its_cost, moment);
    INSERT INTO job (
        id, tenant, state, model, task, pool, tier, input, priority, cost, base_cost, preemptible, created_at,
        deadline_at, max_attempts, metadata
    )
    VALUES (
        named_job, named_tenant, 'queued', operation->>'model', operation->>'task', operation->>'pool',
        operation->>'tier', operation->>'input', its_priority, its_cost, (operation->>'base_cost')::double precision,
        (operation->>'preemptible')::boolean, moment, deadline, (operation->>'max_attempts')::integer,
        operation->>'metadata'
    );
    INSERT INTO job_event (job, seq, kind, at, data) VALUES (named_job, 1, 'job.queued', moment, '{"status":"queued"}');
    IF operation ? 'assets' THEN
        PERFORM pin(operation->'assets', named_tenant, named_job);
    END IF;
    IF has_key THEN
        INSERT INTO idempotency (tenant, key, digest, job, created_at)
        VALUES (named_tenant, operation->>'key', operation->>'digest', named_job, moment)
        ON CONFLICT (tenant, key) DO UPDATE
        SET digest = excluded.digest, job = excluded.job, created_at = excluded.created_at;
    END IF;
    RETURN json_build_object(
        'created_at', moment, 'deadline_at', deadline,
        'jobs_ahead', jobs_ahead(operation->>'pool', named_tenant, waiting, its_priority, named_job)
    );
END $$;

-- Withdraw a tenant's job: at once when it waits, through its worker when it runs.
CREATE FUNCTION cancel(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    found_job job;
BEGIN
    SELECT * INTO found_job FROM job WHERE job.id = operation->>'job' AND job.tenant = operation->>'tenant';
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'SG001',
            MESSAGE = format('there is no job "%s"; check the id', operation->>'job');
    END IF;
    IF found_job.state IN ('queued', 'scheduled') THEN
        PERFORM end_waiting(
            found_job, 'canceled', moment, json_build_object('status', 'canceled', 'attempt', found_job.attempt), NULL
        );
    ELSIF found_job.state = 'running' THEN
        UPDATE job SET state = 'canceling' WHERE job.id = found_job.id;
        PERFORM append_event(
            found_job.id, 'job.canceling', moment,
            json_build_object('status', 'canceling', 'attempt', found_job.attempt, 'worker', found_job.worker)
        );
    END IF;
    RETURN shown(found_job.id);
END $$;
