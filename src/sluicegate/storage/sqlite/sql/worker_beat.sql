-- Note that a worker has been heard.
UPDATE worker SET seen_at = :now WHERE id = :id;
