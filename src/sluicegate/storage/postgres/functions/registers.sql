-- Operations on assets and workers.

-- Record an asset.
CREATE FUNCTION add_asset(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO asset (id, tenant, content_type, size_bytes, width, height, sha256, created_at)
    VALUES (
        operation->>'id', operation->>'tenant', operation->>'content_type', (operation->>'size_bytes')::bigint,
        (operation->>'width')::integer, (operation->>'height')::integer, operation->>'sha256',
        (operation->>'created_at')::double precision
    );
    RETURN 'null'::json;
END $$;

-- Forget a tenant's asset, unless a job that has not ended needs it.
CREATE FUNCTION delete_asset(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    needed_by text;
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM asset WHERE asset.id = operation->>'asset' AND asset.tenant = operation->>'tenant'
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'SG002',
            MESSAGE = format('there is no asset "%s"; check the id', operation->>'asset');
    END IF;
    SELECT job_asset.job INTO needed_by FROM job_asset WHERE job_asset.asset = operation->>'asset' LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'SG004', MESSAGE = format(
            'job "%s" still needs asset "%s"; cancel the job or wait for its end', needed_by, operation->>'asset'
        );
    END IF;
    DELETE FROM asset WHERE asset.id = operation->>'asset';
    RETURN 'null'::json;
END $$;

-- Add or refresh a worker.
CREATE FUNCTION enlist(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO worker (id, host, pid, started_at, seen_at, models, loaded, pools)
    VALUES (
        operation->>'worker', operation->>'host', (operation->>'pid')::bigint,
        (operation->>'started_at')::double precision, moment, operation->>'models', operation->>'loaded',
        operation->>'pools'
    )
    ON CONFLICT (id) DO UPDATE
    SET host = excluded.host, pid = excluded.pid, started_at = excluded.started_at, seen_at = excluded.seen_at,
        models = excluded.models, loaded = excluded.loaded, pools = excluded.pools;
    RETURN 'null'::json;
END $$;

-- Forget a worker.
CREATE FUNCTION dismiss(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM worker WHERE worker.id = operation->>'worker';
    RETURN 'null'::json;
END $$;
