-- name: rate_units
-- The first vote of units that no window has counted. An insert that always meets its row: so each unit is found by its
-- key, in an order in which two batches cannot deadlock, where an update would read all units while statistics are old
INSERT INTO bindu_dspy.units AS u (
    agent_id, experiment_id, unit_id, arm, epoch, first_at, rated_at, rater_id
)
SELECT :agent_id::text, g.experiment_id, g.unit_id, k.arm, k.epoch, k.first_at, g.rated_at, g.rater_id
FROM (
    SELECT *
    FROM unnest(:experiment_ids::integer[], :unit_ids::text[], :rated_ats::timestamptz[], :rater_ids::text[])
        AS g (experiment_id, unit_id, rated_at, rater_id)
    ORDER BY experiment_id, unit_id
) AS g
CROSS JOIN LATERAL (
    SELECT arm, epoch, first_at
    FROM bindu_dspy.units
    WHERE agent_id = :agent_id AND experiment_id = g.experiment_id AND unit_id = g.unit_id
    OFFSET 0
) AS k
ON CONFLICT (agent_id, experiment_id, unit_id) DO UPDATE
SET rated_at = excluded.rated_at, rater_id = excluded.rater_id
WHERE u.counted_window IS NULL AND (u.rated_at IS NULL OR excluded.rated_at < u.rated_at)

-- name: first_answers
-- Unit by unit and task by task (offset 0 keeps it so), as joins might read all of them
SELECT g.unit_id, t.history
FROM unnest(:unit_ids::text[]) AS g (unit_id)
CROSS JOIN LATERAL (
    SELECT first_task
    FROM bindu_dspy.units
    WHERE agent_id = :agent_id AND experiment_id = :experiment_id AND unit_id = g.unit_id
    OFFSET 0
) AS u
CROSS JOIN LATERAL (
    SELECT history::text AS history
    FROM bindu_dspy.tasks
    WHERE agent_id = :agent_id AND id = u.first_task
    OFFSET 0
) AS t

-- name: set_judged
-- As rate_units
INSERT INTO bindu_dspy.units AS u (agent_id, experiment_id, unit_id, arm, epoch, first_at, judged)
SELECT :agent_id::text, :experiment_id::integer, g.unit_id, k.arm, k.epoch, k.first_at, g.judged
FROM (
    SELECT *
    FROM unnest(:unit_ids::text[], :judged::double precision[]) AS g (unit_id, judged)
    ORDER BY unit_id
) AS g
CROSS JOIN LATERAL (
    SELECT arm, epoch, first_at
    FROM bindu_dspy.units
    WHERE agent_id = :agent_id AND experiment_id = :experiment_id AND unit_id = g.unit_id
    OFFSET 0
) AS k
ON CONFLICT (agent_id, experiment_id, unit_id) DO UPDATE
SET judged = excluded.judged
WHERE u.first_window IS NULL AND u.judged IS NULL

-- name: close_window
-- Windows are closed in order: no row for one that is closed already
UPDATE bindu_dspy.experiments
SET evidence = :evidence::jsonb, closed_window = :closed_window
WHERE agent_id = :agent_id
    AND id = :experiment_id
    AND (closed_window IS NULL OR closed_window < :closed_window::integer)
RETURNING id

-- name: close_units
-- As rate_units. What a window took in or counted, no later one changes; a judge's score that came since does not count
INSERT INTO bindu_dspy.units AS u (
    agent_id, experiment_id, unit_id, arm, epoch, first_at, first_window, judged, counted_window, kind, rater_id,
    rated_at, score
)
SELECT
    :agent_id::text, :experiment_id::integer, g.unit_id, k.arm, k.epoch, k.first_at, g.first_window, g.judged,
    g.counted_window, g.kind, g.rater_id, g.rated_at, g.score
FROM (
    SELECT *
    FROM unnest(
        :unit_ids::text[], :first_windows::integer[], :judged::double precision[], :counted_windows::integer[],
        :kinds::text[], :rater_ids::text[], :rated_ats::timestamptz[], :scores::double precision[]
    ) AS g (unit_id, first_window, judged, counted_window, kind, rater_id, rated_at, score)
    ORDER BY unit_id
) AS g
CROSS JOIN LATERAL (
    SELECT arm, epoch, first_at
    FROM bindu_dspy.units
    WHERE agent_id = :agent_id AND experiment_id = :experiment_id AND unit_id = g.unit_id
    OFFSET 0
) AS k
ON CONFLICT (agent_id, experiment_id, unit_id) DO UPDATE
SET first_window = coalesce(u.first_window, excluded.first_window),
    judged = CASE
        WHEN u.first_window IS NULL AND excluded.first_window IS NOT NULL THEN excluded.judged
        ELSE u.judged
    END,
    counted_window = coalesce(u.counted_window, excluded.counted_window),
    kind = coalesce(u.kind, excluded.kind),
    rater_id = CASE WHEN u.counted_window IS NULL THEN coalesce(excluded.rater_id, u.rater_id) ELSE u.rater_id END,
    rated_at = CASE WHEN u.counted_window IS NULL THEN coalesce(excluded.rated_at, u.rated_at) ELSE u.rated_at END,
    score = CASE WHEN u.counted_window IS NULL THEN excluded.score ELSE u.score END

-- name: evidence
SELECT evidence FROM bindu_dspy.experiments WHERE agent_id = :agent_id AND id = :experiment_id

-- name: new_units
SELECT unit_id, arm, epoch, first_at, failed, refused, latency_ms, cost, judged
FROM bindu_dspy.units
WHERE agent_id = :agent_id AND experiment_id = :experiment_id AND first_window IS NULL AND first_at <= :until
ORDER BY first_at, unit_id COLLATE "C"

-- name: rated_units
-- One row per vote. Unit by unit (offset 0 keeps it so), as a join would read the votes of all units.
-- A unit whose first vote was deleted is rated by the next one, without any it is not
SELECT u.unit_id, u.arm, u.epoch, u.first_at, v.rated_at, v.task_id, v.rater_id, v.kind, v.score, v.created_at AS at
FROM bindu_dspy.units AS u
CROSS JOIN LATERAL (
    SELECT f.id, f.task_id, f.rater_id, f.kind, f.score, f.created_at, min(f.created_at) OVER () AS rated_at
    FROM bindu_dspy.task_feedback AS f
    WHERE f.agent_id = :agent_id AND f.experiment_id = :experiment_id AND f.unit_id = u.unit_id
    OFFSET 0
) AS v
WHERE u.agent_id = :agent_id
    AND u.experiment_id = :experiment_id
    AND u.rated_at <= :until
    AND u.counted_window IS NULL
    AND u.first_at <= :until
    AND v.rated_at <= :until
ORDER BY v.rated_at, u.unit_id COLLATE "C", v.created_at, v.id

-- name: last_counted
SELECT g.rater_id, u.rated_at
FROM unnest(:rater_ids::text[]) AS g (rater_id)
CROSS JOIN LATERAL (
    SELECT rated_at
    FROM bindu_dspy.units
    WHERE agent_id = :agent_id
        AND experiment_id = :experiment_id
        AND rater_id = g.rater_id
        AND rater_id <> ''
        AND score IS NOT NULL
    ORDER BY rated_at DESC
    LIMIT 1
) AS u

-- name: share_changes
SELECT row_number() OVER (ORDER BY id) - 1 AS epoch, share_after AS share, at
FROM bindu_dspy.decisions
WHERE agent_id = :agent_id
    AND experiment_id = :experiment_id
    AND (verdict = 'open' OR share_before <> share_after)
ORDER BY id

-- name: first_requests
SELECT
    unit_id, arm, epoch, first_at, failed, refused, latency_ms, cost, judged,
    first_window AS "window"
FROM bindu_dspy.units
WHERE agent_id = :agent_id AND experiment_id = :experiment_id AND first_window IS NOT NULL
ORDER BY first_window, unit_id COLLATE "C"

-- name: counted_units
SELECT unit_id, arm, epoch, counted_window AS "window", kind, rater_id, rated_at, score
FROM bindu_dspy.units
WHERE agent_id = :agent_id AND experiment_id = :experiment_id AND counted_window IS NOT NULL
ORDER BY counted_window, unit_id COLLATE "C"

-- name: counted_votes
-- Unit by unit, as rated_units
SELECT u.unit_id, v.task_id, v.rater_id, v.kind, v.score, v.created_at AS at
FROM bindu_dspy.units AS u
CROSS JOIN LATERAL (
    SELECT f.id, f.task_id, f.rater_id, f.kind, f.score, f.created_at
    FROM bindu_dspy.task_feedback AS f
    WHERE f.agent_id = :agent_id AND f.experiment_id = :experiment_id AND f.unit_id = u.unit_id
    OFFSET 0
) AS v
WHERE u.agent_id = :agent_id AND u.experiment_id = :experiment_id AND u.counted_window IS NOT NULL
ORDER BY u.unit_id COLLATE "C", v.created_at, v.id

-- name: first_units
SELECT min(first_at) AS first_at
FROM bindu_dspy.units
WHERE agent_id = :agent_id AND experiment_id = :experiment_id

-- name: crossed_units
-- By time, as no index knows a task's experiment; then unit by unit, as rated_units
SELECT count(DISTINCT t.unit_id) AS crossed
FROM bindu_dspy.experiments AS e
CROSS JOIN LATERAL (
    SELECT DISTINCT unit_id, prompt_id
    FROM bindu_dspy.tasks
    WHERE agent_id = :agent_id
        AND id >= :first_id::uuid
        AND experiment_id = :experiment_id
        AND prompt_id IN (e.active_id, e.candidate_id)
) AS t
CROSS JOIN LATERAL (
    SELECT arm
    FROM bindu_dspy.units
    WHERE agent_id = :agent_id AND experiment_id = :experiment_id AND unit_id = t.unit_id
    OFFSET 0
) AS u
WHERE e.agent_id = :agent_id
    AND e.id = :experiment_id
    AND u.arm <> CASE t.prompt_id WHEN e.candidate_id THEN 'candidate' ELSE 'active' END

-- name: barred_texts
SELECT p.id AS prompt_id, p.prompt_text AS text, e.id AS experiment_id, e.outcome
FROM bindu_dspy.experiments AS e
JOIN bindu_dspy.prompts AS p ON p.agent_id = e.agent_id AND p.id = e.candidate_id
WHERE e.agent_id = :agent_id
    AND e.outcome <> 'promoted'
    AND p.status = 'rolled_back'
    AND p.origin <> :free_origin
ORDER BY e.id DESC
LIMIT :limit

-- name: rated_tasks
-- Of tasks recorded since an id
SELECT count(DISTINCT task_id) AS tasks, min(created_at) AS since
FROM bindu_dspy.task_feedback
WHERE agent_id = :agent_id
    AND task_id >= :first_id::uuid
    AND task_id < :end_id::uuid
    AND created_at <= :now

-- name: recent_requests
SELECT latency_ms, usage::text AS usage
FROM bindu_dspy.tasks
WHERE agent_id = :agent_id AND prompt_id = :prompt_id AND id >= :first_id::uuid AND id < :end_id::uuid
ORDER BY id DESC
LIMIT :limit
