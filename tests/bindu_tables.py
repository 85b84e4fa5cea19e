"""A database as Bindu 2026.9 makes it: its tables, and rows in the shape that its own code writes."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import asyncpg

SPACE = UUID(int=11)
CREATE = """
CREATE TABLE contexts (
    id UUID NOT NULL,
    context_data JSONB DEFAULT '{}' NOT NULL,
    message_history JSONB DEFAULT '[]',
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE tasks (
    id UUID NOT NULL,
    context_id UUID NOT NULL,
    kind VARCHAR(50) NOT NULL,
    state VARCHAR(50) NOT NULL,
    state_timestamp TIMESTAMP WITH TIME ZONE NOT NULL,
    history JSONB DEFAULT '[]' NOT NULL,
    artifacts JSONB DEFAULT '[]',
    metadata JSONB DEFAULT '{}',
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(context_id) REFERENCES contexts (id) ON DELETE CASCADE
);
CREATE INDEX idx_tasks_created_at ON tasks (created_at);
CREATE TABLE task_feedback (
    id SERIAL NOT NULL,
    task_id UUID NOT NULL,
    feedback_data JSONB NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(task_id) REFERENCES tasks (id) ON DELETE CASCADE
);
CREATE INDEX idx_task_feedback_task_id ON task_feedback (task_id);
"""


def message(role: str, *texts: str) -> dict[str, Any]:
    return {
        "role": role,
        "kind": "message",
        "parts": [{"kind": "text", "text": text} for text in texts],
        "message_id": str(uuid5(SPACE, "".join(texts))),
    }


class BinduDatabase:
    """Writes into one database, a schema per agent."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def run(self, schema: str, statement: str, *arguments: object) -> None:
        connection = await asyncpg.connect(self._url, server_settings={"search_path": f'"{schema}"'})
        try:
            await connection.execute(statement, *arguments)
        finally:
            await connection.close()

    async def create(self, schema: str = "public") -> None:
        await self.run(schema, f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        await self.run(schema, CREATE)

    async def talk(
        self,
        name: str,
        *history: dict[str, Any],
        at: datetime,
        schema: str = "public",
        context: str = "",
        state: str = "completed",
    ) -> UUID:
        """A task of that name, in the context of that name, by default one of its own."""
        task, its_context = uuid5(SPACE, name), uuid5(SPACE, f"context {context or name}")
        await self.run(schema, "INSERT INTO contexts (id) VALUES ($1) ON CONFLICT DO NOTHING", its_context)
        await self.run(
            schema,
            "INSERT INTO tasks (id, context_id, kind, state, state_timestamp, history, created_at) "
            "VALUES ($1, $2, 'task', $3, $4, $5::jsonb, $4)",
            *(task, its_context, state, at, json.dumps(history)),
        )
        return task

    async def rate(self, task: UUID, data: Any, *, at: datetime, schema: str = "public") -> None:
        await self.run(
            schema,
            "INSERT INTO task_feedback (task_id, feedback_data, created_at) VALUES ($1, $2::jsonb, $3)",
            *(task, json.dumps(data), at),
        )
