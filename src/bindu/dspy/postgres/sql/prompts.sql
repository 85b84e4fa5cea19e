-- name: now
SELECT now()

-- name: serving
-- One row per live prompt, each with the agent's serving row
SELECT
    s.version, s.candidate_share, s.experiment_id, coalesce(e.epoch, 0) AS epoch,
    p.id, p.text, p.status, p.traffic, p.parent_id, p.origin, p.metadata, p.created_at
FROM bindu_dspy.serving AS s
JOIN bindu_dspy.prompt_versions AS p ON p.agent_id = s.agent_id AND p.id IN (s.active_id, s.candidate_id)
LEFT JOIN bindu_dspy.experiments AS e ON e.agent_id = s.agent_id AND e.id = s.experiment_id
WHERE s.agent_id = :agent_id

-- name: serving_versions
SELECT agent_id, version FROM bindu_dspy.serving WHERE agent_id = ANY (:agent_ids::text[])

-- name: lock_serving
SELECT s.version, s.active_id, s.candidate_id, s.candidate_share, s.experiment_id, p.prompt_text AS active_text
FROM bindu_dspy.serving AS s
JOIN bindu_dspy.prompts AS p ON p.agent_id = s.agent_id AND p.id = s.active_id
WHERE s.agent_id = :agent_id
FOR UPDATE OF s

-- name: prompt
SELECT id, text, status, traffic, parent_id, origin, metadata, created_at
FROM bindu_dspy.prompt_versions
WHERE agent_id = :agent_id AND id = :prompt_id

-- name: prompts
SELECT id, text, status, traffic, parent_id, origin, metadata, created_at
FROM bindu_dspy.prompt_versions
WHERE agent_id = :agent_id
ORDER BY id

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

-- name: prompt_metrics
-- A task counts once however many raters it has. Prompt by prompt, so that both counts are index-only scans.
-- A vote dated after the caller's now counts, but is not yet the latest: it would stay newer than every step
SELECT asked.prompt_id, used.num_interactions, rated.num_rated, rated.average_score, rated.last_feedback_at
FROM unnest(:prompt_ids::integer[]) AS asked (prompt_id)
CROSS JOIN LATERAL (
    SELECT count(*) AS num_interactions
    FROM bindu_dspy.tasks
    WHERE agent_id = :agent_id AND prompt_id = asked.prompt_id
) AS used
CROSS JOIN LATERAL (
    SELECT count(*) AS num_rated, avg(score) AS average_score, max(last_at) AS last_feedback_at
    FROM (
        SELECT
            avg(score) AS score,
            max(created_at) FILTER (WHERE created_at <= coalesce(:now::timestamptz, now())) AS last_at
        FROM bindu_dspy.task_feedback
        WHERE agent_id = :agent_id AND prompt_id = asked.prompt_id AND superseded_by IS NULL
        GROUP BY task_id
    ) AS by_task
) AS rated

-- name: owners_of_text
-- Asked to know the agent, once per text
SELECT DISTINCT agent_id
FROM bindu_dspy.prompts
WHERE content_hash = :digest::bytea
LIMIT 2

-- name: prompt_of_text
SELECT max(id) AS id
FROM bindu_dspy.prompts
WHERE agent_id = :agent_id AND content_hash = :digest::bytea
