-- Jobs with their attempts, events and latest progress; idempotency keys; assets; workers.
-- Times are seconds since the epoch; text columns that hold a list or an object hold JSON (jsonb refuses U+0000,
-- which a prompt may hold). Names and ids are compared by code point: COLLATE "C".
-- Only the functions write, each after it has looked at the job, so the tables that grow with every job carry no
-- foreign keys: those would lock the job's row, and cost a look-up, for each row written.

CREATE TABLE job (
    id text COLLATE "C" PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (
        state IN ('queued', 'scheduled', 'running', 'canceling', 'succeeded', 'failed', 'canceled', 'expired')
    ),
    model text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    input text NOT NULL,
    priority integer NOT NULL,
    created_at double precision NOT NULL,
    started_at double precision,
    completed_at double precision,
    deadline_at double precision,
    due_at double precision,
    attempt integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL CHECK (max_attempts >= 1),
    fence bigint NOT NULL DEFAULT 0,
    worker text COLLATE "C",
    lease_until double precision,
    backend text,
    execution_seconds double precision,
    outputs text NOT NULL DEFAULT '[]',
    error text,
    degraded text NOT NULL DEFAULT '[]',
    metadata text NOT NULL DEFAULT '{}',
    CHECK (attempt BETWEEN 0 AND max_attempts),
    CHECK ((lease_until IS NOT NULL) = (state IN ('running', 'canceling'))),
    CHECK ((due_at IS NOT NULL) = (state = 'scheduled'))
);

CREATE INDEX job_queue ON job (model, priority DESC, id) WHERE state = 'queued';
CREATE INDEX job_lease ON job (lease_until) WHERE state IN ('running', 'canceling');
CREATE INDEX job_worker ON job (worker) WHERE state IN ('running', 'canceling');
CREATE INDEX job_due ON job (due_at) WHERE state = 'scheduled';
CREATE INDEX job_deadline ON job (deadline_at) WHERE state IN ('queued', 'scheduled') AND deadline_at IS NOT NULL;
CREATE INDEX job_tenant_state ON job (tenant, state, id);
CREATE INDEX job_tenant_model_state ON job (tenant, model, state, id);

CREATE TABLE attempt (
    job text COLLATE "C" NOT NULL,
    fence bigint NOT NULL,
    number integer NOT NULL,
    worker text COLLATE "C" NOT NULL,
    started_at double precision NOT NULL,
    ended_at double precision,
    outcome text COLLATE "C",
    error text,
    PRIMARY KEY (job, fence)
) WITH (fillfactor = 80);

CREATE TABLE job_event (
    job text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    at double precision NOT NULL,
    data text NOT NULL,
    PRIMARY KEY (job, seq)
);

-- Reports are written beside the scheduler, so a row may come a moment after its attempt has ended: whoever reads
-- compares the fence and looks whether the job is still held.
CREATE TABLE progress (
    job text COLLATE "C" PRIMARY KEY,
    fence bigint NOT NULL,
    value double precision NOT NULL,
    report text NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE idempotency (
    tenant text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    job text COLLATE "C" NOT NULL,
    created_at double precision NOT NULL,
    PRIMARY KEY (tenant, key)
);

CREATE INDEX idempotency_age ON idempotency (created_at);

CREATE TABLE asset (
    id text COLLATE "C" PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    content_type text COLLATE "C" NOT NULL,
    size_bytes bigint NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    sha256 text COLLATE "C" NOT NULL,
    created_at double precision NOT NULL
);

CREATE INDEX asset_blob ON asset (sha256);

CREATE TABLE job_asset (
    asset text COLLATE "C" NOT NULL REFERENCES asset (id),
    job text COLLATE "C" NOT NULL REFERENCES job (id),
    PRIMARY KEY (asset, job)
);

CREATE INDEX job_asset_job ON job_asset (job);

-- No index on seen_at: workers are few, and without it a heartbeat rewrites its row in place.
CREATE TABLE worker (
    id text COLLATE "C" PRIMARY KEY,
    host text NOT NULL,
    pid bigint NOT NULL,
    started_at double precision NOT NULL,
    seen_at double precision NOT NULL,
    models text NOT NULL,
    loaded text NOT NULL
) WITH (fillfactor = 50);
