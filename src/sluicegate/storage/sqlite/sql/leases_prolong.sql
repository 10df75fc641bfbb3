-- Add to every lease.
UPDATE job SET lease_until = lease_until + :seconds WHERE state IN ('running', 'canceling');
