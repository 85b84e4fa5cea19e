-- name: add_key
INSERT INTO bindu_dspy.api_keys (agent_id, id, name, digest, scopes, created_at, expires_at)
VALUES (
    :agent_id, :id::uuid, :name, :digest::bytea, :scopes::text[], coalesce(:now::timestamptz, now()),
    :expires_at::timestamptz
)
RETURNING agent_id, id, name, scopes, created_at, expires_at, revoked_at

-- name: find_key
-- Asked before anybody knows for which agent
SELECT agent_id, id, name, scopes, created_at, expires_at, revoked_at
FROM bindu_dspy.api_keys
WHERE digest = :digest::bytea
    AND revoked_at IS NULL
    AND (expires_at IS NULL OR expires_at > now())
LIMIT 1

-- name: keys
SELECT agent_id, id, name, scopes, created_at, expires_at, revoked_at
FROM bindu_dspy.api_keys
WHERE agent_id = :agent_id
ORDER BY id

-- name: key
SELECT agent_id, id, name, scopes, created_at, expires_at, revoked_at
FROM bindu_dspy.api_keys
WHERE agent_id = :agent_id AND id = :id::uuid
FOR UPDATE

-- name: revoke_key
UPDATE bindu_dspy.api_keys
SET revoked_at = coalesce(:now::timestamptz, now())
WHERE agent_id = :agent_id AND id = :id::uuid
RETURNING agent_id, id, name, scopes, created_at, expires_at, revoked_at

-- name: propose_secret
INSERT INTO bindu_dspy.signing_keys (agent_id, secret, created_at)
VALUES (:agent_id, :secret::bytea, now())
ON CONFLICT (agent_id) DO NOTHING

-- name: signing_secret
SELECT secret FROM bindu_dspy.signing_keys WHERE agent_id = :agent_id
