-- name: pulse
-- What a page has to be drawn anew for: four looks at the ends of indexes
SELECT
    s.version,
    (SELECT max(id) FROM bindu_dspy.decisions WHERE agent_id = :agent_id) AS decision_id,
    (
        SELECT id FROM bindu_dspy.task_feedback WHERE agent_id = :agent_id ORDER BY id DESC LIMIT 1
    ) AS vote_id,
    (
        SELECT coalesce(seen_at, started_at)
        FROM bindu_dspy.training_runs
        WHERE agent_id = :agent_id
        ORDER BY started_at DESC
        LIMIT 1
    ) AS run_seen_at
FROM bindu_dspy.serving AS s
WHERE s.agent_id = :agent_id

-- name: latest_votes
-- Newest first, each with the beginning of the question that was answered. Conversations may be megabytes: each is
-- unpacked once, however many votes it has, and only its last messages are looked through
WITH page AS MATERIALIZED (
    SELECT
        f.id, f.task_id, f.prompt_id, f.unit_id, f.rater_id, f.kind, f.score, f.created_at,
        f.superseded_by IS NULL AS counts,
        left(f.comment, :longest::integer) AS comment,
        left(f.feedback_data ->> 'correction', :longest::integer) AS correction
    FROM bindu_dspy.task_feedback AS f
    WHERE f.agent_id = :agent_id AND (:before::uuid IS NULL OR f.id < :before)
    ORDER BY f.id DESC
    LIMIT :limit
),

asked AS MATERIALIZED (
    SELECT p.task_id, q.question
    FROM (SELECT DISTINCT task_id FROM page) AS p
    CROSS JOIN LATERAL (
        SELECT left(coalesce(m.message ->> 'content', m.message #>> '{parts,0,text}'), :longest::integer) AS question
        FROM bindu_dspy.tasks AS t
        CROSS JOIN LATERAL
            jsonb_array_elements(jsonb_path_query_array(t.history, '$[last - 15 to last]'))
                WITH ORDINALITY AS m (message, place)
        WHERE t.agent_id = :agent_id AND t.id = p.task_id AND m.message ->> 'role' = 'user'
        ORDER BY m.place DESC
        LIMIT 1
    ) AS q
)

SELECT page.*, asked.question
FROM page
LEFT JOIN asked ON asked.task_id = page.task_id
ORDER BY page.id DESC

-- name: task
SELECT id, prompt_id, unit_id, context_id, state, history::text AS history, created_at, experiment_id
FROM bindu_dspy.tasks
WHERE agent_id = :agent_id AND id = :task_id::uuid
