-- name: task_partitions
-- The months there are partitions of, whosever tasks they hold
SELECT c.relname::text AS name
FROM pg_inherits AS i
JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass('bindu_dspy.tasks')
ORDER BY c.relname

-- name: lock_pruning
-- One month at a time, whoever drops it; held until the transaction ends
SELECT pg_advisory_xact_lock(hashtextextended('bindu_dspy.pruning', 0))

-- name: first_running
SELECT min(started_at) AS started_at FROM bindu_dspy.experiments WHERE state = 'running'

-- name: count_month
SELECT
    (SELECT count(*) FROM bindu_dspy.tasks WHERE id >= :first_id::uuid AND id < :end_id::uuid) AS tasks,
    (
        SELECT count(*) FROM bindu_dspy.task_feedback WHERE task_id >= :first_id::uuid AND task_id < :end_id::uuid
    ) AS votes,
    (SELECT count(*) FROM bindu_dspy.remarks WHERE task_id >= :first_id::uuid AND task_id < :end_id::uuid) AS remarks,
    (SELECT count(*) FROM bindu_dspy.task_keys WHERE task_id >= :first_id::uuid AND task_id < :end_id::uuid) AS keys

-- name: delete_month_remarks
DELETE FROM bindu_dspy.remarks WHERE task_id >= :first_id::uuid AND task_id < :end_id::uuid

-- name: delete_month_keys
DELETE FROM bindu_dspy.task_keys WHERE task_id >= :first_id::uuid AND task_id < :end_id::uuid

-- name: touch_serving
-- Whoever looked at the running experiment before looks again; the row stays locked until the transaction ends
UPDATE bindu_dspy.serving
SET version = version + 1
WHERE agent_id = :agent_id AND experiment_id IS NOT NULL
RETURNING version

-- name: contexts_of_unit
-- By no index: one read of the agent's tasks
SELECT id, context_id FROM bindu_dspy.tasks WHERE agent_id = :agent_id AND unit_id = :unit_id

-- name: tasks_of_contexts
SELECT id
FROM bindu_dspy.tasks
WHERE agent_id = :agent_id AND context_id = ANY (:context_ids::text[])

-- name: lock_person_tasks
-- Sorted, as whoever votes locks them
SELECT id, unit_id, context_id, history::text AS history
FROM bindu_dspy.tasks
WHERE agent_id = :agent_id AND id = ANY (:task_ids::uuid[])
ORDER BY id
FOR UPDATE

-- name: delete_votes
-- Those on some tasks, and those of a rater, who is found by no index: one read of the agent's votes
DELETE FROM bindu_dspy.task_feedback
WHERE agent_id = :agent_id AND (task_id = ANY (:task_ids::uuid[]) OR rater_id = :rater_id::text)
RETURNING experiment_id, unit_id, rater_id, comment, feedback_data ->> 'comment' AS said,
    feedback_data ->> 'correction' AS correction

-- name: delete_remarks
DELETE FROM bindu_dspy.remarks
WHERE agent_id = :agent_id AND (task_id = ANY (:task_ids::uuid[]) OR rater_id = :rater_id::text)
RETURNING rater_id, comment, correction

-- name: delete_task_keys
DELETE FROM bindu_dspy.task_keys
WHERE agent_id = :agent_id AND task_id = ANY (:task_ids::uuid[])
RETURNING external_id

-- name: delete_tasks
DELETE FROM bindu_dspy.tasks WHERE agent_id = :agent_id AND id = ANY (:task_ids::uuid[])

-- name: rate_again
-- Units that no window has counted are rated by the first vote that is left, or by none
UPDATE bindu_dspy.units AS u
SET rated_at = v.rated_at, rater_id = v.rater_id
FROM unnest(:experiment_ids::integer[], :unit_ids::text[]) AS g (experiment_id, unit_id)
LEFT JOIN LATERAL (
    SELECT f.created_at AS rated_at, f.rater_id
    FROM bindu_dspy.task_feedback AS f
    WHERE f.agent_id = :agent_id AND f.experiment_id = g.experiment_id AND f.unit_id = g.unit_id
    ORDER BY f.created_at, f.id
    LIMIT 1
) AS v ON true
WHERE u.agent_id = :agent_id
    AND u.experiment_id = g.experiment_id
    AND u.unit_id = g.unit_id
    AND u.counted_window IS NULL

-- name: units_of_person
SELECT experiment_id, unit_id = :unit_id::text AS is_unit, rater_id = :rater_id::text AS is_rater
FROM bindu_dspy.units
WHERE agent_id = :agent_id AND (unit_id = :unit_id::text OR rater_id = :rater_id::text)

-- name: beside_unit
-- The units whose values stand in one row with the unit's: its own place among them has to stay
SELECT o.unit_id
FROM bindu_dspy.units AS u
JOIN bindu_dspy.units AS o
    ON o.agent_id = u.agent_id
    AND o.experiment_id = u.experiment_id
    AND o.unit_id <> u.unit_id
    AND o.epoch = u.epoch
    AND o.arm = u.arm
    AND (o.first_window = u.first_window OR (o.counted_window = u.counted_window AND o.kind = u.kind))
WHERE u.agent_id = :agent_id AND u.experiment_id = :experiment_id AND u.unit_id = :unit_id

-- name: rename_unit
UPDATE bindu_dspy.units
SET unit_id = :name::text,
    rater_id = CASE rater_id WHEN :unit_id::text THEN :name ELSE rater_id END,
    first_task = NULL
WHERE agent_id = :agent_id AND experiment_id = :experiment_id AND unit_id = :unit_id

-- name: rename_rater
-- One name per experiment: what was counted stays one person's
UPDATE bindu_dspy.units
SET rater_id = :name
WHERE agent_id = :agent_id AND experiment_id = :experiment_id AND rater_id = :rater_id

-- name: running_runs
SELECT id FROM bindu_dspy.training_runs WHERE agent_id = :agent_id AND state = 'running' ORDER BY id

-- name: run_records
SELECT id, state, reason, step, cancel_reason, details::text AS details
FROM bindu_dspy.training_runs
WHERE agent_id = :agent_id
ORDER BY id
FOR UPDATE

-- name: rewrite_run
UPDATE bindu_dspy.training_runs
SET reason = :reason, step = :step, cancel_reason = :cancel_reason, details = :details::jsonb
WHERE agent_id = :agent_id AND id = :run_id::uuid

-- name: rubric_records
SELECT id, rules::text AS rules FROM bindu_dspy.rubrics WHERE agent_id = :agent_id ORDER BY id FOR UPDATE

-- name: rewrite_rubric
UPDATE bindu_dspy.rubrics SET rules = :rules::jsonb WHERE agent_id = :agent_id AND id = :rubric_id
