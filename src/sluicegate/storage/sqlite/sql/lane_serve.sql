-- One queued job less in a lane, because it was served.
UPDATE lane SET queued = queued - 1, since = :now WHERE pool = :pool AND tenant = :tenant AND model = :model;
