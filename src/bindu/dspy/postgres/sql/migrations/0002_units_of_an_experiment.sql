-- What the evidence of an experiment is kept in. Columns that are null by default rewrite no table. Nothing is filled
-- in for experiments opened before: their rule reads none of it.

ALTER TABLE bindu_dspy.experiments
    ADD COLUMN paused boolean NOT NULL DEFAULT false,
    ADD COLUMN evidence jsonb, -- the state of the tests after closed_window
    ADD COLUMN closed_window integer CHECK (closed_window > 0); -- null before the first

ALTER TABLE bindu_dspy.units
    -- of the unit's first request
    ADD COLUMN first_task uuid,
    ADD COLUMN failed boolean,
    ADD COLUMN refused boolean,
    ADD COLUMN latency_ms double precision,
    ADD COLUMN cost double precision CHECK (cost >= 0),
    ADD COLUMN judged double precision CHECK (judged BETWEEN 0 AND 1),
    ADD COLUMN first_window integer CHECK (first_window > 0), -- in which it was taken into account
    -- of its first vote
    ADD COLUMN rated_at timestamptz,
    ADD COLUMN rater_id text,
    -- of the window that counted it
    ADD COLUMN kind text CHECK (kind IN ('rating', 'thumbs_up')),
    ADD COLUMN score double precision CHECK (score BETWEEN 0 AND 1), -- null when its rater had counted shortly before
    ADD CHECK ((rated_at IS NULL) = (rater_id IS NULL)),
    ADD CHECK ((counted_window IS NULL) = (kind IS NULL)),
    ADD CHECK (counted_window IS NULL OR rated_at IS NOT NULL),
    ADD CHECK (score IS NULL OR counted_window IS NOT NULL);

-- What arrived since the last window was closed: rows leave these two indexes when a window takes them in
CREATE INDEX units_new ON bindu_dspy.units (agent_id, experiment_id, first_at) WHERE first_window IS NULL;
CREATE INDEX units_rated ON bindu_dspy.units (agent_id, experiment_id, rated_at)
WHERE rated_at IS NOT NULL AND counted_window IS NULL;
CREATE INDEX units_counted ON bindu_dspy.units (agent_id, experiment_id, rater_id, rated_at)
WHERE score IS NOT NULL AND rater_id <> '';

ALTER TABLE bindu_dspy.decisions
    ADD COLUMN closed_window integer CHECK (closed_window > 0),
    ADD UNIQUE (agent_id, experiment_id, closed_window),
    DROP CONSTRAINT decisions_verdict_check,
    ADD CONSTRAINT decisions_verdict_check CHECK (verdict IN (
        'open', 'hold', 'step_up', 'step_down', 'won', 'ask', 'pause', 'resume', 'promote', 'roll_back'
    ));

CREATE INDEX decisions_share_changes ON bindu_dspy.decisions (agent_id, experiment_id, id)
WHERE verdict = 'open' OR share_before <> share_after;

ALTER TABLE bindu_dspy.task_feedback ADD COLUMN experiment_id integer; -- of its task

CREATE INDEX task_feedback_by_unit ON bindu_dspy.task_feedback (agent_id, experiment_id, unit_id)
WHERE experiment_id IS NOT NULL;
