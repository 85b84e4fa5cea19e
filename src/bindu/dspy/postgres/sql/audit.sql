-- name: lock_audit
-- One row after the other, or two of them would follow the same one; held until the transaction ends
SELECT pg_advisory_xact_lock(hashtextextended('bindu_dspy.audit ' || :agent_id::text, 0))

-- name: add_audit
INSERT INTO bindu_dspy.audit (agent_id, id, action, subject, actor, reason, details, at, digest)
SELECT
    entry.*,
    bindu_dspy.audit_digest(
        coalesce(
            (SELECT digest FROM bindu_dspy.audit WHERE agent_id = :agent_id ORDER BY id DESC LIMIT 1), ''::bytea
        ),
        entry.agent_id, entry.id, entry.action, entry.subject, entry.actor, entry.reason, entry.details, entry.at
    )
FROM (
    SELECT
        :agent_id::text AS agent_id,
        coalesce((SELECT max(id) FROM bindu_dspy.audit WHERE agent_id = :agent_id), 0) + 1 AS id,
        :action::text AS action,
        :subject::text AS subject,
        :actor::text AS actor,
        :reason::text AS reason,
        :details::jsonb AS details,
        coalesce(:now::timestamptz, now()) AS at
) AS entry

-- name: audit
SELECT agent_id, id, action, subject, actor, reason, details, at, encode(digest, 'hex') AS digest
FROM bindu_dspy.audit
WHERE agent_id = :agent_id AND (:before::integer IS NULL OR id < :before)
ORDER BY id DESC
LIMIT :limit

-- name: audit_entry
SELECT agent_id, id, action, subject, actor, reason, details, at, encode(digest, 'hex') AS digest
FROM bindu_dspy.audit
WHERE agent_id = :agent_id AND id = :id

-- name: audit_trail
-- The count, the last number, and the first row that does not follow from the one before it
SELECT
    count(*) AS entries,
    coalesce(max(id), 0) AS last_id,
    min(id) FILTER (WHERE id <> place OR digest <> follows) AS broken
FROM (
    SELECT
        id,
        row_number() OVER trail AS place,
        digest,
        bindu_dspy.audit_digest(
            coalesce(lag(digest) OVER trail, ''::bytea), agent_id, id, action, subject, actor, reason, details, at
        ) AS follows
    FROM bindu_dspy.audit
    WHERE agent_id = :agent_id
    WINDOW trail AS (ORDER BY id)
) AS chained
