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
RETURNING agent_id, id, active_id, candidate_id, policy, state, outcome, reason, epoch, paused, started_at, ended_at

-- name: next_epoch
UPDATE bindu_dspy.experiments SET epoch = epoch + 1 WHERE agent_id = :agent_id AND id = :experiment_id

-- name: pause_experiment
UPDATE bindu_dspy.experiments SET paused = :paused WHERE agent_id = :agent_id AND id = :experiment_id

-- name: end_experiment
UPDATE bindu_dspy.experiments
SET state = 'ended', outcome = :outcome, reason = :reason, ended_at = coalesce(:now::timestamptz, now())
WHERE agent_id = :agent_id AND id = :experiment_id

-- name: experiment
SELECT agent_id, id, active_id, candidate_id, policy, state, outcome, reason, epoch, paused, started_at, ended_at
FROM bindu_dspy.experiments
WHERE agent_id = :agent_id AND id = :experiment_id

-- name: experiments
SELECT agent_id, id, active_id, candidate_id, policy, state, outcome, reason, epoch, paused, started_at, ended_at
FROM bindu_dspy.experiments
WHERE agent_id = :agent_id
ORDER BY id DESC
LIMIT :limit

-- name: insert_decision
INSERT INTO bindu_dspy.decisions (
    agent_id, id, experiment_id, "window", verdict, share_before, share_after, reason, inputs, evidence,
    rule, rule_version, code_version, actor, at, closed_window
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
    coalesce(:now::timestamptz, now()),
    :closed_window::integer
RETURNING
    agent_id, id, experiment_id, "window", verdict, share_before, share_after, reason, inputs, evidence,
    rule, rule_version, code_version, actor, at, closed_window

-- name: decisions
SELECT
    agent_id, id, experiment_id, "window", verdict, share_before, share_after, reason, inputs, evidence,
    rule, rule_version, code_version, actor, at, closed_window
FROM bindu_dspy.decisions
WHERE agent_id = :agent_id
    AND (:experiment_id::integer IS NULL OR experiment_id = :experiment_id)
    AND (:before::integer IS NULL OR id < :before)
ORDER BY id DESC
LIMIT :limit

-- name: decision
SELECT
    agent_id, id, experiment_id, "window", verdict, share_before, share_after, reason, inputs, evidence,
    rule, rule_version, code_version, actor, at, closed_window
FROM bindu_dspy.decisions
WHERE agent_id = :agent_id AND id = :decision_id

-- name: band
-- Without the inputs, which are most of a decision
SELECT
    d.id AS decision_id,
    d.at,
    d.verdict,
    d.share_after AS share,
    d.closed_window AS "window",
    (d.evidence ->> 'estimate')::double precision AS estimate,
    (d.evidence ->> 'low')::double precision AS low,
    (d.evidence ->> 'high')::double precision AS high
FROM bindu_dspy.decisions AS d
WHERE d.agent_id = :agent_id AND d.experiment_id = :experiment_id
ORDER BY d."window" DESC
LIMIT :limit
