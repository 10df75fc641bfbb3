-- Write something small: a full or read-only disk shows itself.
INSERT INTO meta (key, value) VALUES ('pinged_at', CAST(:now AS TEXT))
ON CONFLICT (key) DO UPDATE SET value = excluded.value;
