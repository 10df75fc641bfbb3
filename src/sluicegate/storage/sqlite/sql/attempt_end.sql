-- Close the record of an attempt.
UPDATE attempt SET ended_at = :now, outcome = :outcome, error = :error
WHERE job = :job AND fence = :fence;
