-- Who may call the server and how tokens for browsers are signed, what users said without a vote, and who runs which
-- job of an agent.

CREATE TABLE bindu_dspy.api_keys (
    agent_id text NOT NULL CHECK (agent_id <> ''), -- whom it may act for; '*' is every agent
    id uuid NOT NULL,
    name text NOT NULL CHECK (name <> ''),
    digest bytea NOT NULL CHECK (octet_length(digest) = 32), -- SHA-256 of the key, which nobody stores
    scopes text[] NOT NULL CHECK (scopes <> '{}' AND scopes <@ ARRAY['select', 'write', 'operate', 'admin']),
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    PRIMARY KEY (agent_id, id),
    UNIQUE (agent_id, digest)
);

CREATE INDEX api_keys_by_digest ON bindu_dspy.api_keys (digest);

CREATE TABLE bindu_dspy.signing_keys (
    agent_id text PRIMARY KEY CHECK (agent_id <> ''),
    secret bytea NOT NULL CHECK (octet_length(secret) >= 32),
    created_at timestamptz NOT NULL
);

-- A comment or a correction of somebody who gave no vote. Without a foreign key: months of tasks are dropped whole
CREATE TABLE bindu_dspy.remarks (
    agent_id text NOT NULL CHECK (agent_id <> ''),
    task_id uuid NOT NULL,
    id uuid NOT NULL,
    rater_id text NOT NULL,
    comment text,
    correction text,
    idempotency_key text,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (agent_id, task_id, id),
    CHECK (comment IS NOT NULL OR correction IS NOT NULL)
);

CREATE UNIQUE INDEX remarks_idempotent ON bindu_dspy.remarks (agent_id, task_id, idempotency_key)
WHERE idempotency_key IS NOT NULL;

-- A job of an agent belongs to whoever holds its lease; the fence goes up with every holder
CREATE TABLE bindu_dspy.jobs (
    agent_id text NOT NULL CHECK (agent_id <> ''),
    name text NOT NULL CHECK (name <> ''),
    holder text, -- null while nobody runs it
    lease_until timestamptz,
    fence bigint NOT NULL DEFAULT 0 CHECK (fence >= 0),
    last_slot timestamptz, -- the scheduled time of the last run that ended
    last_outcome text,
    PRIMARY KEY (agent_id, name),
    CHECK ((holder IS NULL) = (lease_until IS NULL))
);

-- A caller of the proxy is known by the text that it sends
CREATE INDEX prompts_by_text ON bindu_dspy.prompts (content_hash);
