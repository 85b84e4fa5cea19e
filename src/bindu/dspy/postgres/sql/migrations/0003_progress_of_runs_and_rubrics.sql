-- What a run tells while it works and what people may ask of it; then the rubrics, as training induced them and people
-- edited and released them. Columns that are null or constant by default rewrite no table.

ALTER TABLE bindu_dspy.training_runs
    ADD COLUMN step text, -- what it is doing now, for people
    ADD COLUMN cost double precision NOT NULL DEFAULT 0 CHECK (cost >= 0 AND cost < 'Infinity'), -- US dollars
    ADD COLUMN seen_at timestamptz, -- its last sign of life; null in runs of older code, which gives none
    ADD COLUMN cancel_reason text, -- a person asked it to stop
    ADD COLUMN resumes uuid; -- the earlier run whose work it continues; its work may outlive its row

-- Of the runs that opened an experiment. No column of it changes while a run tells how far it is
CREATE INDEX training_runs_tried ON bindu_dspy.training_runs (agent_id, experiment_id) WHERE experiment_id IS NOT NULL;

CREATE TABLE bindu_dspy.rubrics (
    agent_id text NOT NULL CHECK (agent_id <> ''),
    id integer NOT NULL CHECK (id > 0), -- in the order in which they were stored
    origin text NOT NULL CHECK (origin IN ('induced', 'edited', 'released')), -- released: the edited one is not kept
    rules jsonb NOT NULL CHECK (jsonb_typeof(rules) = 'array'), -- of {"rule", "task_ids"}
    prompt_id integer, -- whose instructions they add to
    run_id uuid, -- that induced them
    actor text NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (agent_id, id),
    FOREIGN KEY (agent_id, prompt_id) REFERENCES bindu_dspy.prompts (agent_id, id),
    FOREIGN KEY (agent_id, run_id) REFERENCES bindu_dspy.training_runs (agent_id, id)
);
