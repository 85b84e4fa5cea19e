-- What the code that came with migration 0001 writes with, as it was released: newer schemas must take it too.

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
-- The tasks, and the arm of each unit seen for the first time. Sorted, so that two batches cannot deadlock
WITH given AS (
    SELECT * FROM unnest(
        :ids::uuid[], :prompt_ids::integer[], :experiment_ids::integer[], :epochs::integer[], :unit_ids::text[],
        :context_ids::text[], :states::text[], :histories::jsonb[], :usages::jsonb[],
        :latencies::double precision[], :created_ats::timestamptz[]
    ) WITH ORDINALITY AS t (
        id, prompt_id, experiment_id, epoch, unit_id, context_id, state, history, usage, latency_ms, created_at, place
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
        g.experiment_id, g.unit_id, g.epoch, g.created_at,
        CASE g.prompt_id WHEN e.candidate_id THEN 'candidate' ELSE 'active' END AS arm
    FROM given AS g
    JOIN bindu_dspy.experiments AS e
        ON e.agent_id = :agent_id AND e.id = g.experiment_id AND g.prompt_id IN (e.active_id, e.candidate_id)
    ORDER BY g.experiment_id, g.unit_id, g.place
)
INSERT INTO bindu_dspy.units (agent_id, experiment_id, unit_id, arm, epoch, first_at)
SELECT :agent_id::text, experiment_id, unit_id, arm, epoch, coalesce(created_at, now())
FROM firsts
ORDER BY experiment_id, unit_id
ON CONFLICT (agent_id, experiment_id, unit_id) DO NOTHING

-- name: lock_tasks
-- Whoever holds a task's lock is the only one who votes on it; sorted, so that two batches cannot deadlock
SELECT id, prompt_id, unit_id, now() AS now
FROM bindu_dspy.tasks
WHERE agent_id = :agent_id AND id = ANY (:task_ids::uuid[])
ORDER BY id
FOR NO KEY UPDATE

-- name: supersede_votes
UPDATE bindu_dspy.task_feedback AS f
SET superseded_by = g.superseded_by
FROM unnest(:task_ids::uuid[], :ids::uuid[], :superseded_bys::uuid[]) AS g (task_id, id, superseded_by)
WHERE f.agent_id = :agent_id AND f.task_id = g.task_id AND f.id = g.id

-- name: insert_votes
INSERT INTO bindu_dspy.task_feedback (
    agent_id, task_id, id, prompt_id, unit_id, rater_id, kind, score, feedback_data, comment, idempotency_key,
    superseded_by, created_at
)
SELECT :agent_id::text, v.*
FROM unnest(
    :task_ids::uuid[], :ids::uuid[], :prompt_ids::integer[], :unit_ids::text[], :rater_ids::text[], :kinds::text[],
    :scores::double precision[], :datas::jsonb[], :comments::text[], :idempotency_keys::text[],
    :superseded_bys::uuid[], :created_ats::timestamptz[]
) AS v

-- name: set_serving
-- Compare and swap: the version it was decided on, or no row
UPDATE bindu_dspy.serving
SET active_id = :active_id,
    candidate_id = :candidate_id,
    candidate_share = :candidate_share,
    experiment_id = :experiment_id,
    version = version + 1
WHERE agent_id = :agent_id AND version = :expected_version
RETURNING version

-- name: insert_experiment
INSERT INTO bindu_dspy.experiments (agent_id, id, active_id, candidate_id, policy, state, epoch, started_at)
SELECT
    :agent_id::text,
    coalesce((SELECT max(id) FROM bindu_dspy.experiments WHERE agent_id = :agent_id), 0) + 1,
    :active_id::integer,
    :candidate_id::integer,
    :policy::jsonb,
    'running',
    0,
    coalesce(:now::timestamptz, now())
RETURNING agent_id, id, active_id, candidate_id, policy, state, outcome, reason, epoch, started_at, ended_at

-- name: next_epoch
UPDATE bindu_dspy.experiments SET epoch = epoch + 1 WHERE agent_id = :agent_id AND id = :experiment_id

-- name: end_experiment
UPDATE bindu_dspy.experiments
SET state = 'ended', outcome = :outcome, reason = :reason, ended_at = coalesce(:now::timestamptz, now())
WHERE agent_id = :agent_id AND id = :experiment_id

-- name: insert_decision
INSERT INTO bindu_dspy.decisions (
    agent_id, id, experiment_id, "window", verdict, share_before, share_after, reason, inputs, evidence,
    rule, rule_version, code_version, actor, at
)
SELECT
    :agent_id::text,
    coalesce((SELECT max(id) FROM bindu_dspy.decisions WHERE agent_id = :agent_id), 0) + 1,
    :experiment_id::integer,
    coalesce((
        SELECT max("window") FROM bindu_dspy.decisions
        WHERE agent_id = :agent_id AND experiment_id = :experiment_id
    ), -1) + 1,
    :verdict::text,
    :share_before::double precision,
    :share_after::double precision,
    :reason::text,
    :inputs::jsonb,
    :evidence::jsonb,
    :rule::text,
    :rule_version::integer,
    :code_version::text,
    :actor::text,
    coalesce(:now::timestamptz, now())
RETURNING
    agent_id, id, experiment_id, "window", verdict, share_before, share_after, reason, inputs, evidence,
    rule, rule_version, code_version, actor, at

-- name: save_run
-- An ended run is never changed: then no row comes back
INSERT INTO bindu_dspy.training_runs AS run (
    agent_id, id, optimizer, strategy, seed, state, outcome, reason, calls, candidate_id, experiment_id, details,
    started_at, ended_at
)
VALUES (
    :agent_id, :id, :optimizer, :strategy, :seed, :state, :outcome, :reason, :calls, :candidate_id, :experiment_id,
    :details::jsonb,
    coalesce(:started_at::timestamptz, :now::timestamptz, now()),
    CASE WHEN :state = 'ended' THEN coalesce(:ended_at::timestamptz, :now::timestamptz, now()) END
)
ON CONFLICT (agent_id, id) DO UPDATE
SET state = excluded.state,
    outcome = excluded.outcome,
    reason = excluded.reason,
    calls = excluded.calls,
    candidate_id = excluded.candidate_id,
    experiment_id = excluded.experiment_id,
    details = excluded.details,
    ended_at = excluded.ended_at
WHERE run.state = 'running'

-- name: bootstrap_prompt
-- One snapshot sees both the highest id and whether somebody serves: of many at once, one inserts and the others wait
INSERT INTO bindu_dspy.prompts (agent_id, id, prompt_text, content_hash, origin, created_at)
SELECT
    :agent_id::text,
    coalesce((SELECT max(id) FROM bindu_dspy.prompts WHERE agent_id = :agent_id), 0) + 1,
    :text::text,
    sha256(convert_to(:text, 'UTF8')),
    'bootstrap',
    coalesce(:now::timestamptz, now())
WHERE NOT EXISTS (SELECT FROM bindu_dspy.serving WHERE agent_id = :agent_id)
ON CONFLICT (agent_id, id) DO NOTHING
RETURNING id

-- name: bootstrap_serving
INSERT INTO bindu_dspy.serving (agent_id, active_id, candidate_share, version)
VALUES (:agent_id, :active_id, 0, 1)

-- name: insert_prompt
INSERT INTO bindu_dspy.prompts
    (agent_id, id, prompt_text, content_hash, status, parent_id, origin, metadata, created_at)
SELECT
    :agent_id::text,
    coalesce((SELECT max(id) FROM bindu_dspy.prompts WHERE agent_id = :agent_id), 0) + 1,
    :text::text,
    sha256(convert_to(:text, 'UTF8')),
    :status::text,
    :parent_id::integer,
    :origin::text,
    :metadata::jsonb,
    coalesce(:now::timestamptz, now())
ON CONFLICT (agent_id, id) DO NOTHING
RETURNING id

-- name: set_prompt_status
UPDATE bindu_dspy.prompts SET status = :status WHERE agent_id = :agent_id AND id = :prompt_id
RETURNING id
