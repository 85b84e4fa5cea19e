-- name: announce
-- Delivered when the transaction commits, to every session that listens. Longer ids do not fit into a notice: polls
-- find those. '' names no agent: it is how a listener calls itself
SELECT pg_notify(:channel::text, :agent_id::text) WHERE octet_length(:agent_id::text) < 8000
