-- The fair queue: pools with their clocks, tenants with their tags, lanes, the ledger, calibration of costs.
-- Virtual times are reference seconds divided by a tenant's weight. See scheduling/fairness.py for the rule.

DROP INDEX job_queue;

ALTER TABLE job ADD COLUMN pool text COLLATE "C" NOT NULL DEFAULT 'default';
ALTER TABLE job ADD COLUMN tier text COLLATE "C" NOT NULL DEFAULT 'free';
ALTER TABLE job ADD COLUMN preemptible boolean NOT NULL DEFAULT false;
ALTER TABLE job ADD COLUMN cost double precision NOT NULL DEFAULT 1.0;
ALTER TABLE job ADD COLUMN base_cost double precision NOT NULL DEFAULT 1.0;
-- Virtual time that the tenant's tag holds for this job, and the weight by which it was charged.
ALTER TABLE job ADD COLUMN paid double precision NOT NULL DEFAULT 0.0;
ALTER TABLE job ADD COLUMN weight double precision NOT NULL DEFAULT 1.0;
ALTER TABLE job ADD COLUMN charged double precision;
ALTER TABLE job ADD COLUMN claimed_at double precision;
ALTER TABLE job ADD COLUMN preempting boolean NOT NULL DEFAULT false;
ALTER TABLE job ADD COLUMN preemptions integer NOT NULL DEFAULT 0;

-- Ended jobs stay in the table: none of the indexes that the queue walks holds them. A job's row is never rewritten in
-- place (its state stands in the indexes' conditions), so room is left for nothing, and dead rows are cleared by count
-- rather than by their share of a table that only grows.
CREATE INDEX job_queue ON job (pool, tenant, model, priority DESC, id) WHERE state = 'queued';
ALTER TABLE job SET (
    autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 20000,
    autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 5000
);

ALTER TABLE worker ADD COLUMN pools text NOT NULL DEFAULT '["default"]';

-- One row a pool: the last least tag, and how many claims must pass before the starvation guard may act again.
CREATE TABLE pool (
    pool text COLLATE "C" PRIMARY KEY,
    vtime double precision NOT NULL DEFAULT 0.0,
    guard_in integer NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 500);

-- One row for each tenant that was ever seen in a pool. since: last served, or came into the race.
-- The key is the only index: every change is made in place.
CREATE TABLE tenant (
    pool text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    tier text COLLATE "C" NOT NULL,
    weight double precision NOT NULL CHECK (weight > 0),
    max_running integer,
    vtime double precision NOT NULL,
    since double precision NOT NULL,
    queued integer NOT NULL DEFAULT 0 CHECK (queued >= 0),
    queued_cost double precision NOT NULL DEFAULT 0.0,
    delayed integer NOT NULL DEFAULT 0 CHECK (delayed >= 0),
    running integer NOT NULL DEFAULT 0 CHECK (running >= 0),
    PRIMARY KEY (pool, tenant)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

-- One row for each tenant and model with queued jobs. ready 1: a claim may take from it; vtime and tenant_since are then
-- copies of the tenant's, so that the foremost and the longest unserved are each the first row of an index.
CREATE TABLE lane (
    pool text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL,
    queued integer NOT NULL CHECK (queued > 0),
    since double precision NOT NULL,
    ready smallint NOT NULL CHECK (ready IN (0, 1)),
    vtime double precision NOT NULL,
    tenant_since double precision NOT NULL,
    PRIMARY KEY (pool, tenant, model)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

-- The conditions say the same in two ways, so that a search within one model (ready > 0) cannot be planned as a walk
-- along the clock of all models, whatever the statistics are.
CREATE INDEX lane_clock ON lane (pool, vtime, tenant) WHERE ready = 1;
CREATE INDEX lane_order ON lane (pool, model, vtime, tenant) WHERE ready > 0;
CREATE INDEX lane_guard ON lane (pool, model, tenant_since, tenant) WHERE ready > 0;

-- One row for each job that has ended, written in the transaction that ends it.
CREATE TABLE ledger (
    job text COLLATE "C" PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    pool text COLLATE "C" NOT NULL,
    tier text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL,
    cost double precision NOT NULL,
    at double precision NOT NULL
);

CREATE INDEX ledger_tenant ON ledger (tenant, at, cost);

CREATE TABLE calibration (
    model text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    kappa double precision NOT NULL,
    jobs bigint NOT NULL,
    PRIMARY KEY (model, task)
) WITH (fillfactor = 50);

-- When the caretaker last looked for tenants to forget.
INSERT INTO meta (key, value) VALUES ('tenants_forgotten_at', '0');

-- What an earlier version left: its jobs keep their order; work that has ended was charged what it took.
UPDATE job SET claimed_at = started_at WHERE state IN ('running', 'canceling');
UPDATE job SET charged = coalesce(execution_seconds, 0.0)
WHERE state IN ('succeeded', 'failed', 'canceled', 'expired');
INSERT INTO ledger (job, tenant, pool, tier, model, cost, at)
SELECT id, tenant, pool, tier, model, charged, coalesce(completed_at, created_at) FROM job WHERE charged IS NOT NULL;
INSERT INTO pool (pool) VALUES ('default');
INSERT INTO tenant (pool, tenant, tier, weight, vtime, since, queued, queued_cost, delayed, running)
SELECT
    pool, tenant, 'free', 1.0, 0.0, min(created_at), count(*) FILTER (WHERE state = 'queued'),
    coalesce(sum(cost) FILTER (WHERE state = 'queued'), 0.0), count(*) FILTER (WHERE state = 'scheduled'),
    count(*) FILTER (WHERE state IN ('running', 'canceling'))
FROM job GROUP BY pool, tenant;
INSERT INTO lane (pool, tenant, model, queued, since, ready, vtime, tenant_since)
SELECT job.pool, job.tenant, job.model, count(*), min(job.created_at), 1, 0.0, tenant.since
FROM job JOIN tenant ON tenant.pool = job.pool AND tenant.tenant = job.tenant
WHERE job.state = 'queued' GROUP BY job.pool, job.tenant, job.model, tenant.since;
