-- Every table starts with agent_id, so that it can be distributed by it; foreign keys stay inside an agent.

CREATE TABLE bindu_dspy.prompts (
    agent_id text NOT NULL CHECK (agent_id <> ''),
    id integer NOT NULL CHECK (id > 0),
    prompt_text text NOT NULL CHECK (prompt_text <> ''),
    content_hash bytea NOT NULL CHECK (content_hash = sha256(convert_to(prompt_text, 'UTF8'))),
    status text CHECK (status IN ('deprecated', 'rolled_back')), -- null while live: serving says which
    parent_id integer,
    origin text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    PRIMARY KEY (agent_id, id),
    FOREIGN KEY (agent_id, parent_id) REFERENCES bindu_dspy.prompts (agent_id, id)
);

CREATE TABLE bindu_dspy.experiments (
    agent_id text NOT NULL,
    id integer NOT NULL CHECK (id > 0),
    active_id integer NOT NULL,
    candidate_id integer NOT NULL,
    policy jsonb NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'ended')),
    outcome text CHECK (outcome IN ('promoted', 'rolled_back', 'inconclusive')),
    reason text,
    epoch integer NOT NULL CHECK (epoch >= 0), -- of the shares: goes up when they change
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    PRIMARY KEY (agent_id, id),
    UNIQUE (agent_id, candidate_id),
    CHECK (active_id <> candidate_id),
    CHECK ((state = 'ended') = (outcome IS NOT NULL)),
    CHECK ((state = 'ended') = (ended_at IS NOT NULL)),
    FOREIGN KEY (agent_id, active_id) REFERENCES bindu_dspy.prompts (agent_id, id),
    FOREIGN KEY (agent_id, candidate_id) REFERENCES bindu_dspy.prompts (agent_id, id)
);

CREATE UNIQUE INDEX experiments_one_running ON bindu_dspy.experiments (agent_id) WHERE state = 'running';

-- One row per agent: the shares sum to one and at most two prompts are live by construction
CREATE TABLE bindu_dspy.serving (
    agent_id text PRIMARY KEY,
    active_id integer NOT NULL,
    candidate_id integer,
    candidate_share double precision NOT NULL CHECK (candidate_share BETWEEN 0 AND 1),
    experiment_id integer,
    version bigint NOT NULL CHECK (version > 0),
    CHECK (active_id <> candidate_id),
    CHECK ((candidate_id IS NULL) = (candidate_share = 0)),
    CHECK ((candidate_id IS NULL) = (experiment_id IS NULL)),
    FOREIGN KEY (agent_id, active_id) REFERENCES bindu_dspy.prompts (agent_id, id),
    FOREIGN KEY (agent_id, candidate_id) REFERENCES bindu_dspy.prompts (agent_id, id),
    FOREIGN KEY (agent_id, experiment_id) REFERENCES bindu_dspy.experiments (agent_id, id)
);

-- What readers see of a prompt: its status and traffic in the specification's words
CREATE VIEW bindu_dspy.prompt_versions AS
SELECT
    p.agent_id,
    p.id,
    p.prompt_text AS text,
    CASE p.id WHEN s.active_id THEN 'active' WHEN s.candidate_id THEN 'candidate' ELSE p.status END AS status,
    CASE p.id WHEN s.active_id THEN 1 - s.candidate_share WHEN s.candidate_id THEN s.candidate_share ELSE 0 END
        AS traffic,
    p.parent_id,
    p.origin,
    p.metadata,
    p.created_at
FROM bindu_dspy.prompts AS p
LEFT JOIN bindu_dspy.serving AS s ON s.agent_id = p.agent_id;

CREATE TABLE bindu_dspy.decisions (
    agent_id text NOT NULL,
    id integer NOT NULL CHECK (id > 0),
    experiment_id integer NOT NULL,
    "window" integer NOT NULL CHECK ("window" >= 0),
    verdict text NOT NULL CHECK (verdict IN ('open', 'hold', 'step_up', 'step_down', 'promote', 'roll_back')),
    share_before double precision NOT NULL CHECK (share_before BETWEEN 0 AND 1),
    share_after double precision NOT NULL CHECK (share_after BETWEEN 0 AND 1),
    reason text NOT NULL,
    inputs jsonb NOT NULL,
    evidence jsonb NOT NULL,
    rule text NOT NULL,
    rule_version integer NOT NULL,
    code_version text NOT NULL,
    actor text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (agent_id, id),
    UNIQUE (agent_id, experiment_id, "window"),
    FOREIGN KEY (agent_id, experiment_id) REFERENCES bindu_dspy.experiments (agent_id, id)
);

CREATE TABLE bindu_dspy.tasks (
    agent_id text NOT NULL,
    id uuid NOT NULL, -- version 7, so that its month is a range
    prompt_id integer NOT NULL,
    experiment_id integer,
    epoch integer,
    unit_id text NOT NULL,
    context_id text,
    state text NOT NULL CHECK (
        state IN ('submitted', 'working', 'input-required', 'completed', 'canceled', 'failed', 'rejected')
    ),
    history jsonb NOT NULL CHECK (jsonb_typeof(history) = 'array'),
    usage jsonb,
    latency_ms double precision,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (agent_id, id),
    CHECK ((experiment_id IS NULL) = (epoch IS NULL)),
    FOREIGN KEY (agent_id, prompt_id) REFERENCES bindu_dspy.prompts (agent_id, id),
    FOREIGN KEY (agent_id, experiment_id) REFERENCES bindu_dspy.experiments (agent_id, id)
) PARTITION BY RANGE (id);

CREATE INDEX tasks_by_prompt ON bindu_dspy.tasks (agent_id, prompt_id);
CREATE INDEX tasks_by_context ON bindu_dspy.tasks (agent_id, context_id, id) WHERE context_id IS NOT NULL;

-- Every vote ever given; the ones that count are those that nothing superseded
CREATE TABLE bindu_dspy.task_feedback (
    agent_id text NOT NULL,
    task_id uuid NOT NULL,
    id uuid NOT NULL,
    prompt_id integer NOT NULL,
    unit_id text NOT NULL,
    rater_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('rating', 'thumbs_up')),
    score double precision NOT NULL CHECK (score BETWEEN 0 AND 1),
    feedback_data jsonb NOT NULL,
    comment text,
    idempotency_key text,
    superseded_by uuid CHECK (superseded_by <> id),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (agent_id, task_id, id),
    FOREIGN KEY (agent_id, task_id) REFERENCES bindu_dspy.tasks (agent_id, id)
) PARTITION BY RANGE (task_id);

CREATE UNIQUE INDEX task_feedback_current ON bindu_dspy.task_feedback (agent_id, task_id, rater_id)
WHERE superseded_by IS NULL;
CREATE UNIQUE INDEX task_feedback_idempotent ON bindu_dspy.task_feedback (agent_id, task_id, idempotency_key)
WHERE idempotency_key IS NOT NULL;
-- Prompt metrics read nothing but this index, task by task without sorting
CREATE INDEX task_feedback_by_prompt ON bindu_dspy.task_feedback (agent_id, prompt_id, task_id)
INCLUDE (score, created_at) WHERE superseded_by IS NULL;

CREATE TABLE bindu_dspy.units (
    agent_id text NOT NULL,
    experiment_id integer NOT NULL,
    unit_id text NOT NULL,
    arm text NOT NULL CHECK (arm IN ('active', 'candidate')),
    epoch integer NOT NULL CHECK (epoch >= 0),
    first_at timestamptz NOT NULL,
    counted_window integer CHECK (counted_window >= 0),
    PRIMARY KEY (agent_id, experiment_id, unit_id),
    FOREIGN KEY (agent_id, experiment_id) REFERENCES bindu_dspy.experiments (agent_id, id)
);

-- Not partitioned, so that a caller's id is unique over all months
CREATE TABLE bindu_dspy.task_keys (
    agent_id text NOT NULL,
    external_id text NOT NULL,
    task_id uuid NOT NULL,
    PRIMARY KEY (agent_id, external_id)
);

CREATE TABLE bindu_dspy.training_runs (
    agent_id text NOT NULL CHECK (agent_id <> ''),
    id uuid NOT NULL,
    optimizer text NOT NULL,
    strategy text NOT NULL,
    seed bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'ended')),
    outcome text CHECK (outcome IN ('improved', 'unchanged', 'worse', 'refused', 'aborted')),
    reason text,
    calls integer NOT NULL CHECK (calls >= 0),
    candidate_id integer,
    experiment_id integer,
    details jsonb NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    PRIMARY KEY (agent_id, id),
    CHECK ((state = 'ended') = (outcome IS NOT NULL)),
    CHECK ((state = 'ended') = (ended_at IS NOT NULL)),
    FOREIGN KEY (agent_id, candidate_id) REFERENCES bindu_dspy.prompts (agent_id, id),
    FOREIGN KEY (agent_id, experiment_id) REFERENCES bindu_dspy.experiments (agent_id, id)
);

CREATE INDEX training_runs_newest ON bindu_dspy.training_runs (agent_id, started_at);
