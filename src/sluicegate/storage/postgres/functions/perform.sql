-- Many operations in one transaction.

-- The time: what the caller gives, or this server's clock.
CREATE FUNCTION moment(given double precision) RETURNS double precision LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(given, extract(epoch FROM clock_timestamp())::double precision)
$$;

-- Write something small: a full disk, or a server that only reads, shows itself.
CREATE FUNCTION ping(moment double precision) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO meta (key, value) VALUES ('pinged_at', moment::text)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value;
    RETURN 'null'::json;
END $$;

-- Carry out one operation.
CREATE FUNCTION carry_out(operation jsonb, moment double precision) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    CASE operation->>'op'
        WHEN 'submit' THEN RETURN submit(operation, moment);
        WHEN 'claim' THEN RETURN claim(operation, moment);
        WHEN 'succeed' THEN RETURN succeed(operation, moment);
        WHEN 'heartbeat' THEN RETURN heartbeat(operation, moment);
        WHEN 'report' THEN RETURN report(operation, moment);
        WHEN 'preview' THEN RETURN preview(operation, moment);
        WHEN 'fail' THEN RETURN fail(operation, moment);
        WHEN 'stop' THEN RETURN stop(operation, moment);
        WHEN 'hand_back' THEN RETURN hand_back(operation, moment);
        WHEN 'preempt' THEN RETURN preempt(operation, moment);
        WHEN 'cancel' THEN RETURN cancel(operation, moment);
        WHEN 'recover' THEN RETURN recover(operation, moment);
        WHEN 'release' THEN RETURN release(operation, moment);
        WHEN 'prolong' THEN RETURN prolong(operation, moment);
        WHEN 'add_asset' THEN RETURN add_asset(operation, moment);
        WHEN 'delete_asset' THEN RETURN delete_asset(operation, moment);
        WHEN 'enlist' THEN RETURN enlist(operation, moment);
        WHEN 'dismiss' THEN RETURN dismiss(operation, moment);
        WHEN 'ping' THEN RETURN ping(moment);
    END CASE;
END $$;

-- Carry out operations in order in this one transaction, and answer each with {"result"} or {"error"}. One that is
-- refused undoes only itself; a fault of the server fails all. `scheduling`: they change the queue, so they take the
-- scheduler's lock, one transaction at a time in the whole database. `given`: the time; null: this server's clock.
-- `held`: the jobs whose leases the operations name. Everybody locks several in one order: heartbeats run beside the
-- scheduler.
CREATE FUNCTION perform(operations jsonb, scheduling boolean, given double precision, held text[]) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    now_is double precision;
    answers text[] := '{}';
    state text;
    said text;
    why text;
BEGIN
    IF scheduling THEN
        PERFORM pg_advisory_xact_lock(1936946537, 1);
    END IF;
    IF cardinality(held) > 1 THEN
        PERFORM 1 FROM job WHERE job.id = ANY (held) AND job.lease_until IS NOT NULL ORDER BY job.id FOR NO KEY UPDATE;
    END IF;
    now_is := moment(given);
    FOR place IN 0 .. jsonb_array_length(operations) - 1 LOOP
        BEGIN
            answers := answers || ('{"result":' || carry_out(operations->place, now_is)::text || '}');
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, said = MESSAGE_TEXT, why = PG_EXCEPTION_DETAIL;
            IF left(state, 2) IN ('08', '25', '40', '53', '54', '55', '57', '58', 'XX') THEN
                RAISE;
            END IF;
            answers := answers || (
                '{"error":' || json_build_object('state', state, 'message', said, 'detail', why)::text || '}'
            );
        END;
    END LOOP;
    RETURN '[' || array_to_string(answers, ',') || ']';
END $$;
