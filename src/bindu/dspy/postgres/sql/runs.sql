-- name: save_run
-- An ended run is never changed: then no row comes back
INSERT INTO bindu_dspy.training_runs AS run (
    agent_id, id, optimizer, strategy, seed, state, outcome, reason, step, calls, cost, candidate_id, experiment_id,
    resumes, details, seen_at, started_at, ended_at
)
VALUES (
    :agent_id, :id, :optimizer, :strategy, :seed, :state, :outcome, :reason, :step, :calls, :cost, :candidate_id,
    :experiment_id, :resumes, :details::jsonb,
    coalesce(:now::timestamptz, now()),
    coalesce(:started_at::timestamptz, :now::timestamptz, now()),
    CASE WHEN :state = 'ended' THEN coalesce(:ended_at::timestamptz, :now::timestamptz, now()) END
)
ON CONFLICT (agent_id, id) DO UPDATE
SET state = excluded.state,
    outcome = excluded.outcome,
    reason = excluded.reason,
    step = excluded.step,
    calls = excluded.calls,
    cost = excluded.cost,
    candidate_id = excluded.candidate_id,
    experiment_id = excluded.experiment_id,
    resumes = excluded.resumes,
    details = excluded.details,
    seen_at = excluded.seen_at,
    ended_at = excluded.ended_at
WHERE run.state = 'running'
RETURNING
    agent_id, id, optimizer, strategy, seed, state, outcome, reason, step, calls, cost, candidate_id, experiment_id,
    resumes, cancel_reason, details, seen_at, started_at, ended_at

-- name: improve_run
-- One that was asked to stop opens no experiment
UPDATE bindu_dspy.training_runs
SET state = 'ended',
    outcome = 'improved',
    candidate_id = :candidate_id,
    experiment_id = :experiment_id,
    ended_at = coalesce(:now::timestamptz, now())
WHERE agent_id = :agent_id AND id = :run_id AND state = 'running' AND cancel_reason IS NULL
RETURNING id

-- name: cancel_run
-- The first reason stays: no row comes back for a run that was asked before, or has ended
UPDATE bindu_dspy.training_runs
SET cancel_reason = :reason
WHERE agent_id = :agent_id AND id = :run_id AND state = 'running' AND cancel_reason IS NULL
RETURNING
    agent_id, id, optimizer, strategy, seed, state, outcome, reason, step, calls, cost, candidate_id, experiment_id,
    resumes, cancel_reason, details, seen_at, started_at, ended_at

-- name: end_lost_runs
-- A sign of life that is given meanwhile counts: the condition is looked at again when its row is free
UPDATE bindu_dspy.training_runs
SET state = 'ended', outcome = 'aborted', reason = :reason, ended_at = coalesce(:now::timestamptz, now())
WHERE agent_id = :agent_id
    AND state = 'running'
    AND (:run_id::uuid IS NULL OR id = :run_id)
    AND coalesce(seen_at, started_at) < coalesce(:now::timestamptz, now()) - :silent_for::interval
RETURNING id

-- name: runs
SELECT
    agent_id, id, optimizer, strategy, seed, state, outcome, reason, step, calls, cost, candidate_id, experiment_id,
    resumes, cancel_reason, details, seen_at, started_at, ended_at
FROM bindu_dspy.training_runs
WHERE agent_id = :agent_id
ORDER BY started_at DESC, id DESC
LIMIT :limit

-- name: runs_between
-- Ids begin with their time, so the newest of a range are its last
SELECT
    agent_id, id, optimizer, strategy, seed, state, outcome, reason, step, calls, cost, candidate_id, experiment_id,
    resumes, cancel_reason, details, seen_at, started_at, ended_at
FROM bindu_dspy.training_runs
WHERE agent_id = :agent_id AND id BETWEEN :first_id AND :last_id
ORDER BY id DESC
LIMIT :limit

-- name: spent_conversations
SELECT DISTINCT accept.name
FROM bindu_dspy.training_runs AS run
CROSS JOIN LATERAL jsonb_array_elements_text(run.details -> 'accept') AS accept (name)
WHERE run.agent_id = :agent_id

-- name: gate_record
-- From the newest run that opened an experiment on. A rule's last decision carries what the experiment ended with; a
-- person's word, which may come after it, carries no evidence
SELECT
    tried.experiment_id,
    tried.predicted,
    (
        SELECT coalesce(d.evidence ->> 'estimate', d.evidence ->> 'difference')::double precision
        FROM bindu_dspy.decisions AS d
        WHERE d.agent_id = :agent_id AND d.experiment_id = tried.experiment_id AND d.rule <> 'manual'
        ORDER BY d."window" DESC
        LIMIT 1
    ) AS observed
FROM (
    SELECT run.experiment_id, (run.details #>> '{gate,gain}')::double precision AS predicted
    FROM bindu_dspy.training_runs AS run
    JOIN bindu_dspy.experiments AS e ON e.agent_id = run.agent_id AND e.id = run.experiment_id
    WHERE run.agent_id = :agent_id
        AND run.experiment_id IS NOT NULL
        AND jsonb_typeof(run.details #> '{gate,gain}') = 'number'
        AND e.state = 'ended'
    ORDER BY run.experiment_id DESC
    LIMIT :limit
) AS tried
ORDER BY tried.experiment_id DESC
