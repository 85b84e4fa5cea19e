-- name: claim_task_keys
INSERT INTO bindu_dspy.task_keys (agent_id, external_id, task_id)
SELECT :agent_id::text, k.external_id, k.task_id
FROM unnest(:external_ids::text[], :task_ids::uuid[]) AS k (external_id, task_id)
ORDER BY k.external_id
ON CONFLICT (agent_id, external_id) DO NOTHING

-- name: task_keys
SELECT external_id, task_id
FROM bindu_dspy.task_keys
WHERE agent_id = :agent_id AND external_id = ANY (:external_ids::text[])

-- name: insert_tasks
-- The tasks, and of each unit seen for the first time its arm and how that went.
-- Sorted, so that two batches cannot deadlock
WITH given AS (
    SELECT * FROM unnest(
        :ids::uuid[], :prompt_ids::integer[], :experiment_ids::integer[], :epochs::integer[], :unit_ids::text[],
        :context_ids::text[], :states::text[], :histories::jsonb[], :usages::jsonb[],
        :latencies::double precision[], :created_ats::timestamptz[], :refused::boolean[], :costs::double precision[]
    ) WITH ORDINALITY AS t (
        id, prompt_id, experiment_id, epoch, unit_id, context_id, state, history, usage, latency_ms, created_at,
        refused, cost, place
    )
), stored AS (
    INSERT INTO bindu_dspy.tasks (
        agent_id, id, prompt_id, experiment_id, epoch, unit_id, context_id, state, history, usage, latency_ms,
        created_at
    )
    SELECT
        :agent_id::text, id, prompt_id, experiment_id, epoch, unit_id, context_id, state, history, usage, latency_ms,
        coalesce(created_at, now())
    FROM given
    ORDER BY id
    ON CONFLICT (agent_id, id) DO NOTHING
), firsts AS (
    SELECT DISTINCT ON (g.experiment_id, g.unit_id)
        g.experiment_id, g.unit_id, g.id AS first_task, g.epoch, g.created_at, g.state = 'failed' AS failed,
        g.refused, g.latency_ms, g.cost,
        CASE g.prompt_id WHEN e.candidate_id THEN 'candidate' ELSE 'active' END AS arm
    FROM given AS g
    JOIN bindu_dspy.experiments AS e
        ON e.agent_id = :agent_id AND e.id = g.experiment_id AND g.prompt_id IN (e.active_id, e.candidate_id)
    ORDER BY g.experiment_id, g.unit_id, g.place
)
INSERT INTO bindu_dspy.units (
    agent_id, experiment_id, unit_id, first_task, arm, epoch, first_at, failed, refused, latency_ms, cost
)
SELECT
    :agent_id::text, experiment_id, unit_id, first_task, arm, epoch, coalesce(created_at, now()), failed, refused,
    latency_ms, cost
FROM firsts
ORDER BY experiment_id, unit_id
ON CONFLICT (agent_id, experiment_id, unit_id) DO NOTHING

-- name: unknown_prompts
SELECT asked.id
FROM unnest(:prompt_ids::integer[]) AS asked (id)
LEFT JOIN bindu_dspy.prompts AS p ON p.agent_id = :agent_id AND p.id = asked.id
WHERE p.id IS NULL
ORDER BY asked.id

-- name: find_tasks
-- Ours by our id, else by the caller's
SELECT asked.external_id, coalesce(t.id, k.task_id) AS task_id
FROM unnest(:external_ids::text[], :task_ids::uuid[]) AS asked (external_id, task_id)
LEFT JOIN bindu_dspy.tasks AS t ON t.agent_id = :agent_id AND t.id = asked.task_id
LEFT JOIN bindu_dspy.task_keys AS k ON k.agent_id = :agent_id AND k.external_id = asked.external_id AND t.id IS NULL
WHERE coalesce(t.id, k.task_id) IS NOT NULL

-- name: latest_task
SELECT id
FROM bindu_dspy.tasks
WHERE agent_id = :agent_id AND context_id = :context_id
ORDER BY id DESC
LIMIT 1

-- name: lock_tasks
-- Whoever holds a task's lock is the only one who votes on it; sorted, so that two batches cannot deadlock
SELECT id, prompt_id, experiment_id, unit_id, now() AS now
FROM bindu_dspy.tasks
WHERE agent_id = :agent_id AND id = ANY (:task_ids::uuid[])
ORDER BY id
FOR NO KEY UPDATE

-- name: votes_of_tasks
-- Those that count and those that may come again: the earlier ones of a rater may be many
SELECT
    task_id, id, rater_id, idempotency_key, created_at, superseded_by IS NULL AS current, kind, score,
    feedback_data::text AS data
FROM bindu_dspy.task_feedback
WHERE agent_id = :agent_id AND task_id = ANY (:task_ids::uuid[])
    AND (superseded_by IS NULL OR id = ANY (:ids::uuid[]) OR idempotency_key = ANY (:keys::text[]))
UNION ALL
SELECT task_id, id, rater_id, idempotency_key, created_at, false, NULL, NULL, NULL
FROM bindu_dspy.remarks
WHERE agent_id = :agent_id AND task_id = ANY (:task_ids::uuid[])
    AND (id = ANY (:ids::uuid[]) OR idempotency_key = ANY (:keys::text[]))

-- name: insert_remarks
INSERT INTO bindu_dspy.remarks (
    agent_id, task_id, id, rater_id, comment, correction, idempotency_key, created_at
)
SELECT :agent_id::text, r.*
FROM unnest(
    :task_ids::uuid[], :ids::uuid[], :rater_ids::text[], :comments::text[], :corrections::text[],
    :idempotency_keys::text[], :created_ats::timestamptz[]
) AS r

-- name: supersede_votes
UPDATE bindu_dspy.task_feedback AS f
SET superseded_by = g.superseded_by
FROM unnest(:task_ids::uuid[], :ids::uuid[], :superseded_bys::uuid[]) AS g (task_id, id, superseded_by)
WHERE f.agent_id = :agent_id AND f.task_id = g.task_id AND f.id = g.id

-- name: insert_votes
INSERT INTO bindu_dspy.task_feedback (
    agent_id, task_id, id, prompt_id, experiment_id, unit_id, rater_id, kind, score, feedback_data, comment,
    idempotency_key, superseded_by, created_at
)
SELECT :agent_id::text, v.*
FROM unnest(
    :task_ids::uuid[], :ids::uuid[], :prompt_ids::integer[], :experiment_ids::integer[], :unit_ids::text[],
    :rater_ids::text[], :kinds::text[], :scores::double precision[], :datas::jsonb[], :comments::text[],
    :idempotency_keys::text[], :superseded_bys::uuid[], :created_ats::timestamptz[]
) AS v

-- name: read_tasks
-- One page of the newest completed tasks before an id, with the votes that count
SELECT t.id, t.prompt_id, t.unit_id, t.context_id, t.created_at, t.history::text AS history, v.votes
FROM bindu_dspy.tasks AS t
LEFT JOIN LATERAL (
    SELECT
        avg(f.score) AS score,
        json_agg(json_build_object(
            'kind', f.kind, 'score', f.score, 'rater_id', f.rater_id, 'comment', f.comment,
            'correction', f.feedback_data ->> 'correction'
        ) ORDER BY f.id) AS votes
    FROM bindu_dspy.task_feedback AS f
    WHERE f.agent_id = t.agent_id AND f.task_id = t.id AND f.superseded_by IS NULL
) AS v ON true
WHERE t.agent_id = :agent_id
    AND t.id < :before::uuid
    AND t.state = 'completed'
    AND (NOT :require_feedback::boolean OR v.score IS NOT NULL)
    AND (v.score IS NULL OR v.score >= :min_score::double precision OR v.score < :failed_below::double precision)
ORDER BY t.id DESC
LIMIT :limit

-- name: read_earlier
-- What was said in the same conversation before a task: the latest 50 exchanges, in time order
SELECT t.id, json_agg(e.history ORDER BY e.id) AS earlier
FROM unnest(:task_ids::uuid[], :context_ids::text[]) AS t (id, context_id)
CROSS JOIN LATERAL (
    SELECT id, history
    FROM bindu_dspy.tasks
    WHERE agent_id = :agent_id AND context_id = t.context_id AND id < t.id AND state = 'completed'
    ORDER BY id DESC
    LIMIT 50
) AS e
GROUP BY t.id

-- name: count_tasks
-- Each task is counted under the first reason that keeps it out. Lateral, so that a table without statistics does not
-- become a nested loop over all votes
WITH scored AS (
    SELECT t.state = 'completed' AS completed, v.score
    FROM bindu_dspy.tasks AS t
    LEFT JOIN LATERAL (
        SELECT avg(f.score) AS score
        FROM bindu_dspy.task_feedback AS f
        WHERE f.agent_id = t.agent_id AND f.task_id = t.id AND f.superseded_by IS NULL
    ) AS v ON true
    WHERE t.agent_id = :agent_id
)
SELECT
    count(*) AS tasks,
    count(*) FILTER (WHERE NOT completed) AS not_completed,
    count(*) FILTER (WHERE completed AND score IS NULL AND :require_feedback::boolean) AS without_feedback,
    count(*) FILTER (
        WHERE completed AND score >= :failed_below::double precision AND score < :min_score::double precision
    ) AS below_threshold
FROM scored
