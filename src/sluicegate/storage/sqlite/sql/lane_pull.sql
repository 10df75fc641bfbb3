-- One queued job less in a lane.
UPDATE lane SET queued = queued - 1 WHERE pool = :pool AND tenant = :tenant AND model = :model;
