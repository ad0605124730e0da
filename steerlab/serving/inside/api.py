"""NDIF's API with one question more: `DELETE /request/ID` ends a job, queued or running, which NDIF offers to its
operators alone (`ndif kill`). It sends the same event. Whoever knows a job's id may end it, as they may read it.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from fastapi import Depends, HTTPException
from ndif.common import redis as names
from ndif.common.providers.redis import RedisProvider
from ndif.services.api.app import app, require_ray_connection

PATIENCE = 10  # seconds for the event to be answered


@app.delete("/request/{job_id}", dependencies=[Depends(require_ray_connection)])  # type: ignore[untyped-decorator]
async def end(job_id: str) -> Any:
    """End a job. Answers NDIF's own words: removed_from_queue, cancelled_execution or not_found."""
    client, key = RedisProvider.async_client, f"steerlab:ended:{uuid.uuid4().hex}"
    event = {"event_type": names.EVENT_KILL, "request_id": job_id, "response_key": key}
    await client.xadd(names.EVENTS_STREAM, event, maxlen=64, approximate=True)
    answer = await client.brpop(key, timeout=PATIENCE)
    if answer is None:
        raise HTTPException(504, "The compute backend did not answer in time.")
    return json.loads(answer[1])
