-- Jobs with their attempts, events and latest progress; idempotency keys; assets; workers.
-- Times are seconds since the epoch; columns that hold a list or an object hold JSON.

CREATE TABLE job (
    id TEXT PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL,
    state TEXT NOT NULL CHECK (
        state IN ('queued', 'scheduled', 'running', 'canceling', 'succeeded', 'failed', 'canceled', 'expired')
    ),
    model TEXT NOT NULL,
    task TEXT NOT NULL,
    input TEXT NOT NULL,
    priority INTEGER NOT NULL,
    created_at REAL NOT NULL,
    started_at REAL,
    completed_at REAL,
    deadline_at REAL,
    due_at REAL,
    attempt INTEGER NOT NULL DEFAULT 0 CHECK (attempt BETWEEN 0 AND max_attempts),
    max_attempts INTEGER NOT NULL CHECK (max_attempts >= 1),
    fence INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    lease_until REAL,
    backend TEXT,
    execution_seconds REAL,
    outputs TEXT NOT NULL DEFAULT '[]',
    error TEXT,
    degraded TEXT NOT NULL DEFAULT '[]',
    metadata TEXT NOT NULL DEFAULT '{}',
    CHECK ((lease_until IS NOT NULL) = (state IN ('running', 'canceling'))),
    CHECK ((due_at IS NOT NULL) = (state = 'scheduled'))
) STRICT;

CREATE INDEX job_queue ON job (model, priority DESC, id) WHERE state = 'queued';
CREATE INDEX job_lease ON job (lease_until) WHERE state IN ('running', 'canceling');
CREATE INDEX job_worker ON job (worker) WHERE state IN ('running', 'canceling');
CREATE INDEX job_due ON job (due_at) WHERE state = 'scheduled';
CREATE INDEX job_deadline ON job (deadline_at) WHERE state IN ('queued', 'scheduled') AND deadline_at IS NOT NULL;
CREATE INDEX job_tenant ON job (tenant, id);
CREATE INDEX job_tenant_state ON job (tenant, state, id);
CREATE INDEX job_tenant_model_state ON job (tenant, model, state, id);

CREATE TABLE queue_count (
    model TEXT NOT NULL,
    state TEXT NOT NULL,
    priority INTEGER NOT NULL,
    jobs INTEGER NOT NULL CHECK (jobs >= 0),
    PRIMARY KEY (model, state, priority)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER job_arrives AFTER INSERT ON job
BEGIN
    INSERT INTO queue_count (model, state, priority, jobs) VALUES (NEW.model, NEW.state, NEW.priority, 1)
    ON CONFLICT (model, state, priority) DO UPDATE SET jobs = jobs + 1;
END;

CREATE TRIGGER job_moves AFTER UPDATE OF state ON job WHEN NEW.state <> OLD.state
BEGIN
    UPDATE queue_count SET jobs = jobs - 1
    WHERE model = OLD.model AND state = OLD.state AND priority = OLD.priority;
    DELETE FROM queue_count
    WHERE model = OLD.model AND state = OLD.state AND priority = OLD.priority AND jobs = 0;
    INSERT INTO queue_count (model, state, priority, jobs)
    SELECT NEW.model, NEW.state, NEW.priority, 1
    WHERE NEW.state IN ('queued', 'scheduled', 'running', 'canceling')
    ON CONFLICT (model, state, priority) DO UPDATE SET jobs = jobs + 1;
END;

CREATE TABLE attempt (
    job TEXT NOT NULL REFERENCES job (id),
    fence INTEGER NOT NULL,
    number INTEGER NOT NULL,
    worker TEXT NOT NULL,
    started_at REAL NOT NULL,
    ended_at REAL,
    outcome TEXT,
    error TEXT,
    PRIMARY KEY (job, fence)
) STRICT, WITHOUT ROWID;

CREATE TABLE job_event (
    job TEXT NOT NULL REFERENCES job (id),
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    at REAL NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (job, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE progress (
    job TEXT PRIMARY KEY NOT NULL REFERENCES job (id),
    report TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    digest TEXT NOT NULL,
    job TEXT NOT NULL REFERENCES job (id),
    created_at REAL NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_age ON idempotency (created_at);

CREATE TABLE asset (
    id TEXT PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX asset_blob ON asset (sha256);

CREATE TABLE job_asset (
    asset TEXT NOT NULL REFERENCES asset (id),
    job TEXT NOT NULL REFERENCES job (id),
    PRIMARY KEY (asset, job)
) STRICT, WITHOUT ROWID;

CREATE INDEX job_asset_job ON job_asset (job);

CREATE TABLE worker (
    id TEXT PRIMARY KEY NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started_at REAL NOT NULL,
    seen_at REAL NOT NULL,
    models TEXT NOT NULL,
    loaded TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX worker_seen ON worker (seen_at);
