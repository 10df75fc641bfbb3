-- The fair queue: pools with their clocks, tenants with their tags, lanes, the ledger, calibration of costs.
-- Virtual times are reference seconds divided by a tenant's weight. See scheduling/fairness.py for the rule.

DROP TRIGGER job_arrives;
DROP TRIGGER job_moves;
DROP TABLE queue_count;
DROP INDEX job_queue;
DROP INDEX job_tenant;
DROP INDEX job_lease;
DROP INDEX job_worker;
DROP INDEX job_due;
DROP INDEX job_deadline;

ALTER TABLE job ADD COLUMN pool TEXT NOT NULL DEFAULT 'default';
ALTER TABLE job ADD COLUMN tier TEXT NOT NULL DEFAULT 'free';
ALTER TABLE job ADD COLUMN preemptible INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN cost REAL NOT NULL DEFAULT 1.0;
ALTER TABLE job ADD COLUMN base_cost REAL NOT NULL DEFAULT 1.0;
-- Virtual time that the tenant's tag holds for this job, and the weight by which it was charged.
ALTER TABLE job ADD COLUMN paid REAL NOT NULL DEFAULT 0.0;
ALTER TABLE job ADD COLUMN weight REAL NOT NULL DEFAULT 1.0;
ALTER TABLE job ADD COLUMN charged REAL;
ALTER TABLE job ADD COLUMN claimed_at REAL;
ALTER TABLE job ADD COLUMN preempting INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN preemptions INTEGER NOT NULL DEFAULT 0;

-- How often the job changed state. A process of an older version that is still running counts nothing, and is refused:
-- it knows neither lanes nor the ledger, and what it wrote would be lost or never charged.
ALTER TABLE job ADD COLUMN moves INTEGER NOT NULL DEFAULT -1;
UPDATE job SET moves = 0;
CREATE TRIGGER job_comes_from_an_older_version BEFORE INSERT ON job WHEN NEW.moves < 0
BEGIN
    SELECT raise(ABORT, 'a newer Sluicegate has migrated this database: restart this process with the newer version');
END;
CREATE TRIGGER job_is_moved_by_an_older_version BEFORE UPDATE OF state ON job WHEN NEW.moves = OLD.moves
BEGIN
    SELECT raise(ABORT, 'a newer Sluicegate has migrated this database: restart this process with the newer version');
END;

CREATE INDEX job_queue ON job (pool, tenant, model, priority DESC, id) WHERE state = 'queued';
CREATE INDEX job_lease ON job (lease_until, id) WHERE state IN ('running', 'canceling');
CREATE INDEX job_worker ON job (worker, id) WHERE state IN ('running', 'canceling');
CREATE INDEX job_due ON job (due_at, id) WHERE state = 'scheduled';
CREATE INDEX job_deadline ON job (deadline_at, id)
WHERE state IN ('queued', 'scheduled') AND deadline_at IS NOT NULL;

ALTER TABLE worker ADD COLUMN pools TEXT NOT NULL DEFAULT '["default"]';

-- One row a pool: the last least tag, and how many claims must pass before the starvation guard may act again.
CREATE TABLE pool (
    pool TEXT PRIMARY KEY NOT NULL,
    vtime REAL NOT NULL DEFAULT 0.0,
    guard_in INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- One row for each tenant that was ever seen in a pool. since: last served, or came into the race.
CREATE TABLE tenant (
    pool TEXT NOT NULL,
    tenant TEXT NOT NULL,
    tier TEXT NOT NULL,
    weight REAL NOT NULL CHECK (weight > 0),
    max_running INTEGER,
    vtime REAL NOT NULL,
    since REAL NOT NULL,
    queued INTEGER NOT NULL DEFAULT 0 CHECK (queued >= 0),
    queued_cost REAL NOT NULL DEFAULT 0.0,
    delayed INTEGER NOT NULL DEFAULT 0 CHECK (delayed >= 0),
    running INTEGER NOT NULL DEFAULT 0 CHECK (running >= 0),
    PRIMARY KEY (pool, tenant)
) STRICT, WITHOUT ROWID;

CREATE INDEX tenant_idle ON tenant (since) WHERE queued = 0 AND delayed = 0 AND running = 0;

-- One row for each tenant and model with queued jobs. ready: a claim may take from it; vtime and tenant_since are then
-- copies of the tenant's, so that the foremost and the longest unserved are each the first row of an index.
CREATE TABLE lane (
    pool TEXT NOT NULL,
    tenant TEXT NOT NULL,
    model TEXT NOT NULL,
    queued INTEGER NOT NULL CHECK (queued > 0),
    since REAL NOT NULL,
    ready INTEGER NOT NULL,
    vtime REAL NOT NULL,
    tenant_since REAL NOT NULL,
    PRIMARY KEY (pool, tenant, model)
) STRICT, WITHOUT ROWID;

CREATE INDEX lane_clock ON lane (pool, vtime, tenant) WHERE ready = 1;
CREATE INDEX lane_order ON lane (pool, model, vtime, tenant) WHERE ready = 1;
CREATE INDEX lane_guard ON lane (pool, model, tenant_since, tenant) WHERE ready = 1;

-- One row for each job that has ended, written in the transaction that ends it.
CREATE TABLE ledger (
    job TEXT PRIMARY KEY NOT NULL REFERENCES job (id),
    tenant TEXT NOT NULL,
    pool TEXT NOT NULL,
    tier TEXT NOT NULL,
    model TEXT NOT NULL,
    cost REAL NOT NULL,
    at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX ledger_tenant ON ledger (tenant, at, cost);

CREATE TABLE calibration (
    model TEXT NOT NULL,
    task TEXT NOT NULL,
    kappa REAL NOT NULL,
    jobs INTEGER NOT NULL,
    PRIMARY KEY (model, task)
) STRICT, WITHOUT ROWID;

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
WHERE job.state = 'queued' GROUP BY job.pool, job.tenant, job.model;
