-- Let no lease end before a moment.
UPDATE job SET lease_until = :until WHERE state IN ('running', 'canceling') AND lease_until < :until;
