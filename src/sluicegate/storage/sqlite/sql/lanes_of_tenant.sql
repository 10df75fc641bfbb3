-- A tenant's lanes in a pool, longest unserved first.
SELECT model, since FROM lane WHERE pool = :pool AND tenant = :tenant ORDER BY since, model;
