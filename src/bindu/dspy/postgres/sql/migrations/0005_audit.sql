-- Who did what to an agent and why, each row chained to the one before; keys that may only look; and the newest votes.

CREATE TABLE bindu_dspy.audit (
    agent_id text NOT NULL CHECK (agent_id <> ''), -- '*' is what concerns every agent
    id integer NOT NULL CHECK (id > 0), -- counts up without a gap
    action text NOT NULL CHECK (action <> ''),
    subject text NOT NULL, -- what it was done to, such as 'prompt 3'
    actor text NOT NULL,
    reason text NOT NULL,
    details jsonb NOT NULL,
    at timestamptz NOT NULL,
    digest bytea NOT NULL CHECK (octet_length(digest) = 32), -- SHA-256 of the row before and this one
    PRIMARY KEY (agent_id, id)
);

-- What the next row's digest is: of all columns, so that none of them can change unnoticed
CREATE FUNCTION bindu_dspy.audit_digest(
    before bytea, agent_id text, id integer, action text, subject text, actor text, reason text, details jsonb,
    at timestamptz
) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(before || convert_to(jsonb_build_array(
        agent_id, id, action, subject, actor, reason, details, (extract(epoch FROM at) * 1000000)::bigint
    )::text, 'UTF8'))
$$;

ALTER TABLE bindu_dspy.api_keys
    DROP CONSTRAINT api_keys_scopes_check,
    ADD CONSTRAINT api_keys_scopes_check CHECK (
        scopes <> '{}' AND scopes <@ ARRAY['select', 'write', 'view', 'operate', 'admin']
    );

-- The newest votes of an agent, whatever month their task is of
CREATE INDEX task_feedback_newest ON bindu_dspy.task_feedback (agent_id, id);
