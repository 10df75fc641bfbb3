-- Begin a pool's clock.
INSERT INTO pool (pool) VALUES (:pool) ON CONFLICT (pool) DO NOTHING;
