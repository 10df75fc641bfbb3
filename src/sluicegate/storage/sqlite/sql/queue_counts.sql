-- Jobs that have not ended, by model and state.
SELECT model, state, sum(jobs) AS jobs FROM queue_count
GROUP BY model, state
ORDER BY model, state;
