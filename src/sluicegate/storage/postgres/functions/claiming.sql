-- Which job next, and handing it to a worker. Each search is the first row of an index, one for each model or lane.

-- The tenant unserved the longest beyond `guard` seconds among those with jobs for the models; null: none.
CREATE FUNCTION starving(named_pool text, models text[], before double precision) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    who text;
BEGIN
    SELECT first.tenant INTO who
    FROM unnest(models) AS served (model) CROSS JOIN LATERAL (
        SELECT lane.tenant, lane.tenant_since FROM lane
        WHERE lane.pool = named_pool AND lane.model = served.model AND lane.ready > 0 AND lane.tenant_since <= before
        ORDER BY lane.tenant_since, lane.tenant LIMIT 1
    ) AS first
    ORDER BY first.tenant_since, first.tenant LIMIT 1;
    RETURN who;
END $$;

-- The tenant whose turn it is; one with nothing for the loaded models stands `swap_penalty` further back.
CREATE FUNCTION foremost(named_pool text, models text[], loaded text[], swap_penalty double precision) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    who text;
BEGIN
    SELECT first.tenant INTO who
    FROM (SELECT model, model <> ALL (loaded) AS cold FROM unnest(models) AS named (model)) AS served
    CROSS JOIN LATERAL (
        SELECT lane.tenant, lane.vtime FROM lane
        WHERE lane.pool = named_pool AND lane.model = served.model AND lane.ready > 0
        ORDER BY lane.vtime, lane.tenant LIMIT 1
    ) AS first
    ORDER BY
        CASE WHEN served.cold THEN first.vtime + swap_penalty ELSE first.vtime END, served.cold, first.vtime, first.tenant
    LIMIT 1;
    RETURN who;
END $$;

-- Give a queued job to a worker and charge its tenant; the job's row. `lane_jobs`: how many wait in its lane, with it.
-- A claim never makes a tenant ready, so nobody comes back level here.
CREATE FUNCTION hand_over(
    taken text, its_pool text, its_tenant text, its_model text, its_cost double precision, its_paid double precision,
    lane_jobs integer, named_worker text, lease_seconds double precision, moment double precision
) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    its_weight double precision;
    charge double precision;
    tag double precision;
    still_ready boolean;
    given job;
    number bigint;
BEGIN
    UPDATE tenant SET
        queued = tenant.queued - 1, running = tenant.running + 1, since = moment,
        queued_cost = CASE WHEN tenant.queued = 1 THEN 0.0 ELSE tenant.queued_cost - its_cost END,
        vtime = tenant.vtime + (greatest(its_cost / tenant.weight, its_paid) - its_paid)
    WHERE tenant.pool = its_pool AND tenant.tenant = its_tenant
    RETURNING
        tenant.weight, greatest(its_cost / tenant.weight, its_paid), tenant.vtime,
        tenant.queued > 0 AND (tenant.max_running IS NULL OR tenant.running < tenant.max_running)
    INTO STRICT its_weight, charge, tag, still_ready;
    IF lane_jobs = 1 THEN
        DELETE FROM lane WHERE lane.pool = its_pool AND lane.tenant = its_tenant AND lane.model = its_model;
    END IF;
    UPDATE lane SET
        queued = CASE WHEN lane.model = its_model THEN lane.queued - 1 ELSE lane.queued END,
        since = CASE WHEN lane.model = its_model THEN moment ELSE lane.since END,
        ready = still_ready::integer, vtime = tag, tenant_since = moment
    WHERE lane.pool = its_pool AND lane.tenant = its_tenant;
    UPDATE job SET
        state = 'running', attempt = job.attempt + 1, fence = job.fence + 1, worker = named_worker,
        lease_until = moment + lease_seconds, started_at = coalesce(job.started_at, moment), claimed_at = moment,
        paid = charge, weight = its_weight
    WHERE job.id = taken
    RETURNING * INTO STRICT given;
    INSERT INTO attempt (job, fence, number, worker, started_at)
    VALUES (taken, given.fence, given.attempt, named_worker, moment);
    number := append_event(
        taken, 'job.running', moment,
        json_build_object('status', 'running', 'attempt', given.attempt, 'worker', named_worker)
    );
    RETURN row_to_json(given);
END $$;

-- Hand over the job whose turn it is in the first of the pools that has one, expiring the late ones before it.
-- Inside the tenant: of its lane unserved since before `late`, the longest first; else of its lanes for the loaded
-- models; else of any. In the lanes the highest priority, then the oldest id.
CREATE FUNCTION claim(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    models text[] := operation->>'models';
    loaded text[] := operation->>'loaded';
    pools text[] := operation->>'pools';
    late double precision := moment - (operation->>'lane_wait')::double precision;
    budget integer := 100;
    named_pool text;
    clock double precision;
    guard_in integer;
    who text;
    starved boolean;
    head record;
BEGIN
    FOREACH named_pool IN ARRAY pools LOOP
        SELECT pool.vtime, pool.guard_in INTO clock, guard_in FROM pool WHERE pool.pool = named_pool;
        CONTINUE WHEN NOT FOUND;
        LOOP
            IF guard_in <= 0 THEN
                who := starving(named_pool, models, moment - (operation->>'guard')::double precision);
                starved := who IS NOT NULL;
            ELSE
                starved := false;
            END IF;
            IF NOT starved THEN
                who := foremost(named_pool, models, loaded, (operation->>'swap_penalty')::double precision);
            END IF;
            EXIT WHEN who IS NULL;
            SELECT first.*, lane.model, lane.queued INTO STRICT head
            FROM lane CROSS JOIN LATERAL (
                SELECT job.id, job.priority, job.cost, job.paid, job.deadline_at FROM job
                WHERE job.pool = lane.pool AND job.tenant = lane.tenant AND job.model = lane.model
                    AND job.state = 'queued'
                ORDER BY job.priority DESC, job.id LIMIT 1
            ) AS first
            WHERE lane.pool = named_pool AND lane.tenant = who AND lane.model = ANY (models)
            ORDER BY
                lane.since < late DESC,
                CASE WHEN lane.since < late THEN lane.since END, CASE WHEN lane.since < late THEN lane.model END,
                lane.model = ANY (loaded) DESC, first.priority DESC, first.id
            LIMIT 1;
            IF head.deadline_at IS NULL OR head.deadline_at > moment THEN
                clock := tick(
                    named_pool, clock, guard_in,
                    CASE WHEN starved THEN (operation->>'guard_every')::integer - 1 ELSE greatest(0, guard_in - 1) END
                );
                RETURN '{"job":' || hand_over(
                    head.id, named_pool, who, head.model, head.cost, head.paid, head.queued, operation->>'worker',
                    (operation->>'lease_seconds')::double precision, moment
                )::text || '}';
            END IF;
            PERFORM expire_waiting(job, moment) FROM job WHERE job.id = head.id;
            budget := budget - 1;
            IF budget = 0 THEN
                RETURN '{"unfinished":true}'::json;
            END IF;
        END LOOP;
    END LOOP;
    RETURN '{}'::json;
END $$;

-- Move a pool's clock on by one claim, before the claim's own changes; where it then stands.
CREATE FUNCTION tick(
    named_pool text, clock double precision, guard_in integer, guard_next integer
) RETURNS double precision LANGUAGE plpgsql AS $$
DECLARE
    tag double precision := greatest(clock, least_tag(named_pool, NULL));
BEGIN
    IF tag <> clock OR guard_next <> guard_in THEN
        UPDATE pool SET vtime = tag, guard_in = guard_next WHERE pool.pool = named_pool;
    END IF;
    RETURN tag;
END $$;
