-- The time, unless it is given: time.
SELECT moment($1) AS at;
