-- Remove a lane whose last queued job goes.
DELETE FROM lane WHERE pool = :pool AND tenant = :tenant AND model = :model AND queued = 1;
