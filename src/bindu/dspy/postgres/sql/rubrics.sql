-- name: insert_rubric
-- As insert_prompt: of many at once that want a number one gets it, the others wait for that and get no row
INSERT INTO bindu_dspy.rubrics (agent_id, id, origin, rules, prompt_id, run_id, actor, reason, created_at)
SELECT
    :agent_id::text,
    coalesce((SELECT max(id) FROM bindu_dspy.rubrics WHERE agent_id = :agent_id), 0) + 1,
    :origin::text,
    :rules::jsonb,
    :prompt_id::integer,
    :run_id::uuid,
    :actor::text,
    :reason::text,
    coalesce(:now::timestamptz, now())
ON CONFLICT (agent_id, id) DO NOTHING
RETURNING agent_id, id, origin, rules, prompt_id, run_id, actor, reason, created_at

-- name: rubrics
SELECT agent_id, id, origin, rules, prompt_id, run_id, actor, reason, created_at
FROM bindu_dspy.rubrics
WHERE agent_id = :agent_id AND (:origin::text IS NULL OR origin = :origin)
ORDER BY id DESC
LIMIT :limit

-- name: standing_rubric
-- People's last word, if it was not to let theirs go
SELECT agent_id, id, origin, rules, prompt_id, run_id, actor, reason, created_at
FROM (
    SELECT *
    FROM bindu_dspy.rubrics
    WHERE agent_id = :agent_id AND origin <> 'induced'
    ORDER BY id DESC
    LIMIT 1
) AS last_word
WHERE origin = 'edited'
