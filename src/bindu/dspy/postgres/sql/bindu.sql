-- name: bindu_schemas
-- Where Bindu keeps an agent: those that have all its columns that we read
SELECT n.nspname AS schema
FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE NOT a.attisdropped
    AND c.relkind IN ('r', 'p', 'v')
    AND (c.relname, a.attname) IN (
        ('contexts', 'id'), ('tasks', 'id'), ('tasks', 'context_id'), ('tasks', 'state'), ('tasks', 'history'),
        ('tasks', 'created_at'), ('task_feedback', 'id'), ('task_feedback', 'task_id'),
        ('task_feedback', 'feedback_data'), ('task_feedback', 'created_at')
    )
GROUP BY n.nspname
HAVING count(*) = 10
ORDER BY n.nspname

-- name: bindu_enter
-- For this transaction; the names of Bindu's tables are told from ours by it alone
SELECT set_config('search_path', quote_ident(:schema::text), true)

-- name: bindu_tasks
SELECT id, context_id, state, history::text AS history, created_at
FROM tasks
WHERE (created_at, id) > (:after_time::timestamptz, :after_id::uuid)
ORDER BY created_at, id
LIMIT :limit

-- name: bindu_feedback
SELECT id, task_id, feedback_data::text AS feedback_data, created_at
FROM task_feedback
WHERE task_id = ANY (:task_ids::uuid[])
ORDER BY task_id, created_at, id
