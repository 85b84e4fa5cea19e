-- name: agent_ids
-- Lists agents: those that have a prompt, of all or of these
SELECT agent_id
FROM bindu_dspy.serving
WHERE :agent_ids::text[] IS NULL OR agent_id = ANY (:agent_ids)
ORDER BY agent_id

-- name: jobs
SELECT agent_id, name, holder, lease_until, fence, last_slot, last_outcome
FROM bindu_dspy.jobs
WHERE agent_id = :agent_id
ORDER BY name

-- name: enroll_job
INSERT INTO bindu_dspy.jobs (agent_id, name, last_slot)
VALUES (:agent_id, :name, :slot)
ON CONFLICT (agent_id, name) DO NOTHING
RETURNING name

-- name: claim_job
-- Whoever comes second skips the row instead of waiting for it
WITH free AS (
    SELECT agent_id, name
    FROM bindu_dspy.jobs
    WHERE agent_id = :agent_id
        AND name = :name
        AND last_slot < :slot
        AND (lease_until IS NULL OR lease_until <= coalesce(:now::timestamptz, now()))
    FOR UPDATE SKIP LOCKED
)
UPDATE bindu_dspy.jobs AS job
SET holder = :holder, lease_until = coalesce(:now::timestamptz, now()) + :lease::interval, fence = job.fence + 1
FROM free
WHERE job.agent_id = :agent_id AND job.agent_id = free.agent_id AND job.name = free.name
RETURNING job.agent_id, job.name, job.holder, job.lease_until, job.fence, job.last_slot, job.last_outcome

-- name: renew_job
-- Also a lease that has run out, as long as nobody else took the job
UPDATE bindu_dspy.jobs
SET lease_until = coalesce(:now::timestamptz, now()) + :lease::interval
WHERE agent_id = :agent_id AND name = :name AND holder = :holder AND fence = :fence
RETURNING name

-- name: finish_job
-- A slot never goes back; without one the job was left unfinished and is due at once
UPDATE bindu_dspy.jobs
SET holder = NULL,
    lease_until = NULL,
    last_slot = greatest(last_slot, :slot::timestamptz),
    last_outcome = :outcome
WHERE agent_id = :agent_id AND name = :name AND holder = :holder AND fence = :fence
RETURNING name
