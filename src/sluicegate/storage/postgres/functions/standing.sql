-- Tenants' standings in the fair queue: how each change of a job moves its tenant's tag, counts and lanes.
-- The rule is that of scheduling/fairness.py; the additions and divisions of floats are in the same order.
-- A tenant's row is read once, changed in a variable and kept once. What happens to every job (`admit`, `hand_over`,
-- `settle`) does the same with single values instead: rows are copied at each call. Every caller holds the scheduler's
-- lock.

-- Whether a claim may take the tenant's work.
CREATE FUNCTION is_ready(standing tenant) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT standing.queued > 0 AND (standing.max_running IS NULL OR standing.running < standing.max_running)
$$;

-- The standing of the tenant whose job it is.
CREATE FUNCTION holder_of(held job) RETURNS tenant LANGUAGE plpgsql AS $$
DECLARE
    standing tenant;
BEGIN
    SELECT * INTO STRICT standing FROM tenant WHERE tenant.pool = held.pool AND tenant.tenant = held.tenant;
    RETURN standing;
END $$;

-- The least tag of the tenants that are ready, one excepted; else the pool's last.
CREATE FUNCTION least_tag(named_pool text, besides text) RETURNS double precision LANGUAGE plpgsql AS $$
DECLARE
    tag double precision;
BEGIN
    SELECT lane.vtime INTO tag FROM lane
    WHERE lane.pool = named_pool AND lane.ready = 1 AND lane.tenant IS DISTINCT FROM besides
    ORDER BY lane.vtime, lane.tenant LIMIT 1;
    IF NOT FOUND THEN
        SELECT pool.vtime INTO tag FROM pool WHERE pool.pool = named_pool;
    END IF;
    RETURN coalesce(tag, 0.0);
END $$;

-- The tag of a tenant that was out of the race and comes back level with the others. The pool's clock follows their
-- least tag, so that it does not fall when all who are ready leave without a claim.
CREATE FUNCTION rejoined_tag(named_pool text, named_tenant text, tag double precision) RETURNS double precision
LANGUAGE plpgsql AS $$
DECLARE
    others double precision := least_tag(named_pool, named_tenant);
BEGIN
    UPDATE pool SET vtime = others WHERE pool.pool = named_pool AND pool.vtime < others;
    RETURN greatest(tag, others);
END $$;

-- Write the standing, which was `before`, and tell its lanes what has changed for them. A tenant that was out of the
-- race comes back level with the others.
CREATE FUNCTION keep(INOUT standing tenant, before tenant, moment double precision) LANGUAGE plpgsql AS $$
DECLARE
    now_ready smallint := is_ready(standing)::integer;
    was_ready smallint := is_ready(before)::integer;
BEGIN
    IF standing.queued = 0 THEN
        standing.queued_cost := 0.0;
    END IF;
    IF now_ready > was_ready THEN
        standing.vtime := rejoined_tag(standing.pool, standing.tenant, standing.vtime);
        standing.since := moment;
    END IF;
    UPDATE tenant SET
        tier = standing.tier, weight = standing.weight, max_running = standing.max_running, vtime = standing.vtime,
        since = standing.since, queued = standing.queued, queued_cost = standing.queued_cost,
        delayed = standing.delayed, running = standing.running
    WHERE tenant.pool = standing.pool AND tenant.tenant = standing.tenant;
    IF standing.queued > 0
        AND (now_ready <> was_ready OR standing.vtime <> before.vtime OR standing.since <> before.since)
    THEN
        UPDATE lane SET ready = now_ready, vtime = standing.vtime, tenant_since = standing.since
        WHERE lane.pool = standing.pool AND lane.tenant = standing.tenant
            AND (lane.ready <> now_ready OR lane.vtime <> standing.vtime OR lane.tenant_since <> standing.since);
    END IF;
END $$;

-- Keep a standing that has one more queued job, and put the job in its lane.
CREATE FUNCTION push(
    INOUT standing tenant, before tenant, named_model text, cost double precision, moment double precision
) LANGUAGE plpgsql AS $$
BEGIN
    standing.queued := standing.queued + 1;
    standing.queued_cost := standing.queued_cost + cost;
    standing := keep(standing, before, moment);
    INSERT INTO lane (pool, tenant, model, queued, since, ready, vtime, tenant_since)
    VALUES (
        standing.pool, standing.tenant, named_model, 1, moment, is_ready(standing)::integer, standing.vtime,
        standing.since
    )
    ON CONFLICT (pool, tenant, model) DO UPDATE SET queued = lane.queued + 1;
END $$;

-- Take a job out of its lane that nobody serves. The standing is the caller's to keep.
CREATE FUNCTION pull(INOUT standing tenant, taken job) LANGUAGE plpgsql AS $$
BEGIN
    standing.queued := standing.queued - 1;
    standing.queued_cost := standing.queued_cost - taken.cost;
    UPDATE lane SET queued = lane.queued - 1
    WHERE lane.pool = taken.pool AND lane.tenant = taken.tenant AND lane.model = taken.model AND lane.queued > 1;
    IF NOT FOUND THEN
        DELETE FROM lane WHERE lane.pool = taken.pool AND lane.tenant = taken.tenant AND lane.model = taken.model;
    END IF;
END $$;

-- The tag when a job's payment is given back, as far as its tenant does not come before the others for it; a tenant
-- whose job gave way goes behind them by `setback`, else null.
CREATE FUNCTION refunded_tag(
    standing tenant, paid double precision, setback double precision
) RETURNS double precision LANGUAGE plpgsql AS $$
BEGIN
    IF setback IS NOT NULL THEN
        RETURN greatest(standing.vtime - paid, least_tag(standing.pool, standing.tenant) + setback);
    END IF;
    IF paid = 0.0 THEN
        RETURN standing.vtime;
    END IF;
    RETURN greatest(standing.vtime - paid, least(standing.vtime, least_tag(standing.pool, standing.tenant)));
END $$;

-- How many of a tenant's `waiting` queued jobs come before one of them, counted up to a thousand. Whoever has just been
-- submitted mostly stands last: then the last of each lane tells it. Else a few are counted from behind first.
CREATE FUNCTION jobs_ahead(
    named_pool text, named_tenant text, waiting integer, its_priority integer, its_id text
) RETURNS integer LANGUAGE plpgsql STABLE AS $$
DECLARE
    counted integer;
BEGIN
    IF waiting <= 1 THEN
        RETURN 0;
    END IF;
    PERFORM 1 FROM lane CROSS JOIN LATERAL (
        SELECT job.priority, job.id FROM job
        WHERE job.pool = lane.pool AND job.tenant = lane.tenant AND job.model = lane.model AND job.state = 'queued'
        ORDER BY job.priority, job.id DESC LIMIT 1
    ) AS last
    WHERE lane.pool = named_pool AND lane.tenant = named_tenant
        AND (last.priority < its_priority OR last.priority = its_priority AND last.id > its_id)
    LIMIT 1;
    IF NOT FOUND THEN
        RETURN least(waiting - 1, 1000);
    END IF;
    SELECT count(*) INTO counted FROM (
        SELECT 1 FROM lane CROSS JOIN LATERAL (
            (SELECT 1 FROM job
            WHERE job.pool = lane.pool AND job.tenant = lane.tenant AND job.model = lane.model
                AND job.state = 'queued' AND job.priority = its_priority AND job.id > its_id LIMIT 256)
            UNION ALL
            (SELECT 1 FROM job
            WHERE job.pool = lane.pool AND job.tenant = lane.tenant AND job.model = lane.model
                AND job.state = 'queued' AND job.priority < its_priority LIMIT 256)
        ) AS behind
        WHERE lane.pool = named_pool AND lane.tenant = named_tenant LIMIT 256
    ) AS those;
    IF counted < 256 THEN
        RETURN least(waiting - 1 - counted, 1000);
    END IF;
    SELECT count(*) INTO counted FROM (
        SELECT 1 FROM lane CROSS JOIN LATERAL (
            (SELECT 1 FROM job
            WHERE job.pool = lane.pool AND job.tenant = lane.tenant AND job.model = lane.model
                AND job.state = 'queued' AND job.priority > its_priority LIMIT 1000)
            UNION ALL
            (SELECT 1 FROM job
            WHERE job.pool = lane.pool AND job.tenant = lane.tenant AND job.model = lane.model
                AND job.state = 'queued' AND job.priority = its_priority AND job.id < its_id LIMIT 1000)
        ) AS ahead
        WHERE lane.pool = named_pool AND lane.tenant = named_tenant LIMIT 1000
    ) AS those;
    RETURN counted;
END $$;

-- The same for one whose tenant's account was not read yet.
CREATE FUNCTION place_of(named_pool text, named_tenant text, its_priority integer, its_id text) RETURNS integer
LANGUAGE plpgsql STABLE AS $$
DECLARE
    waiting integer;
BEGIN
    SELECT tenant.queued INTO waiting FROM tenant WHERE tenant.pool = named_pool AND tenant.tenant = named_tenant;
    RETURN jobs_ahead(named_pool, named_tenant, waiting, its_priority, its_id);
END $$;
