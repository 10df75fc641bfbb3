-- Forget workers that were silent for long.
DELETE FROM worker WHERE seen_at < :before;
